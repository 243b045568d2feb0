"""Training: members in one process, length buckets, selection on validation, resume."""
