"""The settings of evaluation: section `evaluate` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class EvaluateConfig:
    """Section `evaluate`."""

    # Number of bootstrap resamples of the test videos, for intervals over utterances.
    resamples: Annotated[int, Field(ge=100)] = 1000
    # Candidate penalties of the ridge regression; the best one on validation is used.
    ridge_alphas: tuple[PositiveFloat, ...] = (1.0, 10.0, 100.0, 1000.0, 10000.0)
