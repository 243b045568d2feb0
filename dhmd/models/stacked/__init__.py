"""The fast engine: all seeds of a model train side by side on a leading axis."""
