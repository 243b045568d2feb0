"""Every outcome of the gate in scratch repositories: 0 pass, 1 regressed, 2 not comparable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.gate.compare import NOT_COMPARABLE, NOT_JUDGED, PASS, REGRESSED, MetricRow
from dhmd.gate.gate import ACCEPTED, NEW, GateResult, run_gate
from dhmd.gate.render import to_json
from tests.gate.fakes import (
    IDS,
    commit_all,
    git,
    labels_of,
    new_repository,
    predictions_of,
    write_metrics,
    write_params,
)

SEEDS = (1, 2, 3, 4, 5)
OLD, OTHER = "c" * 64, "d" * 64
SAME, WORSE = predictions_of(SEEDS), predictions_of(SEEDS, 0.9)
FLAT = {s: np.full(len(IDS), 0.1) for s in SEEDS}
MARGINS = "margins:corr=0.03,mae=0.03", "margins:corr=0.03,mae=0.5"
Predictions = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    new_repository(root)
    write_params(root)
    write_metrics(root, SAME)
    commit_all(root, "base")
    return root


@pytest.fixture
def repository(tmp_path: Path, _template: Path) -> Path:
    """A repository with one commit: demo measured with five seeds."""
    return Path(shutil.copytree(_template, tmp_path / "a clone ü"))


def gate(root: Path, **arguments: str) -> GateResult:
    """Commit everything, and compare HEAD with the commit before."""
    commit_all(root)
    result = run_gate(root, **({"base": "HEAD~1", "head": "HEAD"} | arguments))
    json.dumps(to_json(result), allow_nan=False)
    return result


def measured(root: Path, predictions: Predictions, **arguments: Any) -> GateResult:
    write_metrics(root, predictions, **arguments)
    return gate(root)


def rows(result: GateResult) -> tuple[MetricRow, ...]:
    return result.datasets[0].rows


def verdicts(result: GateResult) -> list[str]:
    return [item.verdict for item in result.datasets]


def not_comparable(result: GateResult, *sentences: str) -> None:
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


def test_the_partial_directory_of_a_killed_evaluation_is_no_dataset(repository):
    left = repository / "metrics/.partial-0123456789ab-demo"
    left.mkdir()
    (left / "metrics.json").write_text("{")
    result = run_gate(repository)
    assert [item.dataset for item in result.datasets] == ["demo"]
    assert result.exit_status == 0


@pytest.mark.parametrize(("base_old", "head_old"), [(True, False), (True, True), (False, True)])
def test_revisions_before_details_are_read(repository, base_old, head_old):
    for predictions, old_layout in ((SAME, base_old), (WORSE, head_old)):
        shutil.rmtree(repository / "metrics/demo")
        result = measured(repository, predictions, old_layout=old_layout)
    assert result.exit_status == 1
    edit(repository, "metrics.json", '"mae": ', '"mae": 1' if not head_old else '"was": ')
    not_comparable(gate(repository), "metrics/demo/metrics.json: test ")


def test_the_default_is_the_workspace_against_the_merge_base(repository):
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-q", "-b", "work")
    write_metrics(repository, WORSE)
    result = run_gate(repository)
    assert (result.exit_status, result.head) == (1, "the workspace")
    assert result.base == f"HEAD, the merge base with main ({base[:10]})"
    assert run_gate(repository, head="HEAD").exit_status == 0
    commit_all(repository)
    result = run_gate(repository)
    assert (result.exit_status, result.base) == (1, f"merge base with main ({base[:10]})")


def test_on_the_main_branch_the_workspace_is_compared_with_its_last_commit(repository):
    write_metrics(repository, WORSE)
    head = commit_all(repository)
    result = run_gate(repository)
    assert (result.exit_status, result.base) == (0, f"HEAD, the merge base with main ({head[:10]})")
    write_metrics(repository, predictions_of(SEEDS, 1.2))
    assert run_gate(repository).exit_status == 1


def experiment(root: Path, name: str, error: float) -> str:
    """Make a commit on HEAD that only DVC's reference names, as `dvc exp run` leaves it."""
    baseline = git(root, "rev-parse", "HEAD")
    git(root, "checkout", "-q", "--detach")
    write_metrics(root, predictions_of(SEEDS, error))
    sha = commit_all(root)
    git(root, "checkout", "-q", "main")
    git(root, "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", sha)
    git(root, "update-ref", "refs/exps/exec/EXEC_HEAD", baseline)  # DVC's bookkeeping
    return sha


