"""Experiment tracking with MLflow, at the edge: training never waits for it or fails by it."""

from dhmd.tracking.config import TrackingConfig
from dhmd.tracking.tracker import open_test_log, open_tracker

__all__ = ["TrackingConfig", "open_test_log", "open_tracker"]
