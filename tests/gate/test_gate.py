"""Every outcome of the gate in scratch repositories: 0 pass, 1 regressed, 2 not comparable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.gate.compare import NOT_COMPARABLE, NOT_JUDGED, PASS, REGRESSED
from dhmd.gate.gate import ACCEPTED, NEW, GateResult, run_gate, to_json
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


@pytest.fixture(scope="module")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    new_repository(root)
    write_params(root)
    write_metrics(root, predictions_of(SEEDS))
    commit_all(root, "base")
    return root


@pytest.fixture
def repository(tmp_path: Path, _template: Path) -> Path:
    """A repository with one commit: demo measured with five seeds."""
    return Path(shutil.copytree(_template, tmp_path / "a clone ü"))


def _gate(root: Path, **arguments: str) -> GateResult:
    result = run_gate(root, **({"base": "HEAD~1", "head": "HEAD"} | arguments))
    json.dumps(to_json(result), allow_nan=False)
    return result


def _reasons(result: GateResult) -> str:
    return " | ".join(reason for item in result.datasets for reason in item.reasons)


def _not_comparable(result: GateResult, *sentences: str) -> None:
    assert result.exit_status == 2
    assert result.verdict == NOT_COMPARABLE
    for sentence in sentences:
        assert sentence in _reasons(result)


# 0: pass


def test_the_same_metrics_pass(repository):
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    (item,) = result.datasets
    assert [row.metric for row in item.rows] == ["mae", "corr"]
    assert all(row.loss == 0 and row.n == 5 for row in item.rows)


def test_what_a_killed_evaluation_left_is_no_dataset(repository):
    left = repository / "metrics/.partial-0123456789ab-demo"
    left.mkdir()
    (left / "metrics.json").write_text("{")
    result = run_gate(repository)
    assert [item.dataset for item in result.datasets] == ["demo"]
    assert result.exit_status == 0


def test_the_workspace_against_the_merge_base_is_the_default(repository):
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-q", "-b", "work")
    write_metrics(repository, predictions_of(SEEDS, 0.9))
    result = run_gate(repository)
    assert result.exit_status == 1
    assert result.head == "the workspace"
    assert result.base == f"HEAD, the merge base with main ({base[:10]})"
    assert run_gate(repository, head="HEAD").exit_status == 0
    commit_all(repository)
    result = run_gate(repository)
    assert result.exit_status == 1
    assert result.base == f"merge base with main ({base[:10]})"


def test_on_the_main_branch_the_workspace_is_compared_with_its_last_commit(repository):
    write_metrics(repository, predictions_of(SEEDS, 0.9))
    commit_all(repository)
    head = git(repository, "rev-parse", "HEAD")
    result = run_gate(repository)
    assert result.exit_status == 0
    assert result.base == f"HEAD, the merge base with main ({head[:10]})"
    write_metrics(repository, predictions_of(SEEDS, 1.2))
    assert run_gate(repository).exit_status == 1


def _experiment(root: Path, name: str, error: float) -> str:
    """A commit on HEAD that only DVC's reference names, as `dvc exp run` leaves it."""
    baseline = git(root, "rev-parse", "HEAD")
    git(root, "checkout", "-q", "--detach")
    write_metrics(root, predictions_of(SEEDS, error))
    sha = commit_all(root)
    git(root, "checkout", "-q", "main")
    git(root, "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", sha)
    git(root, "update-ref", "refs/exps/exec/EXEC_HEAD", baseline)  # DVC's bookkeeping
    return sha


def test_experiments_go_by_their_names(repository):
    worse = _experiment(repository, "worse", 0.9)
    _experiment(repository, "better", 0.3)
    result = run_gate(repository, head="worse")
    assert result.exit_status == 1
    assert result.head == f"experiment worse ({worse[:10]})"
    assert result.base.startswith("HEAD, the merge base with main (")
    assert run_gate(repository, head="better").exit_status == 0
    assert run_gate(repository, base="better").exit_status == 1
    assert run_gate(repository, base="better", head="worse").exit_status == 1
    with pytest.raises(DhmdError, match="neither in Git nor as a DVC experiment"):
        run_gate(repository, head="EXEC_HEAD")


