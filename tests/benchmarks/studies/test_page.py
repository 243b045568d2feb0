"""Verdicts and tables of the distillation study for known summaries."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.studies.distillation import COMPARISONS
from benchmarks.studies.page import expectations, page

NAMES = ("text", "audio", "vision")


def summary(
    *,
    low: float = 0.01,
    rho: float = 0.3,
    reachable: float = 0.4,
    same: float = 0.4,
    leading: float = 0.3,
) -> dict[str, Any]:
    comparison = {
        "difference": low + 0.01,
        "ci_low": low,
        "ci_high": low + 0.02,
        "truth_difference": 0.0,
        "truth_ci_low": -0.1,
        "truth_ci_high": 0.1,
        "corpora": 10,
        "seeds": 1,
    }
    graph = {
        "mean_out": {"text": 0.6, "audio": 0.3, "vision": 0.1},
        "rank_correlation": dict.fromkeys(NAMES, rho),
    }
    dictionary = {
        "same_latent": same,
        "different_latent": 0.2,
        "same_utterance": 0.5,
        "active": 3.0,
        "dead": 2.0,
    }
    probes = {
        f"{latent}_from_{part}": 0.2
        for latent in ("shared", "exclusive")
        for part in ("homogeneous", "heterogeneous")
    }
    return {
        **dict.fromkeys(COMPARISONS, comparison),
        "scores": {"full": 1.0, "median": 2.0},
        "meaning": {
            "edges": {
                "homogeneous": graph,
                "heterogeneous": graph,
                "reference": {"rank_correlation": dict.fromkeys(NAMES, reachable)},
            },
            "dictionary": {"homogeneous": dictionary},
            "probes": probes,
            "leading_probes": {**probes, "shared_from_homogeneous": leading},
        },
    }


def verdict(study: dict[str, Any], about: str) -> str:
    """Return the verdict of the expectation whose sentence contains `about`."""
    (line,) = [line for line in expectations(study) if about in line]
    return line.split("**")[1]


@pytest.mark.parametrize(
    ("regime", "about", "value", "met", "not_met"),
    [
        ("noisy", "distillation helps", "low", 0.001, -0.001),
        ("clean", "does no harm", "low", -0.009, -0.011),
        ("noisy", "at least half", "rho", 0.21, 0.19),
        ("large", "at least half", "rho", 0.21, 0.19),
        ("no_cue", "about 0", "rho", 0.09, -0.11),
        ("noisy", "share more codes", "same", 0.31, 0.29),
        ("noisy", "leading components predicts the shared latents", "leading", 0.21, 0.2),
    ],
)
def test_an_expectation_is_met_above_its_threshold(
    regime: str, about: str, value: str, met: float, not_met: float
) -> None:
    assert verdict({regime: summary(**{value: met})}, about) == "met"
    assert verdict({regime: summary(**{value: not_met})}, about) == "not met"


def test_the_reliable_teacher_depends_on_the_regime() -> None:
    study = {"noisy": summary(), "audio": summary()}
    assert verdict(study, "the edges out of text") == "met"
    assert verdict(study, "the edges out of audio") == "not met"


def test_the_table_has_every_comparison() -> None:
    text = page({"noisy": summary(low=0.0123)})
    for name in COMPARISONS:
        assert f"| {name} | +0.0223 [+0.0123, +0.0323] |" in text
