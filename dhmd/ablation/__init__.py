"""Ablations and baselines: variants of the full model, each a named set of changed settings."""