def test_of_experiments_of_one_name_the_one_from_here_is_meant(repository):
    _experiment(repository, "twice", 0.9)
    first = git(repository, "rev-parse", "HEAD")
    commit_all(repository)
    here = _experiment(repository, "twice", 0.3)
    result = run_gate(repository, head="twice")
    assert (result.exit_status, result.head) == (0, f"experiment twice ({here[:10]})")
    commit_all(repository)
    with pytest.raises(DhmdError, match=f"several experiments .* from the commits .*{first[:10]}"):
        run_gate(repository, head="twice")
    # What Git itself knows by the name comes first.
    git(repository, "branch", "twice")
    assert run_gate(repository, head="twice").head.startswith("twice (")


def test_another_order_of_seeds_passes(repository):
    write_metrics(repository, predictions_of((4, 1, 5, 3, 2)))
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    assert all(row.loss == pytest.approx(0, abs=1e-15) for row in result.datasets[0].rows)


def test_a_little_noise_passes(repository):
    rng = np.random.default_rng(0)
    noisy = {s: p + rng.normal(0, 1e-3, len(p)) for s, p in predictions_of(SEEDS).items()}
    write_metrics(repository, noisy)
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    assert all(row.loss != 0 for row in result.datasets[0].rows)


def test_another_order_of_utterances_passes(repository):
    order = np.random.default_rng(0).permutation(len(IDS))
    shuffled = {s: p[order] for s, p in predictions_of(SEEDS).items()}
    write_metrics(repository, shuffled, labels=labels_of()[order], ids=[IDS[row] for row in order])
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    assert result.datasets[0].rows[0].utterances == pytest.approx((0, 0), abs=1e-12)


def test_a_better_model_passes(repository):
    write_metrics(repository, predictions_of(SEEDS, 0.3))
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    assert result.datasets[0].rows[0].upper < 0


def test_more_seeds_than_before_pass_on_the_common_ones(repository):
    write_metrics(repository, predictions_of((*SEEDS, 6, 7)))
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    assert result.datasets[0].rows[0].n == 5
    assert result.datasets[0].notes == ("seeds [6, 7] are new and take no part",)


def test_a_project_below_the_repository_s_root(tmp_path):
    new_repository(tmp_path / "r")
    root = tmp_path / "r" / "sub"
    root.mkdir()
    write_params(root)
    write_metrics(root, predictions_of(SEEDS))
    commit_all(tmp_path / "r")
    write_metrics(root, predictions_of(SEEDS, 0.9))
    commit_all(tmp_path / "r")
    assert _gate(root).exit_status == 1
    assert _gate(root, base="HEAD").exit_status == 0


# 1: regressed


def test_a_worse_model_fails_with_its_metrics(repository):
    write_metrics(repository, predictions_of(SEEDS, 0.9))
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 1
    assert result.verdict == REGRESSED
    mae, corr = result.datasets[0].rows
    assert (mae.verdict, corr.verdict) == (REGRESSED, REGRESSED)
    labels = labels_of()
    errors = {
        e: np.array([np.abs(p - labels).mean() for p in predictions_of(SEEDS, e).values()])
        for e in (0.6, 0.9)
    }
    assert mae.loss == pytest.approx((errors[0.9] - errors[0.6]).mean(), rel=1e-6)
    assert mae.lower > 0
    assert mae.upper > mae.loss
    assert mae.utterances[0] < mae.loss < mae.utterances[1]
    assert corr.loss > 0


def test_only_the_worse_metric_fails(repository):
    # A constant shift worsens the error and leaves the correlation.
    write_metrics(repository, {s: p + 0.5 for s, p in predictions_of(SEEDS).items()})
    commit_all(repository)
    rows = _gate(repository).datasets[0].rows
    assert [row.verdict for row in rows] == [REGRESSED, PASS]


def test_a_large_but_unsure_loss_passes(repository):
    # One seed of five fails badly: the mean exceeds the margin, the bound does not exceed 0.
    predictions = predictions_of(SEEDS)
    predictions[3] = predictions[3] + 1.0
    write_metrics(repository, predictions)
    commit_all(repository)
    row = _gate(repository).datasets[0].rows[0]
    assert row.loss > row.margin
    assert row.lower < 0
    assert row.verdict == PASS


def test_a_sure_loss_within_the_margin_passes(repository):
    write_metrics(repository, predictions_of(SEEDS, 0.61))
    commit_all(repository)
    row = _gate(repository).datasets[0].rows[0]
    assert row.lower > 0
    assert row.loss < row.margin
    assert row.verdict == PASS


