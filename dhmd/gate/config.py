"""The settings of the regression gate: section `gate` of params.yaml. No stage depends on them."""

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
    reason: str  # explanation for the reviewer

    def __post_init__(self) -> None:
        for key in ("dataset", "from_", "to", "reason"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key.rstrip('_')} is empty, but an accepted change must have it")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class GateConfig:
    """Section `gate`."""

    # Gated metrics, where the task of the dataset has them. More metrics cause more false alarms.
    metrics: tuple[str, ...] = ("mae", "corr", "f1")
    # Largest mean deterioration that passes. A good value is one standard deviation of the paired
    # difference between two trainings of the same model.
    margins: Margins = field(default_factory=lambda: {"mae": 0.02, "corr": 0.02, "f1": 0.02})
    # Margins of single datasets, where they differ from `margins`.
    datasets: Mapping[str, Margins] = field(default_factory=dict)
    accept: tuple[AcceptConfig, ...] = ()
    resamples: Annotated[int, Field(ge=100)] = 1000  # number of bootstrap resamples of the videos

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("metrics is empty, but a gate without a metric passes everything")
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics is {list(self.metrics)}, but must name each metric once")
        for metric in self.metrics:
            if metric not in self.margins:
                raise ValueError(f"margins has no {metric}, but metrics names {metric}")
        for dataset, margins in self.datasets.items():
            for metric in margins:
                if metric not in self.metrics:
                    raise ValueError(
                        f"datasets.{dataset}.{metric} is a margin, but metrics does not name "
                        f"{metric}"
                    )

    def margins_of(self, dataset: str) -> dict[str, float]:
        """Return the margin of each gated metric for `dataset`."""
        margins = {**self.margins, **self.datasets.get(dataset, {})}
        return {metric: margins[metric] for metric in self.metrics}
