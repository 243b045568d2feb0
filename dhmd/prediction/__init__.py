"""Prediction of new computational sequences from a model directory alone."""

from dhmd.prediction.job import Predicted, predict_folder

__all__ = ["Predicted", "predict_folder"]