def test_experiments_are_found_by_name(repository):
    worse = experiment(repository, "worse", 0.9)
    experiment(repository, "better", 0.3)
    result = run_gate(repository, head="worse")
    assert (result.exit_status, result.head) == (1, f"experiment worse ({worse[:10]})")
    assert run_gate(repository, head="better").exit_status == 0
    assert run_gate(repository, base="better", head="worse").exit_status == 1
    with pytest.raises(DhmdError, match="neither in Git nor as a DVC experiment"):
        run_gate(repository, head="EXEC_HEAD")


def test_among_experiments_of_one_name_the_one_of_this_commit_is_used(repository):
    experiment(repository, "twice", 0.9)
    first = git(repository, "rev-parse", "HEAD")
    commit_all(repository)
    here = experiment(repository, "twice", 0.3)
    result = run_gate(repository, head="twice")
    assert (result.exit_status, result.head) == (0, f"experiment twice ({here[:10]})")
    commit_all(repository)
    with pytest.raises(DhmdError, match=f"several experiments .* from the commits .*{first[:10]}"):
        run_gate(repository, head="twice")
    # A Git revision of that name has precedence.
    git(repository, "branch", "twice")
    assert run_gate(repository, head="twice").head.startswith("twice (")


def test_the_order_of_seeds_and_utterances_does_not_matter(repository):
    result = measured(repository, predictions_of((4, 1, 5, 3, 2)))
    assert result.exit_status == 0
    assert all(row.deterioration == pytest.approx(0, abs=1e-15) for row in rows(result))
    order = np.random.default_rng(0).permutation(len(IDS))
    result = measured(
        repository,
        {s: p[order] for s, p in SAME.items()},
        labels=labels_of()[order],
        ids=[IDS[row] for row in order],
    )
    assert result.exit_status == 0
    assert rows(result)[0].utterances == pytest.approx((0, 0), abs=1e-12)


def test_noise_and_a_better_model_pass(repository):
    rng = np.random.default_rng(0)
    result = measured(repository, {s: p + rng.normal(0, 1e-3, len(p)) for s, p in SAME.items()})
    assert result.exit_status == 0
    assert all(row.deterioration != 0 for row in rows(result))
    result = measured(repository, predictions_of(SEEDS, 0.3))
    assert result.exit_status == 0
    assert rows(result)[0].upper < 0


def test_additional_seeds_are_not_compared(repository):
    result = measured(repository, predictions_of((*SEEDS, 6, 7)))
    assert (result.exit_status, rows(result)[0].n) == (0, 5)
    assert result.datasets[0].notes == ("the seeds [6, 7] are new and not compared",)


def test_a_project_in_a_subdirectory_of_the_repository(tmp_path):
    new_repository(tmp_path)
    root = tmp_path / "sub"
    root.mkdir()
    write_params(root)
    write_metrics(root, SAME)
    commit_all(root)
    assert measured(root, WORSE).exit_status == 1
    assert run_gate(root, base="HEAD").exit_status == 0


# 1: regressed


def test_a_worse_model_fails(repository):
    result = measured(repository, WORSE)
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
    result = measured(repository, {s: p + 0.5 for s, p in SAME.items()})
    assert [row.verdict for row in rows(result)] == [REGRESSED, PASS]
    # One of five seeds is bad: the mean exceeds the margin, the lower bound does not exceed 0.
    write_metrics(repository, SAME)
    commit_all(repository)
    mae = rows(measured(repository, SAME | {3: SAME[3] + 1.0}))[0]
    assert (mae.deterioration > mae.margin, mae.lower < 0, mae.verdict) == (True, True, PASS)
    # A significant deterioration within the margin.
    write_metrics(repository, SAME)
    commit_all(repository)
    mae = rows(measured(repository, predictions_of(SEEDS, 0.61)))[0]
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
    result = measured(repository, WORSE, dataset="two")
    assert result.exit_status == 1
    assert verdicts(result) == [NOT_COMPARABLE, REGRESSED]


# 2: not comparable


