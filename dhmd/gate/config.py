"""What `params.yaml` may say of the gate: section `gate`, which changes no result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class AcceptConfig:
    """One accepted change of data, protocol or margins, named by the identities on both sides."""

    dataset: str = field(metadata={"help": "the dataset whose change is accepted"})
    from_: str = field(
        metadata={"key": "from", "help": "identity in the base, as the gate prints it"}
    )
    to: str = field(metadata={"help": "identity in the head, as the gate prints it"})
    reason: str = field(metadata={"help": "why, for the reviewer"})

    def __post_init__(self) -> None:
        for key, value in (
            ("dataset", self.dataset),
            ("from", self.from_),
            ("to", self.to),
            ("reason", self.reason),
        ):
            if not value.strip():
                raise ValueError(f"{key} is empty, but an accepted change must say it")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Section `gate`."""

    metrics: tuple[str, ...] = field(
        default=("mae", "corr", "f1"),
        metadata={"help": "gated metrics, each where the dataset's task has it; few are better"},
    )
    margins: Mapping[str, float] = field(
        default_factory=lambda: {"mae": 0.02, "corr": 0.02, "f1": 0.02},
        metadata={
            "exclusive_min": 0.0,
            "help": "largest mean loss that passes, by metric: about one standard deviation of "
            "the paired difference between two trainings that differ in nothing",
        },
    )
    datasets: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict,
        metadata={
            "exclusive_min": 0.0,
            "help": "margins of one dataset where they differ: {dataset: {metric: margin}}",
        },
    )
    accept: tuple[AcceptConfig, ...] = field(
        default=(),
        metadata={
            "help": "accepted changes of data, protocol or margins: dataset, from, to, reason"
        },
    )
    resamples: int = field(
        default=1000,
        metadata={"min": 100, "help": "bootstrap resamples of the interval over utterances"},
    )

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("metrics is empty, but a gate without a metric lets everything pass")
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
        """The margin of each gated metric for `dataset`."""
        own = self.datasets.get(dataset, {})
        return {metric: own.get(metric, self.margins[metric]) for metric in self.metrics}
