"""The settings of MLflow tracking: section `tracking` of params.yaml. They change no result."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class TrackingConfig:
    """Section `tracking`."""

    enabled: bool = True  # record runs; False needs no mlflow installed
    uri: str | None = None  # None: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the repository
    experiment: str = "dhmd"  # the MLflow experiment's name
