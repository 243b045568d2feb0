"""The names that people read in MLflow."""

from __future__ import annotations

import re
from datetime import datetime

from dhmd.tracking.journal import Event


def split_member(member: str) -> tuple[str, str]:
    """`no_distillation/seed-1` -> (`no_distillation`, `1`); a plain seed has the variant ''."""
    variant, _, seed = member.rpartition("/")
    return variant, seed.removeprefix("seed-")


def metric_name(name: str) -> str:
    """The name with what MLflow does not take in one replaced."""
    return re.sub(r"[^\w./: -]", "_", name, flags=re.ASCII)[:250]


def run_name(header: Event) -> str:
    """A training's name: stage, dataset, DVC experiment (if any) and local start time."""
    start = datetime.fromtimestamp(header["time"] / 1000).strftime("%Y-%m-%d %H:%M")
    experiment = header["tags"].get("DVC_EXP_NAME")
    parts = [f"{header['stage']} {header['dataset']}", *([experiment] if experiment else []), start]
    return " · ".join(parts)
