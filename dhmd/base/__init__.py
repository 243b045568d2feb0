"""Shared basics without numbers: errors, files written whole, progress, the machine."""
