"""Test summaries of the distillation study, and a small study that is interrupted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from benchmarks.studies import distillation
from benchmarks.studies.distillation import COMPARISONS, REGIMES, run_study, summarise
from dhmd.base.errors import DhmdError

ROOT = Path(__file__).parents[3]


def result(full: float, gap: float, num_seeds: int = 2) -> dict[str, Any]:
    """Return scores on a corpus where all variants are worse than the full model by `gap`."""
    scores = {
        name: {"mae": [full + gap] * num_seeds, "truth": [full / 2 + gap] * num_seeds}
        for name in COMPARISONS
    }
    scores["full"] = {"mae": [full - 0.1, full + 0.1][:num_seeds], "truth": [full / 2] * num_seeds}
    meaning = {"edges": {"homogeneous": {"rank_correlation": {"text": full, "audio": None}}}}
    return {**scores, "trivial": {"median": 2.0}, "oracle": 0.5, "meaning": meaning}


def test_differences_are_means_over_corpora_with_a_t_interval() -> None:
    gaps = [0.01, 0.04, 0.01]
    rows = [result(full, gap) for full, gap in zip((1.0, 1.2, 1.4), gaps, strict=True)]
    summary = summarise({"noisy": rows})["noisy"]
    entry = summary["no_distillation"]
    low, high = stats.t.interval(0.95, 2, loc=0.02, scale=stats.sem(gaps))
    assert entry["difference"] == pytest.approx(0.02, abs=1e-5)
    assert (entry["ci_low"], entry["ci_high"]) == (
        pytest.approx(low, abs=1e-5),
        pytest.approx(high, abs=1e-5),
    )
    assert entry["truth_difference"] == pytest.approx(0.02, abs=1e-5)
    assert (entry["corpora"], entry["seeds"]) == (3, 2)
    assert summary["scores"]["full"] == pytest.approx(1.2)
    assert summary["scores"]["oracle"] == 0.5
    edges = summary["meaning"]["edges"]["homogeneous"]["rank_correlation"]
    assert edges == {"text": 1.2, "audio": None}


def test_a_variant_with_one_seed_is_compared_with_that_seed_of_the_full_model() -> None:
    rows = [result(full, 0.0) for full in (1.0, 1.2)]
    for row, gap in zip(rows, (0.02, 0.04), strict=True):
        row["late_fusion"] = {kind: [row["full"][kind][0] + gap] for kind in ("mae", "truth")}
    entry = summarise({"noisy": rows})["noisy"]["late_fusion"]
    assert (entry["difference"], entry["seeds"]) == (pytest.approx(0.03), 1)


def test_only_variants_that_need_a_narrow_interval_have_several_seeds(small: Path) -> None:
    task = next(distillation._tasks(small, {"noisy": 2}, (7, 8, 9)))
    assert {name: task.seeds_of(name) for name in ("full", *task.variants)} == {
        "full": (7, 8, 9),
        "no_distillation": (7, 8, 9),
        "self_distillation": (7,),
        "uniform_edges": (7,),
        "shuffled_edges": (7,),
        "late_fusion": (7,),
    }
    other = next(distillation._tasks(small, {"large": 2}, (7, 8, 9)))
    assert {other.seeds_of(name) for name in ("full", *other.variants)} == {(7,)}


def test_one_corpus_has_no_interval(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match=r"at least 2 per regime: raise --corpora"):
        run_study(tmp_path, corpora={"noisy": 1}, seeds=[1], num_processes=1)


def test_an_interrupted_study_resumes_with_the_same_results(small: Path) -> None:
    first = run_study(small, corpora={"audio": 2}, seeds=[1], num_processes=1)
    assert first["audio"]["scores"]["median"] > first["audio"]["scores"]["oracle"]
    meaning = first["audio"]["meaning"]
    assert set(meaning) == {"edges", "dictionary", "probes", "leading_probes"}
    for space in ("homogeneous", "heterogeneous"):
        assert sum(meaning["edges"][space]["mean_out"].values()) == pytest.approx(1, abs=1e-3)
    stored = sorted((small / ".dhmd" / "studies").rglob("*.json"))
    assert [path.stem for path in stored] == ["audio-3000", "audio-3001"]
    assert not list((small / ".dhmd" / "studies").rglob("work-*"))
    content = json.loads(stored[0].read_text("utf-8"))
    content["oracle"] += 1.0  # shows that the stored result is read
    stored[0].write_text(json.dumps(content), "utf-8")
    stored[1].unlink()
    second = run_study(small, corpora={"audio": 2}, seeds=[1], num_processes=1)
    oracle = second["audio"]["scores"].pop("oracle")
    assert oracle == pytest.approx(first["audio"]["scores"].pop("oracle") + 0.5, abs=1e-5)
    assert second == first


def test_the_error_for_a_truncated_result_names_the_file(small: Path) -> None:
    tasks = list(distillation._tasks(small, {"audio": 2}, (1,)))
    for task in tasks:
        task.result.parent.mkdir(parents=True, exist_ok=True)
        task.result.write_text('{"full": ', "utf-8")
    with pytest.raises(DhmdError, match=r"audio-3000\.json cannot be read: delete it"):
        run_study(small, corpora={"audio": 2}, seeds=[1], num_processes=1)


def test_tasks_alternate_regimes_and_depend_on_the_seeds(small: Path) -> None:
    tasks = list(distillation._tasks(small, dict.fromkeys(REGIMES, 2), (1,)))
    assert [task.corpus_seed for task in tasks] == [3000] * len(REGIMES) + [3001] * len(REGIMES)
    assert {task.regime for task in tasks if not task.variants} == {"audio"}
    other = list(distillation._tasks(small, {"audio": 2}, (1, 2)))
    same_seeds = [task for task in tasks if task.regime == "audio"]
    assert {t.folder for t in same_seeds}.isdisjoint({t.folder for t in other})


def test_results_depend_on_the_align_section_and_the_code(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder() -> Path:
        return next(distillation._tasks(small, {"audio": 2}, (1,))).folder

    before = folder()
    assert folder() == before
    path = small / "params.yaml"
    text = path.read_text("utf-8")
    changed = re.sub(r"^  max_steps:$", "  max_steps: 7", text, flags=re.MULTILINE)
    assert changed != text
    path.write_text(changed, "utf-8")
    assert folder() != before
    path.write_text(text, "utf-8")
    assert folder() == before
    for package in ("dhmd/data/synthetic", "dhmd/data/alignment", "dhmd/evaluation"):
        assert package in distillation._CODE
    monkeypatch.setattr(distillation, "code_key", lambda *parts: "changed")
    assert folder() != before
