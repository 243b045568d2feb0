"""Shared utilities: errors, atomic file writes, safe HDF5 access, progress bars, the machine."""