def test_classification_is_gated_by_f1(tmp_path):
    new_repository(tmp_path)
    write_params(tmp_path)
    for error in (0.3, 0.31, 0.8):
        write_metrics(
            tmp_path, predictions_of(SEEDS, error, "classification"), task="classification"
        )
        commit_all(tmp_path)
    assert _gate(tmp_path, base="HEAD~2", head="HEAD~1").exit_status == 0
    result = _gate(tmp_path)
    assert result.exit_status == 1
    assert [row.metric for row in result.datasets[0].rows] == ["f1"]


def test_constant_predictions_that_are_worse_are_regressed(repository):
    write_metrics(repository, {s: np.full(len(IDS), 0.1 * s) for s in SEEDS})
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 1
    assert [row.verdict for row in result.datasets[0].rows] == [REGRESSED, NOT_COMPARABLE]
    assert "corr is undefined in the head for seed 1: the predictions are constant" in _reasons(
        result
    )


def test_one_regressed_dataset_is_enough(repository):
    write_params(repository, datasets=("demo", "two"))
    write_metrics(repository, predictions_of(SEEDS), dataset="two")
    commit_all(repository)
    write_metrics(repository, predictions_of(SEEDS, 0.9), dataset="two")
    (repository / "metrics/demo/seeds.csv").unlink()
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 1
    assert [item.verdict for item in result.datasets] == [NOT_COMPARABLE, REGRESSED]


# 2: not comparable


def test_an_undefined_metric_is_no_pass(repository):
    better = {s: p for s, p in predictions_of(SEEDS, 0.1).items()}
    better[4] = np.full(len(IDS), 0.1)
    write_metrics(repository, better)
    commit_all(repository)
    _not_comparable(
        _gate(repository), "corr is undefined in the head for seed 4: the predictions are constant"
    )


def test_a_removed_seed(repository):
    write_metrics(repository, predictions_of((1, 2, 4, 5)))
    commit_all(repository)
    result = _gate(repository)
    _not_comparable(result, "demo lacks seeds [3] of the base")
    assert {row.verdict for row in result.datasets[0].rows} == {NOT_JUDGED}


@pytest.mark.parametrize(("seeds", "common"), [((5, 6, 7, 8, 9), 1), ((6, 7), 0)])
def test_fewer_than_two_common_seeds(repository, seeds, common):
    write_metrics(repository, predictions_of(seeds))
    commit_all(repository)
    _not_comparable(_gate(repository), f"{common} common seeds of demo, but at least 2")


def _edit(root: Path, name: str, old: str, new: str, dataset: str = "demo") -> None:
    path = root / "metrics" / dataset / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _mean(root: Path, split: str = "test", metric: str = "mae") -> str:
    metrics = json.loads((root / "metrics/demo/metrics.json").read_text())
    return repr(metrics[split][metric]["mean"])


def test_a_hand_edited_mean(repository):
    _edit(repository, "metrics.json", _mean(repository), "0.123")
    commit_all(repository)
    _not_comparable(
        _gate(repository),
        "metrics/demo/metrics.json: test mae mean is 0.123, but predictions.csv gives",
        "edited by hand or out of date",
    )


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("metrics.json", '"n_seeds": 5', '"n_seeds": 6', "n_seeds is 6"),
        ("metrics.json", '"mean": 0.', f'"mean": 1{400 * "0"}, "x": 0.', "is 1000"),
        ("metrics.json", '"undefined": []', '"undefined": ["test.corr"]', "undefined is"),
        ("metrics.json", '"n_seeds"', '"extra": 1.0, "n_seeds"', "extra is 1.0"),
        ("metrics.json", '"valid"', '"validation"', "valid is absent"),
        ("metrics.json", '"mean": ', '"mean": NaN, "was": ', "holds NaN"),
        ("metrics.json", "{", "", "not readable as JSON"),
        ("seeds.csv", "1,test,", "1,test,9", "seed 1, test mae is"),
        ("seeds.csv", "5,valid,", "5,valid,9", "metrics.json: valid mae mean is"),
        ("seeds.csv", "5,valid,", "6,valid,", "valid rows of seeds [1, 2, 3, 4, 6]"),
        ("seeds.csv", "5,test,", "5,test,nan,", "row 6"),
        ("truth.csv", "v00[0],-1", "v00[0],-2", "truth mae mean"),
        ("truth.csv", "v00[0],", "v00[9],", "other utterances"),
        ("identity.json", '"demo"', '"other"', "is of the dataset other"),
        ("identity.json", '"task"', '"kind"', "must hold exactly"),
        ("identity.json", '"regression"', '"guessing"', "task is 'guessing'"),
        ("predictions.csv", "seed_5", "seed_x", "the header must be"),
    ],
)
def test_edited_files_are_named(repository, name, old, new, sentence):
    _edit(repository, name, old, new)
    commit_all(repository)
    result = _gate(repository)
    _not_comparable(result, "metrics/demo/", sentence)
    # An edited base is refused as well, and cannot be mended by a good head.
    write_metrics(repository, predictions_of(SEEDS))
    commit_all(repository)
    _not_comparable(_gate(repository), sentence)


