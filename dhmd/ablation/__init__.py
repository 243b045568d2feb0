"""Ablations and baselines: named changes of the settings, trained beside the full model."""
