"""What the page says of summaries whose verdict is known."""

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
    """The verdict of the one expectation that is about it."""
    (line,) = [line for line in expectations(study) if about in line]
    return line.split("**")[1]


@pytest.mark.parametrize(("low", "expected"), [(0.001, "met"), (-0.001, "not met")])
def test_noisy_needs_an_interval_above_zero(low: float, expected: str) -> None:
    assert verdict({"noisy": summary(low=low)}, "distillation helps") == expected


@pytest.mark.parametrize(("low", "expected"), [(-0.009, "met"), (-0.011, "not met")])
def test_clean_may_lose_a_hundredth(low: float, expected: str) -> None:
    assert verdict({"clean": summary(low=low)}, "does no harm") == expected


@pytest.mark.parametrize(("rho", "expected"), [(0.21, "met"), (0.19, "not met")])
@pytest.mark.parametrize("regime", ["noisy", "large"])
def test_edges_must_reach_half_of_what_can_be_reached(
    regime: str, rho: float, expected: str
) -> None:
    assert verdict({regime: summary(rho=rho)}, "at least half") == expected


@pytest.mark.parametrize(("rho", "expected"), [(0.09, "met"), (-0.11, "not met")])
def test_without_a_cue_edges_must_follow_nothing(rho: float, expected: str) -> None:
    assert verdict({"no_cue": summary(rho=rho)}, "about 0") == expected


@pytest.mark.parametrize(("same", "expected"), [(0.31, "met"), (0.29, "not met")])
def test_codes_must_be_shared_by_topic(same: float, expected: str) -> None:
    assert verdict({"noisy": summary(same=same)}, "share more codes") == expected


@pytest.mark.parametrize(("leading", "expected"), [(0.21, "met"), (0.2, "not met")])
def test_parts_must_differ(leading: float, expected: str) -> None:
    study = {"noisy": summary(leading=leading)}
    about = "leading components predicts the shared latents"
    assert verdict(study, about) == expected


def test_the_planted_teacher_is_the_one_that_the_regime_plants() -> None:
    study = {"noisy": summary(), "audio": summary()}
    assert verdict(study, "the edges out of text") == "met"
    assert verdict(study, "the edges out of audio") == "not met"


def test_every_comparison_and_its_numbers_are_in_the_table() -> None:
    text = page({"noisy": summary(low=0.0123)})
    for name in COMPARISONS:
        assert f"| {name} | +0.0223 [+0.0123, +0.0323] |" in text