def test_nan_among_predictions(repository):
    path = repository / "metrics/demo/predictions.csv"
    lines = path.read_text().splitlines()
    lines[7] = lines[7].rsplit(",", 1)[0] + ",nan"
    path.write_text("\n".join(lines) + "\n")
    commit_all(repository)
    _not_comparable(_gate(repository), "predictions.csv: v01[1], seed_5 is 'nan'")


def test_edited_predictions_disagree_with_the_rest(repository):
    _edit(repository, "predictions.csv", "v00[0],-1", "v00[0],-2")
    commit_all(repository)
    _not_comparable(_gate(repository), "seeds.csv: seed 1, test mae is")


def test_other_labels_under_the_same_identity(repository):
    labels = labels_of()
    labels[:20] = predictions_of(SEEDS)[1][:20]
    write_metrics(repository, predictions_of(SEEDS), labels=labels)
    commit_all(repository)
    _not_comparable(_gate(repository), "predictions.csv holds other ids or labels than the base's")


def test_left_out_utterances_under_the_same_identity(repository):
    kept = {s: p[:90] for s, p in predictions_of(SEEDS).items()}
    write_metrics(repository, kept, labels=labels_of()[:90], ids=IDS[:90])
    commit_all(repository)
    _not_comparable(_gate(repository), "holds other ids or labels")


def test_a_missing_dataset(repository):
    git(repository, "rm", "-rq", "metrics/demo")
    commit_all(repository)
    _not_comparable(_gate(repository), "metrics/demo is missing in HEAD")


def test_a_dataset_that_was_never_measured(repository):
    write_params(repository, datasets=("demo", "mosi"))
    commit_all(repository)
    _not_comparable(_gate(repository), "datasets names mosi, but metrics/mosi is missing")


@pytest.mark.parametrize("name", ["metrics.json", "seeds.csv", "predictions.csv", "identity.json"])
def test_a_missing_file(repository, name):
    (repository / "metrics/demo" / name).unlink()
    commit_all(repository)
    _not_comparable(_gate(repository), f"lacks {name}")


def test_a_missing_truth_is_missed(repository):
    (repository / "metrics/demo/truth.csv").unlink()
    commit_all(repository)
    _not_comparable(_gate(repository), "predictions.csv gives nothing")


def test_a_dataset_dropped_from_the_list(repository):
    write_params(repository, datasets=("two",))
    write_metrics(repository, predictions_of(SEEDS), dataset="two")
    commit_all(repository)
    _not_comparable(_gate(repository), "demo was dropped from datasets")


def test_another_corpus(repository):
    write_metrics(repository, predictions_of(SEEDS), corpus=OTHER)
    commit_all(repository)
    _not_comparable(
        _gate(repository), "demo is another corpus", f'from: "corpus:{OLD}", to: "corpus:{OTHER}"'
    )


def test_another_fold(repository):
    write_metrics(repository, predictions_of(SEEDS), corpus=OTHER, fold="speaker")
    commit_all(repository)
    _not_comparable(_gate(repository), "demo is measured on another fold: 0 became speaker")
    write_metrics(repository, predictions_of(SEEDS), fold="speaker")
    commit_all(repository)
    _not_comparable(_gate(repository, base="HEAD~2"), "names fold speaker for the corpus identity")


def test_another_protocol(repository):
    write_metrics(repository, predictions_of(SEEDS), protocol="0")
    commit_all(repository)
    _not_comparable(_gate(repository), "demo is measured by another protocol", "cannot check")
    # The way back is a change of protocol as well.
    write_metrics(repository, predictions_of(SEEDS))
    commit_all(repository)
    _not_comparable(_gate(repository), 'from: "protocol:0", to: "protocol:1"')


def test_both_sides_of_a_protocol_that_this_code_does_not_know(repository):
    for error in (0.6, 0.7):
        write_metrics(repository, predictions_of(SEEDS, error), protocol="99")
        commit_all(repository)
    _not_comparable(_gate(repository), "protocol 99, which this version")


