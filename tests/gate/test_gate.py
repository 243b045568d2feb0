"""Test every verdict of the gate in scratch repositories: 0 pass, 1 regressed, 2 not comparable."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.gate.compare import NOT_COMPARABLE, NOT_JUDGED, PASS, REGRESSED, MetricRow
from dhmd.gate.gate import ACCEPTED, NEW, GateResult, run_gate
from tests.gate.fakes import (
    IDS,
    SAME,
    SEEDS,
    WORSE,
    commit_all,
    gate,
    gate_predictions,
    git,
    labels_of,
    new_repository,
    predictions_of,
    write_metrics,
    write_params,
)

OLD, OTHER = "c" * 64, "d" * 64

FLAT = {s: np.full(len(IDS), 0.1) for s in SEEDS}
MARGINS = "margins:corr=0.03,mae=0.03", "margins:corr=0.03,mae=0.5"


def rows(result: GateResult) -> tuple[MetricRow, ...]:
    return result.datasets[0].rows


def verdicts(result: GateResult) -> list[str]:
    return [item.verdict for item in result.datasets]


def assert_not_comparable(result: GateResult, *sentences: str) -> None:
    assert (result.exit_status, result.verdict) == (2, NOT_COMPARABLE)
    reasons = " | ".join(reason for item in result.datasets for reason in item.reasons)
    for sentence in sentences:
        assert sentence in reasons


# 0: pass, and what is compared


def test_equal_metrics_pass(repository):
    result = gate(repository)
    assert result.exit_status == 0
    assert [(row.metric, row.deterioration, row.n) for row in rows(result)] == [
        ("mae", 0, 5),
        ("corr", 0, 5),
    ]


@pytest.mark.parametrize(("base_old", "head_old"), [(True, False), (True, True), (False, True)])
def test_revisions_before_details_are_read(repository, base_old, head_old):
    for predictions, old_layout in ((SAME, base_old), (WORSE, head_old)):
        shutil.rmtree(repository / "metrics/demo")
        result = gate_predictions(repository, predictions, old_layout=old_layout)
    assert result.exit_status == 1
    edit(repository, "metrics.json", '"mae": ', '"mae": 1' if not head_old else '"was": ')
    assert_not_comparable(gate(repository), "metrics/demo/metrics.json: test ")


def test_the_order_of_seeds_and_utterances_does_not_matter(repository):
    result = gate_predictions(repository, predictions_of((4, 1, 5, 3, 2)))
    assert result.exit_status == 0
    assert all(row.deterioration == pytest.approx(0, abs=1e-15) for row in rows(result))
    order = np.random.default_rng(0).permutation(len(IDS))
    result = gate_predictions(
        repository,
        {s: p[order] for s, p in SAME.items()},
        labels=labels_of()[order],
        ids=[IDS[row] for row in order],
    )
    assert result.exit_status == 0
    assert rows(result)[0].utterances == pytest.approx((0, 0), abs=1e-12)


def test_noise_and_a_better_model_pass(repository):
    rng = np.random.default_rng(0)
    result = gate_predictions(
        repository, {s: p + rng.normal(0, 1e-3, len(p)) for s, p in SAME.items()}
    )
    assert result.exit_status == 0
    assert all(row.deterioration != 0 for row in rows(result))
    result = gate_predictions(repository, predictions_of(SEEDS, 0.3))
    assert result.exit_status == 0
    assert rows(result)[0].upper < 0


def test_additional_seeds_are_not_compared(repository):
    result = gate_predictions(repository, predictions_of((*SEEDS, 6, 7)))
    assert (result.exit_status, rows(result)[0].n) == (0, 5)
    assert result.datasets[0].notes == ("the seeds [6, 7] are new and not compared",)


# 1: regressed


def test_a_worse_model_fails(repository):
    result = gate_predictions(repository, WORSE)
    assert (result.exit_status, result.verdict) == (1, REGRESSED)
    mae, corr = rows(result)
    assert (mae.verdict, corr.verdict) == (REGRESSED, REGRESSED)
    errors = [np.abs(np.array(list(p.values())) - labels_of()).mean(1) for p in (SAME, WORSE)]
    assert mae.deterioration == pytest.approx((errors[1] - errors[0]).mean(), rel=1e-6)
    assert 0 < mae.lower < mae.deterioration < mae.upper
    assert mae.utterances[0] < mae.deterioration < mae.utterances[1]
    assert corr.deterioration > 0


def test_the_rule_needs_both_conditions(repository):
    # A constant shift worsens the error and leaves the correlation.
    result = gate_predictions(repository, {s: p + 0.5 for s, p in SAME.items()})
    assert [row.verdict for row in rows(result)] == [REGRESSED, PASS]
    # One of five seeds is bad: the mean exceeds the margin, the lower bound does not exceed 0.
    write_metrics(repository, SAME)
    commit_all(repository)
    mae = rows(gate_predictions(repository, SAME | {3: SAME[3] + 1.0}))[0]
    assert (mae.deterioration > mae.margin, mae.lower < 0, mae.verdict) == (True, True, PASS)
    # A significant deterioration within the margin.
    write_metrics(repository, SAME)
    commit_all(repository)
    mae = rows(gate_predictions(repository, predictions_of(SEEDS, 0.61)))[0]
    assert (mae.deterioration < mae.margin, mae.lower > 0, mae.verdict) == (True, True, PASS)


def test_classification_is_gated_by_f1(tmp_path):
    new_repository(tmp_path)
    write_params(tmp_path)
    results = []
    for error in (0.3, 0.31, 0.8):
        write_metrics(
            tmp_path, predictions_of(SEEDS, error, "classification"), task="classification"
        )
        commit_all(tmp_path)
        results.append(run_gate(tmp_path, base="HEAD~1") if error > 0.3 else None)
    assert [result.exit_status for result in results[1:]] == [0, 1]
    assert [row.metric for row in rows(results[2])] == ["f1"]


def test_one_regressed_dataset_is_enough(repository):
    write_params(repository, datasets=("demo", "two"))
    write_metrics(repository, SAME, dataset="two")
    commit_all(repository)
    (repository / "metrics/demo/details/seeds.csv").unlink()
    result = gate_predictions(repository, WORSE, dataset="two")
    assert result.exit_status == 1
    assert verdicts(result) == [NOT_COMPARABLE, REGRESSED]


# 2: not comparable


def test_undefined_metrics_do_not_pass(repository):
    result = gate_predictions(repository, {s: np.full(len(IDS), 0.1 * s) for s in SEEDS})
    assert result.exit_status == 1
    assert [row.verdict for row in rows(result)] == [REGRESSED, NOT_COMPARABLE]
    write_metrics(repository, SAME)
    commit_all(repository)
    better = predictions_of(SEEDS, 0.1) | {4: FLAT[4]}
    sentence = "corr is undefined in the head for seed 4: the predictions are constant"
    assert_not_comparable(gate_predictions(repository, better), sentence)


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [
        ((1, 2, 4, 5), "demo lacks the seeds [3] of the base"),
        ((5, 6, 7, 8, 9), "1 common seeds of demo, but at least 2"),
        ((6, 7), "0 common seeds of demo, but at least 2"),
    ],
)
def test_too_few_or_missing_seeds_are_not_comparable(repository, seeds, sentence):
    result = gate_predictions(repository, predictions_of(seeds))
    assert_not_comparable(result, sentence)
    assert {row.verdict for row in rows(result)} <= {NOT_JUDGED}


def edit(root: Path, name: str, old: str, new: str, dataset: str = "demo") -> None:
    path = root / "metrics" / dataset / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


SEEDS_FILE = "details/seeds.csv"
IDENTITY, PREDICTIONS = "details/identity.json", "details/predictions.csv"


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("metrics.json", '"mae": ', '"mae": 1', "metrics.json: test mae is 1"),
        ("metrics.json", '"n_seeds": 5', '"n_seeds": 6', "n_seeds is 6"),
        ("metrics.json", '"mae": 0.', f'"mae": 1{400 * "0"}, "was": 0.', "mae is 1000"),
        ("metrics.json", '"valid"', '"validation"', "valid is absent"),
        (SEEDS_FILE, "1,test,", "1,test,9", "seed 1, test mae is"),
        (SEEDS_FILE, "5,valid,", "5,valid,9", "metrics.json: valid mae is"),
        (SEEDS_FILE, "5,valid,", "6,valid,", "valid rows for the seeds [1, 2, 3, 4, 6]"),
        (IDENTITY, '"demo"', '"other"', "belongs to the dataset other"),
        (IDENTITY, '"task"', '"kind"', "must have exactly"),
        (IDENTITY, '"regression"', '"guessing"', "task is 'guessing'"),
        (PREDICTIONS, "v00[0],-1", "v00[0],-2", "seeds.csv: seed 1, test mae is"),
        (PREDICTIONS, "v01[1],", "v01[1],nan,", "line 8"),
    ],
)
def test_edited_files_are_named(repository, name, old, new, sentence):
    edit(repository, name, old, new)
    assert_not_comparable(gate(repository), "metrics/demo/", sentence)
    # An edited base is not comparable either, even with a good head.
    write_metrics(repository, SAME)
    assert_not_comparable(gate(repository), sentence)


def test_different_utterances_or_labels_of_the_same_corpus_are_not_comparable(repository):
    labels = labels_of()
    labels[:20] = SAME[1][:20]
    sentence = "predictions.csv has other ids or labels than in the base"
    assert_not_comparable(gate_predictions(repository, SAME, labels=labels), sentence)
    write_metrics(repository, SAME)
    commit_all(repository)
    fewer = {s: p[:90] for s, p in SAME.items()}
    assert_not_comparable(
        gate_predictions(repository, fewer, labels=labels_of()[:90], ids=IDS[:90]), sentence
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        *((name, f"lacks {name}") for name in (IDENTITY, SEEDS_FILE, PREDICTIONS)),
        ("metrics.json", "metrics/demo is missing in HEAD"),
        (".", "metrics/demo is missing in HEAD"),
    ],
)
def test_missing_metrics_are_not_comparable(repository, name, sentence):
    git(repository, "rm", "-rq", f"metrics/demo/{name}")
    assert_not_comparable(gate(repository), sentence)


def test_datasets_without_metrics_or_removed_datasets_are_not_comparable(repository):
    write_params(repository, datasets=("demo", "mosi"))
    assert_not_comparable(
        gate(repository), "lists mosi under datasets, but metrics/mosi does not exist"
    )
    write_params(repository, datasets=("two",))
    assert_not_comparable(
        gate_predictions(repository, SAME, dataset="two"), "demo was dropped from datasets"
    )


def test_a_different_corpus_fold_or_task_is_not_comparable(repository):
    entry = f'from: "corpus:{OLD}", to: "corpus:{OTHER}"'
    assert_not_comparable(
        gate_predictions(repository, SAME, corpus=OTHER), "the corpus of demo changed", entry
    )
    result = gate_predictions(repository, SAME, corpus="e" * 64, fold="speaker")
    assert_not_comparable(result, "the fold of demo changed from 0 to speaker")
    result = gate_predictions(repository, SAME, corpus="e" * 64)
    assert_not_comparable(result, "has the fold 0 with the corpus identity of fold speaker")
    classes = predictions_of(SEEDS, 0.3, "classification")
    result = gate_predictions(repository, classes, task="classification", corpus=OTHER)
    assert_not_comparable(result, "the task of demo was regression and is classification")


def test_a_different_protocol_is_not_comparable(repository):
    result = gate_predictions(repository, SAME, protocol="0")
    assert_not_comparable(result, "the evaluation protocol of demo changed", "cannot check")
    assert_not_comparable(
        gate_predictions(repository, WORSE, protocol="0"), "protocol 0, which this version"
    )
    # The way back is a change of protocol as well.
    assert_not_comparable(
        gate_predictions(repository, SAME), 'from: "protocol:0", to: "protocol:1"'
    )


def test_a_base_without_metrics_is_not_comparable(tmp_path):
    new_repository(tmp_path)
    write_params(tmp_path)
    commit_all(tmp_path)
    result = gate_predictions(tmp_path, SAME)
    assert (result.exit_status, verdicts(result)) == (2, [NEW])
    assert "has no metrics to compare with" in result.notes[0]
    accept(tmp_path, "corpus:none", f"corpus:{OLD}")
    assert gate(tmp_path, base="HEAD~2").exit_status == 0


def test_a_new_dataset_does_not_change_the_verdict(repository):
    write_params(repository, datasets=("demo", "two"))
    result = gate_predictions(repository, SAME, dataset="two")
    assert (result.exit_status, verdicts(result)) == (0, [PASS, NEW])
    edit(repository, "metrics.json", '"n_seeds": 5', '"n_seeds": 6', dataset="two")
    assert gate(repository, base="HEAD~2").exit_status == 2


def test_other_directories_are_not_datasets(repository):
    for name in ("studies/distillation.json", ".partial-0123456789ab-demo/metrics.json"):
        (repository / "metrics" / name).parent.mkdir()
        (repository / "metrics" / name).write_text("{}")
    (repository / "metrics/note.txt").write_text("x")
    assert [item.dataset for item in gate(repository).datasets] == ["demo"]


# Accepted changes


def accept(root: Path, from_: str, to: str, **arguments: Any) -> None:
    entry = {"dataset": "demo", "from": from_, "to": to, "reason": "labels were corrected"}
    write_params(root, accept=[entry], **arguments)


def test_an_accepted_corpus_is_shown_and_not_judged(repository):
    accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    result = gate_predictions(repository, WORSE, corpus=OTHER)
    assert (result.exit_status, verdicts(result)) == (0, [ACCEPTED])
    assert {row.verdict for row in rows(result)} == {NOT_JUDGED}
    assert result.datasets[0].accepted[0].reason == "labels were corrected"
    # The next change needs its own entry.
    assert_not_comparable(
        gate_predictions(repository, SAME, corpus="e" * 64), "the corpus of demo changed"
    )


@pytest.mark.parametrize(
    ("from_", "to"),
    [
        (f"corpus:{OTHER}", f"corpus:{OLD}"),
        (f"corpus:{OLD}", "corpus:"),
        (OLD, OTHER),
        (f"corpus:{OLD[:12]}", f"corpus:{OTHER[:12]}"),
    ],
)
def test_entries_with_other_identities_do_not_count(repository, from_, to):
    accept(repository, from_, to)
    assert_not_comparable(
        gate_predictions(repository, SAME, corpus=OTHER), "the corpus of demo changed"
    )


def test_an_entry_must_be_committed(repository):
    write_metrics(repository, SAME, corpus=OTHER)
    accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    base = git(repository, "rev-parse", "HEAD")
    result = run_gate(repository, base=base)
    assert_not_comparable(result, "the corpus of demo changed")
    assert "is not committed and does not count" in result.notes[0]
    commit_all(repository)
    assert run_gate(repository, base=base).exit_status == 0


def test_accepted_data_does_not_excuse_a_removed_seed(repository):
    accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    result = gate_predictions(repository, predictions_of((1, 2, 3)), corpus=OTHER)
    assert_not_comparable(result, "lacks the seeds [4, 5]")


def test_accepted_data_may_define_a_metric_but_not_make_one_undefined(repository):
    accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    assert_not_comparable(
        gate_predictions(repository, FLAT, corpus=OTHER), "corr is undefined in the head"
    )
    accept(repository, f"corpus:{OTHER}", f"corpus:{OLD}")
    assert gate_predictions(repository, SAME, corpus=OLD).exit_status == 0


def test_accepted_margins_apply_from_the_next_change(repository):
    write_params(repository, mae=0.5)
    result = gate_predictions(repository, WORSE)
    entry = f'from: "{MARGINS[0]}", to: "{MARGINS[1]}"'
    assert_not_comparable(result, "margins of demo changed", entry)
    assert rows(result)[0].margin == 0.03
    git(repository, "reset", "-q", "--hard", "HEAD~1")
    accept(repository, *MARGINS, mae=0.5)
    assert gate_predictions(repository, WORSE).exit_status == 1
    write_metrics(repository, SAME)
    commit_all(repository)
    assert run_gate(repository, base="HEAD~2").exit_status == 0


def test_an_accepted_protocol_is_judged(repository):
    write_metrics(repository, SAME, protocol="0")
    base = commit_all(repository)
    accept(repository, "protocol:0", "protocol:1")
    assert gate_predictions(repository, SAME).exit_status == 0
    write_metrics(repository, WORSE)
    assert gate(repository, base=base).exit_status == 1


@pytest.mark.parametrize("keep", [True, False])
def test_an_accepted_removal_passes(repository, keep):
    entry = {"dataset": "demo", "from": f"corpus:{OLD}", "to": "corpus:none"}
    write_params(repository, datasets=("two",), accept=[entry])
    if not keep:
        git(repository, "rm", "-rq", "metrics/demo")
    result = gate_predictions(repository, SAME, dataset="two")
    assert (result.exit_status, verdicts(result)) == (0, [ACCEPTED, NEW])


def test_the_first_margins_are_accepted_and_used(repository):
    (repository / "params.yaml").write_text("datasets:\n  - demo\n")
    base = commit_all(repository)
    write_params(repository)
    assert_not_comparable(gate_predictions(repository, WORSE), 'from: "margins:none"')
    accept(repository, "margins:none", MARGINS[0])
    assert gate(repository, base=base).exit_status == 1


GATE = "datasets: [demo]\ngate:\n  "


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n", "is not a mapping"),
        ("datasets: demo\n", "datasets is 'demo'"),
        (f"{GATE}metric: []\n", "unknown key gate.metric"),
        (f"{GATE}{{metrics: [acc9], margins: {{acc9: 1}}}}\n", "has 'acc9'"),
        (f"{GATE}{{metrics: [mae], margins: {{}}}}\n", "margins has no mae"),
        (f"{GATE}metrics: []\n", "metrics is empty"),
        (f"{GATE}margins: {{mae: 0}}\n", "gate.margins.mae is 0"),
        (f"{GATE}accept: [{{dataset: demo, from: a, to: b}}]\n", "gate.accept[0].reason"),
        (f"{GATE}accept: [{{dataset: d, from: a, to: b, reason: ' '}}]\n", "reason is empty"),
        (f"{GATE}datasets: {{demo: {{acc7: 0.1}}}}\n", "datasets.demo.acc7"),
    ],
)
def test_broken_params_are_named(repository, text, sentence):
    (repository / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DhmdError, match=r"params\.yaml of HEAD") as error:
        gate(repository)
    assert sentence in str(error.value)


def test_a_dataset_may_have_its_own_margins(repository):
    text = (repository / "params.yaml").read_text()
    text = text.replace("  datasets: {}", "  datasets: {demo: {mae: 0.5}}")
    (repository / "params.yaml").write_text(text)
    commit_all(repository)
    result = gate_predictions(repository, {s: p + 0.5 for s, p in SAME.items()})
    assert result.exit_status == 0
    assert [row.margin for row in rows(result)] == [0.5, 0.03]
