"""Corpora: downloads, computational sequences, alignment, import, the aligned features file."""
