"""The regression gate: compare the committed metrics of two revisions."""
