"""Metrics as the field computes them, and the tables that `metrics/<dataset>/` holds.

`metrics`, `bootstrap`, `statistics`, `files` and `identity` are plain numpy, so that the gate can
use them; `job` reads model folders and the aligned cache and writes the whole folder.
"""
