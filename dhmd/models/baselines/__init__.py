"""Models that DHMD is compared with, one file per model.

docs/extend.md describes how to add one.
"""
