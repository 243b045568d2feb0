"""Predict and explain new utterances with nothing but a model directory."""
