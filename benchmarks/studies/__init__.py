"""Studies that take many trainings, most of them on generated corpora."""