def test_another_task(repository):
    write_metrics(
        repository,
        predictions_of(SEEDS, 0.3, "classification"),
        task="classification",
        corpus=OTHER,
    )
    commit_all(repository)
    _not_comparable(_gate(repository), "demo was a regression and is a classification")


def test_other_margins(repository):
    write_params(repository, mae=0.5)
    write_metrics(repository, predictions_of(SEEDS, 0.9))
    commit_all(repository)
    result = _gate(repository)
    _not_comparable(
        result,
        "margins of demo changed",
        'from: "margins:corr=0.03,mae=0.03", to: "margins:corr=0.03,mae=0.5"',
    )
    assert result.datasets[0].rows[0].margin == 0.03


def test_nothing_to_compare_with(tmp_path):
    new_repository(tmp_path)
    write_params(tmp_path)
    commit_all(tmp_path)
    write_metrics(tmp_path, predictions_of(SEEDS))
    commit_all(tmp_path)
    result = _gate(tmp_path)
    assert result.exit_status == 2
    assert result.datasets[0].verdict == NEW
    assert "holds no metrics to compare with" in result.notes[0]


def test_a_new_dataset_beside_a_compared_one(repository):
    write_params(repository, datasets=("demo", "two"))
    write_metrics(repository, predictions_of(SEEDS), dataset="two")
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    assert [item.verdict for item in result.datasets] == [PASS, NEW]
    _edit(repository, "metrics.json", '"n_seeds": 5', '"n_seeds": 6', dataset="two")
    commit_all(repository)
    assert _gate(repository, base="HEAD~2").exit_status == 2


def test_folders_without_metrics_are_no_datasets(repository):
    (repository / "metrics/studies").mkdir()
    (repository / "metrics/studies/distillation.json").write_text("{}")
    (repository / "metrics/note.txt").write_text("x")
    commit_all(repository)
    assert [item.dataset for item in _gate(repository).datasets] == ["demo"]


# Accepted changes


def _accept(root: Path, from_: str, to: str, **arguments: object) -> None:
    entry = {"dataset": "demo", "from": from_, "to": to, "reason": "labels were corrected"}
    write_params(root, accept=[entry], **arguments)  # type: ignore[arg-type]


def test_an_accepted_corpus_is_shown_and_not_judged(repository):
    write_metrics(repository, predictions_of(SEEDS, 0.9), corpus=OTHER)
    _accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    (item,) = result.datasets
    assert item.verdict == ACCEPTED
    assert {row.verdict for row in item.rows} == {NOT_JUDGED}
    assert item.accepted[0].reason == "labels were corrected"
    # Only these identities: the next change needs its own entry.
    write_metrics(repository, predictions_of(SEEDS), corpus="e" * 64)
    commit_all(repository)
    _not_comparable(_gate(repository), "demo is another corpus")


@pytest.mark.parametrize(
    ("from_", "to"),
    [
        (f"corpus:{OTHER}", f"corpus:{OLD}"),
        (f"corpus:{OLD}", "corpus:"),
        (OLD, OTHER),
        (f"corpus:{OLD[:12]}", f"corpus:{OTHER[:12]}"),
    ],
)
def test_entries_that_name_something_else_do_not_count(repository, from_, to):
    write_metrics(repository, predictions_of(SEEDS), corpus=OTHER)
    _accept(repository, from_, to)
    commit_all(repository)
    _not_comparable(_gate(repository), "demo is another corpus")


def test_an_entry_must_be_committed(repository):
    write_metrics(repository, predictions_of(SEEDS), corpus=OTHER)
    _accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    base = git(repository, "rev-parse", "HEAD")
    result = run_gate(repository, base=base)
    _not_comparable(result, "demo is another corpus")
    assert "is not committed yet and does not count" in result.notes[0]
    commit_all(repository)
    assert run_gate(repository, base=base).exit_status == 0


def test_accepted_data_does_not_excuse_a_removed_seed(repository):
    write_metrics(repository, predictions_of((1, 2, 3)), corpus=OTHER)
    _accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    commit_all(repository)
    _not_comparable(_gate(repository), "lacks seeds [4, 5]")


def test_accepted_data_may_mend_an_undefined_metric_but_not_bring_one(repository):
    flat = {s: np.full(len(IDS), 0.1) for s in SEEDS}
    write_metrics(repository, flat, corpus=OTHER)
    _accept(repository, f"corpus:{OLD}", f"corpus:{OTHER}")
    commit_all(repository)
    _not_comparable(_gate(repository), "corr is undefined in the head")
    write_metrics(repository, predictions_of(SEEDS), corpus=OLD)
    _accept(repository, f"corpus:{OTHER}", f"corpus:{OLD}")
    commit_all(repository)
    assert _gate(repository).exit_status == 0


