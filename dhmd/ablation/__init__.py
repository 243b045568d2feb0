"""Ablations and baselines: named overlays of the settings, trained beside the full model."""
