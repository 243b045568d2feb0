"""Studies over many generated corpora: what may be concluded about the method."""