def test_undefined_metrics_do_not_pass(repository):
    result = measured(repository, {s: np.full(len(IDS), 0.1 * s) for s in SEEDS})
    assert result.exit_status == 1
    assert [row.verdict for row in rows(result)] == [REGRESSED, NOT_COMPARABLE]
    write_metrics(repository, SAME)
    commit_all(repository)
    better = predictions_of(SEEDS, 0.1) | {4: FLAT[4]}
    sentence = "corr is undefined in the head for seed 4: the predictions are constant"
    not_comparable(measured(repository, better), sentence)


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [
        ((1, 2, 4, 5), "demo lacks the seeds [3] of the base"),
        ((5, 6, 7, 8, 9), "demo has 1 common seeds, but at least 2"),
        ((6, 7), "demo has 0 common seeds, but at least 2"),
    ],
)
def test_missing_seeds(repository, seeds, sentence):
    result = measured(repository, predictions_of(seeds))
    not_comparable(result, sentence)
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
        ("metrics.json", "{", "", "not readable as JSON"),
        ("metrics.json", '"mae": ', '"mae": NaN, "was": ', "contains NaN"),
        ("metrics.json", '"mae": 0.', f'"mae": 1{400 * "0"}, "was": 0.', "mae is 1000"),
        ("metrics.json", '"valid"', '"validation"', "valid is absent"),
        (SEEDS_FILE, "1,test,", "1,test,9", "seed 1, test mae is"),
        (SEEDS_FILE, "5,valid,", "5,valid,9", "metrics.json: valid mae is"),
        (SEEDS_FILE, "5,valid,", "6,valid,", "valid rows of the seeds [1, 2, 3, 4, 6]"),
        (SEEDS_FILE, "5,test,", "5,test,nan,", "row 6"),
        (IDENTITY, '"demo"', '"other"', "belongs to the dataset other"),
        (IDENTITY, '"task"', '"kind"', "must have exactly"),
        (IDENTITY, '"regression"', '"guessing"', "task is 'guessing'"),
        (PREDICTIONS, "seed_5", "seed_x", "the header must be"),
        (PREDICTIONS, "v00[0],-1", "v00[0],-2", "seeds.csv: seed 1, test mae is"),
        (PREDICTIONS, "v01[1],", "v01[1],nan,", "row 8"),
    ],
)
def test_edited_files_are_named(repository, name, old, new, sentence):
    edit(repository, name, old, new)
    not_comparable(gate(repository), "metrics/demo/", sentence)
    # An edited base is refused as well, even with a good head.
    write_metrics(repository, SAME)
    not_comparable(gate(repository), sentence)


def test_other_utterances_or_labels_of_the_same_corpus(repository):
    labels = labels_of()
    labels[:20] = SAME[1][:20]
    sentence = "predictions.csv has other ids or labels than in the base"
    not_comparable(measured(repository, SAME, labels=labels), sentence)
    write_metrics(repository, SAME)
    commit_all(repository)
    fewer = {s: p[:90] for s, p in SAME.items()}
    not_comparable(measured(repository, fewer, labels=labels_of()[:90], ids=IDS[:90]), sentence)


@pytest.mark.parametrize("name", [SEEDS_FILE, PREDICTIONS])
def test_a_missing_file(repository, name):
    (repository / "metrics/demo" / name).unlink()
    not_comparable(gate(repository), f"lacks {name}")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (IDENTITY, f"lacks {IDENTITY}"),
        ("metrics.json", "metrics/demo is missing in HEAD"),
        (".", "metrics/demo is missing in HEAD"),
    ],
)
def test_missing_metrics(repository, name, sentence):
    git(repository, "rm", "-rq", f"metrics/demo/{name}")
    not_comparable(gate(repository), sentence)


def test_datasets_that_are_listed_without_metrics_or_dropped(repository):
    write_params(repository, datasets=("demo", "mosi"))
    not_comparable(gate(repository), "datasets lists mosi, but it has no metrics")
    write_params(repository, datasets=("two",))
    not_comparable(measured(repository, SAME, dataset="two"), "demo was dropped from datasets")


