"""A trained model applied to new computational sequences, from its model folder alone."""

from dhmd.prediction.job import Predicted, predict_folder

__all__ = ["Predicted", "predict_folder"]
