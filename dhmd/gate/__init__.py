"""Stops regressions: compares the committed metrics of two revisions, and checks the lock."""