def test_another_corpus_fold_or_task(repository):
    entry = f'from: "corpus:{OLD}", to: "corpus:{OTHER}"'
    not_comparable(measured(repository, SAME, corpus=OTHER), "demo is another corpus", entry)
    result = measured(repository, SAME, corpus="e" * 64, fold="speaker")
    not_comparable(result, "demo is measured on another fold: 0 became speaker")
    result = measured(repository, SAME, corpus="e" * 64)
    not_comparable(result, "has the fold 0 with the corpus identity of fold speaker")
    classes = predictions_of(SEEDS, 0.3, "classification")
    result = measured(repository, classes, task="classification", corpus=OTHER)
    not_comparable(result, "demo was a regression and is a classification")


def test_another_protocol(repository):
    result = measured(repository, SAME, protocol="0")
    not_comparable(result, "demo is measured by another protocol", "cannot check")
    not_comparable(measured(repository, WORSE, protocol="0"), "protocol 0, which this version")
    # The way back is a change of protocol as well.
    not_comparable(measured(repository, SAME), 'from: "protocol:0", to: "protocol:1"')


def test_other_margins(repository):
    write_params(repository, mae=0.5)
    result = measured(repository, WORSE)
    entry = f'from: "{MARGINS[0]}", to: "{MARGINS[1]}"'
    not_comparable(result, "margins of demo changed", entry)
    assert rows(result)[0].margin == 0.03


def test_nothing_to_compare_with(tmp_path):
    new_repository(tmp_path)
    write_params(tmp_path)
    commit_all(tmp_path)
    result = measured(tmp_path, SAME)
    assert (result.exit_status, verdicts(result)) == (2, [NEW])
    assert "has no metrics to compare with" in result.notes[0]


def test_a_new_dataset_beside_a_compared_one(repository):
    write_params(repository, datasets=("demo", "two"))
    result = measured(repository, SAME, dataset="two")
    assert (result.exit_status, verdicts(result)) == (0, [PASS, NEW])
    edit(repository, "metrics.json", '"n_seeds": 5', '"n_seeds": 6', dataset="two")
    assert gate(repository, base="HEAD~2").exit_status == 2


def test_directories_without_metrics_are_no_datasets(repository):
    (repository / "metrics/studies").mkdir()
    (repository / "metrics/studies/distillation.json").write_text("{}")
    (repository / "metrics/note.txt").write_text("x")
    assert [item.dataset for item in gate(repository).datasets] == ["demo"]


# Accepted changes


def accept(root: Path, from_: str, to: str, **arguments: Any) -> None:
    entry = {"dataset": "demo", "from": from_, "to": to, "reason": "labels were corrected"}
    write_params(root, accept=[entry], **arguments)


def test_an_accepted_corpus_is_shown_and_not_judged(repository):
    accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    result = measured(repository, WORSE, corpus=OTHER)
    assert (result.exit_status, verdicts(result)) == (0, [ACCEPTED])
    assert {row.verdict for row in rows(result)} == {NOT_JUDGED}
    assert result.datasets[0].accepted[0].reason == "labels were corrected"
    # The next change needs its own entry.
    not_comparable(measured(repository, SAME, corpus="e" * 64), "demo is another corpus")


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
    not_comparable(measured(repository, SAME, corpus=OTHER), "demo is another corpus")


def test_an_entry_must_be_committed(repository):
    write_metrics(repository, SAME, corpus=OTHER)
    accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    base = git(repository, "rev-parse", "HEAD")
    result = run_gate(repository, base=base)
    not_comparable(result, "demo is another corpus")
    assert "is not committed and does not count" in result.notes[0]
    commit_all(repository)
    assert run_gate(repository, base=base).exit_status == 0


def test_accepted_data_does_not_excuse_a_removed_seed(repository):
    accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    result = measured(repository, predictions_of((1, 2, 3)), corpus=OTHER)
    not_comparable(result, "lacks the seeds [4, 5]")


def test_accepted_data_may_define_a_metric_but_not_make_one_undefined(repository):
    accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    not_comparable(measured(repository, FLAT, corpus=OTHER), "corr is undefined in the head")
    accept(repository, f"corpus:{OTHER}", f"corpus:{OLD}")
    assert measured(repository, SAME, corpus=OLD).exit_status == 0


def test_accepted_margins_apply_from_the_next_change(repository):
    accept(repository, *MARGINS, mae=0.5)
    assert measured(repository, WORSE).exit_status == 1
    write_metrics(repository, SAME)
    commit_all(repository)
    assert run_gate(repository, base="HEAD~2").exit_status == 0


