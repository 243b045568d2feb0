"""The settings of the regression gate: section `gate` of params.yaml. They change no result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated

from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG

Margins = Mapping[str, PositiveFloat]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class AcceptConfig:
    """One accepted change of data, protocol or margins."""

    dataset: str
    from_: Annotated[str, Field(alias="from")]  # identity in the base, as the gate prints it
    to: str  # identity in the head, as the gate prints it
    reason: str  # why, for the reviewer

    def __post_init__(self) -> None:
        for key in ("dataset", "from_", "to", "reason"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key.rstrip('_')} is empty, but an accepted change needs it")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class GateConfig:
    """Section `gate`."""

    # Gated metrics, each where the dataset's task has it; few are better.
    metrics: tuple[str, ...] = ("mae", "corr", "f1")
    # Largest mean deterioration that passes: about one standard deviation of the paired difference
    # between two identical trainings.
    margins: Margins = field(default_factory=lambda: {"mae": 0.02, "corr": 0.02, "f1": 0.02})
    # Margins of single datasets, where they differ.
    datasets: Mapping[str, Margins] = field(default_factory=dict)
    accept: tuple[AcceptConfig, ...] = ()
    resamples: Annotated[int, Field(ge=100)] = 1000  # of the bootstrap over utterances

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("metrics is empty, but a gate without a metric passes everything")
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics {list(self.metrics)} names one twice")
        for metric in self.metrics:
            if metric not in self.margins:
                raise ValueError(f"margins has no {metric}, but metrics names it")
        for dataset, margins in self.datasets.items():
            for metric in margins:
                if metric not in self.metrics:
                    raise ValueError(
                        f"datasets.{dataset}.{metric} is a margin, but metrics does not name it"
                    )

    def gated(self, dataset: str) -> dict[str, float]:
        """Return the margin of each gated metric for `dataset`."""
        own = self.datasets.get(dataset, {})
        return {metric: own.get(metric, self.margins[metric]) for metric in self.metrics}
