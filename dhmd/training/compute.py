"""The settings of where and how tasks run: section `compute` of params.yaml.

No stage depends on them: they change a result by rounding alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ComputeConfig:
    """Section `compute`."""

    workers: PositiveInt | None = None  # processes; None: chosen for the machine and the job
    threads: PositiveInt | None = None  # CPU threads per process; None: one
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU where there is one
    cuda_graph: bool = True  # on a GPU, capture each step's shape once and replay it
