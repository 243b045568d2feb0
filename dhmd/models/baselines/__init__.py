"""Models to compare with, one file per model; `dhmd.models.registry` finds them by their name.

docs/extend.md describes how to add one.
"""
