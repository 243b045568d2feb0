"""What `params.yaml` may say of the gate: section `gate`, which changes no result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class AcceptConfig:
    """One accepted change of data, protocol or margins, named by the identities on both sides."""

    dataset: str = field(default="", metadata={"help": "the dataset whose change is accepted"})
    from_: str = field(
        default="", metadata={"key": "from", "help": "identity in the base, as the gate prints it"}
    )
    to: str = field(default="", metadata={"help": "identity in the head, as the gate prints it"})
    reason: str = field(default="", metadata={"help": "why, for the reviewer"})


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
