"""Section `tracking` of params.yaml. No stage depends on it: it changes no result."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where MLflow's runs go, if anywhere."""

    enabled: bool = field(
        default=True, metadata={"help": "record runs in MLflow; false needs no mlflow installed"}
    )
    uri: str | None = field(
        default=None,
        metadata={
            "help": "the tracking store; null means the environment's MLFLOW_TRACKING_URI, and "
            "without that sqlite:///mlflow.db at the repository's root"
        },
    )
    experiment: str = field(default="dhmd", metadata={"help": "the MLflow experiment's name"})
