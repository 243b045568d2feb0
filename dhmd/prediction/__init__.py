"""Prediction of new utterances from a model directory alone."""