def test_accepted_margins_count_from_the_next_change_on(repository):
    margins = "margins:corr=0.03,mae=0.03", "margins:corr=0.03,mae=0.5"
    write_metrics(repository, predictions_of(SEEDS, 0.9))
    _accept(repository, *margins, mae=0.5)
    commit_all(repository)
    assert _gate(repository).exit_status == 1
    write_metrics(repository, predictions_of(SEEDS))
    commit_all(repository)
    assert _gate(repository, base="HEAD~2").exit_status == 0


def test_an_accepted_protocol_is_judged_by_this_one(repository):
    write_metrics(repository, predictions_of(SEEDS), protocol="0")
    commit_all(repository)
    _accept(repository, "protocol:0", "protocol:1")
    write_metrics(repository, predictions_of(SEEDS))
    commit_all(repository)
    assert _gate(repository).exit_status == 0
    write_metrics(repository, predictions_of(SEEDS, 0.9))
    commit_all(repository)
    assert _gate(repository, base="HEAD~2").exit_status == 1


@pytest.mark.parametrize("keep", [True, False])
def test_an_accepted_farewell(repository, keep):
    write_metrics(repository, predictions_of(SEEDS), dataset="two")
    entry = {"dataset": "demo", "from": f"corpus:{OLD}", "to": "corpus:none"}
    write_params(repository, datasets=("two",), accept=[entry])
    if not keep:
        git(repository, "rm", "-rq", "metrics/demo")
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    assert [item.verdict for item in result.datasets] == [ACCEPTED, NEW]


def test_an_accepted_first_measurement(tmp_path):
    new_repository(tmp_path)
    write_params(tmp_path)
    commit_all(tmp_path)
    write_metrics(tmp_path, predictions_of(SEEDS))
    _accept(tmp_path, "corpus:none", f"corpus:{OLD}")
    commit_all(tmp_path)
    assert _gate(tmp_path).exit_status == 0


def test_the_first_margins_are_accepted_and_used(repository):
    (repository / "params.yaml").write_text("datasets:\n  - demo\n")
    commit_all(repository)
    write_metrics(repository, predictions_of(SEEDS, 0.9))
    write_params(repository)
    commit_all(repository)
    _not_comparable(_gate(repository), 'from: "margins:none"')
    _accept(repository, "margins:none", "margins:corr=0.03,mae=0.03")
    commit_all(repository)
    assert _gate(repository, base="HEAD~2").exit_status == 1


# What cannot even be read


def test_revisions_that_do_not_exist(repository):
    for name in ("nowhere", "--help", "HEAD~9"):
        with pytest.raises(DhmdError, match="is not in this clone"):
            run_gate(repository, base=name)
    git(repository, "branch", "-m", "main", "trunk")
    with pytest.raises(DhmdError, match="no main branch here"):
        run_gate(repository)
    assert run_gate(repository, base="trunk").exit_status == 0


def test_outside_git(tmp_path):
    write_params(tmp_path)
    for base in (None, "HEAD"):
        with pytest.raises(DhmdError, match="Git revisions are needed here"):
            run_gate(tmp_path, base=base)


def test_histories_that_share_nothing(repository):
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
        ("datasets: [demo]\ngate:\n  metrics: [acc9]\n  margins: {acc9: 1}\n", "names 'acc9'"),
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
def test_params_that_say_nonsense(repository, text, sentence):
    (repository / "params.yaml").write_text(text, encoding="utf-8")
    commit_all(repository)
    with pytest.raises(DhmdError) as error:
        _gate(repository)
    assert sentence in str(error.value)
    assert "params.yaml of HEAD" in str(error.value)


def test_margins_of_one_dataset(repository):
    text = (repository / "params.yaml").read_text()
    text = text.replace("  datasets: {}", "  datasets: {demo: {mae: 0.5}}")
    (repository / "params.yaml").write_text(text)
    commit_all(repository)
    write_metrics(repository, {s: p + 0.5 for s, p in predictions_of(SEEDS).items()})
    commit_all(repository)
    result = _gate(repository)
    assert result.exit_status == 0
    assert [row.margin for row in result.datasets[0].rows] == [0.5, 0.03]
