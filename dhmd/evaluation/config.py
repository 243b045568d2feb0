"""What `params.yaml` may say of evaluation: section `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Section `evaluate`."""

    resamples: int = field(
        default=1000,
        metadata={
            "min": 100,
            "help": "bootstrap resamples of the test videos for the intervals over utterances",
        },
    )
    ridge_alphas: tuple[float, ...] = field(
        default=(1.0, 10.0, 100.0, 1000.0, 10000.0),
        metadata={
            "exclusive_min": 0.0,
            "help": "penalties of the ridge floor; the best on validation is used",
        },
    )