def test_an_accepted_protocol_is_judged(repository):
    write_metrics(repository, SAME, protocol="0")
    base = commit_all(repository)
    accept(repository, "protocol:0", "protocol:1")
    assert measured(repository, SAME).exit_status == 0
    write_metrics(repository, WORSE)
    assert gate(repository, base=base).exit_status == 1


@pytest.mark.parametrize("keep", [True, False])
def test_an_accepted_removal(repository, keep):
    entry = {"dataset": "demo", "from": f"corpus:{OLD}", "to": "corpus:none"}
    write_params(repository, datasets=("two",), accept=[entry])
    if not keep:
        git(repository, "rm", "-rq", "metrics/demo")
    result = measured(repository, SAME, dataset="two")
    assert (result.exit_status, verdicts(result)) == (0, [ACCEPTED, NEW])


def test_an_accepted_first_measurement(tmp_path):
    new_repository(tmp_path)
    write_params(tmp_path)
    commit_all(tmp_path)
    accept(tmp_path, "corpus:none", f"corpus:{OLD}")
    assert measured(tmp_path, SAME).exit_status == 0


def test_the_first_margins_are_accepted_and_used(repository):
    (repository / "params.yaml").write_text("datasets:\n  - demo\n")
    base = commit_all(repository)
    write_params(repository)
    not_comparable(measured(repository, WORSE), 'from: "margins:none"')
    accept(repository, "margins:none", MARGINS[0])
    assert gate(repository, base=base).exit_status == 1


# Errors


def test_revisions_that_do_not_exist(repository):
    for name in ("nowhere", "--help", "HEAD~9"):
        with pytest.raises(DhmdError, match="is not in this clone"):
            run_gate(repository, base=name)
    git(repository, "branch", "-m", "main", "trunk")
    with pytest.raises(DhmdError, match="no main branch here"):
        run_gate(repository)
    assert run_gate(repository, base="trunk").exit_status == 0


def test_outside_git_and_without_a_common_commit(repository, tmp_path):
    write_params(tmp_path)
    for base in (None, "HEAD"):
        with pytest.raises(DhmdError, match="Git revisions are needed"):
            run_gate(tmp_path, base=base)
    git(repository, "checkout", "-q", "--orphan", "other")
    commit_all(repository)
    with pytest.raises(DhmdError, match="share no commit"):
        run_gate(repository)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n", "is not a mapping"),
        ("datasets: demo\n", "datasets is 'demo'"),
        ("datasets: [demo]\ngate:\n  metric: []\n", "unknown key gate.metric"),
        ("datasets: [demo]\ngate:\n  metrics: [acc9]\n  margins: {acc9: 1}\n", "is 'acc9'"),
        ("datasets: [demo]\ngate:\n  metrics: [mae]\n  margins: {}\n", "margins has no mae"),
        ("datasets: [demo]\ngate:\n  metrics: []\n", "metrics is empty"),
        ("datasets: [demo]\ngate:\n  margins: {mae: 0}\n", "gate.margins.mae is 0"),
        (
            "datasets: [demo]\ngate:\n  accept:\n    - dataset: demo\n      from: a\n      to: b\n",
            "gate.accept[0].reason",
        ),
        (
            "datasets: [demo]\ngate:\n  accept:\n    - {dataset: d, from: a, to: b, reason: ' '}\n",
            "reason is empty",
        ),
        ("datasets: [demo]\ngate:\n  datasets: {demo: {acc7: 0.1}}\n", "datasets.demo.acc7"),
    ],
)
def test_broken_params_are_named(repository, text, sentence):
    (repository / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DhmdError) as error:
        gate(repository)
    assert sentence in str(error.value)
    assert "params.yaml of HEAD" in str(error.value)


def test_margins_of_one_dataset(repository):
    text = (repository / "params.yaml").read_text()
    text = text.replace("  datasets: {}", "  datasets: {demo: {mae: 0.5}}")
    (repository / "params.yaml").write_text(text)
    commit_all(repository)
    result = measured(repository, {s: p + 0.5 for s, p in SAME.items()})
    assert result.exit_status == 0
    assert [row.margin for row in rows(result)] == [0.5, 0.03]
