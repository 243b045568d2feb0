"""Corpora: computational sequences, alignment, the aligned file, formats, downloads."""
