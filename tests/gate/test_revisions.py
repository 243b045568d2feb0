"""Test which revisions the gate compares: Git revisions, DVC experiments, the workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.gate.gate import run_gate
from tests.gate.fakes import (
    SAME,
    SEEDS,
    WORSE,
    commit_all,
    gate_predictions,
    git,
    new_repository,
    predictions_of,
    write_metrics,
    write_params,
)


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


def test_the_workspace_is_compared_with_the_last_commit_on_the_main_branch(repository):
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


def test_the_experiment_of_this_commit_is_preferred_to_others_of_its_name(repository):
    experiment(repository, "twice", 0.9)
    first = git(repository, "rev-parse", "HEAD")
    commit_all(repository)
    sha = experiment(repository, "twice", 0.3)
    result = run_gate(repository, head="twice")
    assert (result.exit_status, result.head) == (0, f"experiment twice ({sha[:10]})")
    commit_all(repository)
    with pytest.raises(DhmdError, match=f"several experiments .* from the commits .*{first[:10]}"):
        run_gate(repository, head="twice")
    # A Git revision of that name has precedence.
    git(repository, "branch", "twice")
    assert run_gate(repository, head="twice").head.startswith("twice (")


def test_the_project_may_be_a_subdirectory_of_the_repository(tmp_path):
    new_repository(tmp_path)
    root = tmp_path / "sub"
    root.mkdir()
    write_params(root)
    write_metrics(root, SAME)
    commit_all(root)
    assert gate_predictions(root, WORSE).exit_status == 1
    assert run_gate(root, base="HEAD").exit_status == 0


def test_an_unknown_revision_is_an_error(repository):
    for name in ("nowhere", "--help", "HEAD~9"):
        with pytest.raises(DhmdError, match="is not in this clone"):
            run_gate(repository, base=name)
    git(repository, "branch", "-m", "main", "trunk")
    with pytest.raises(DhmdError, match="this clone has no main branch"):
        run_gate(repository)
    assert run_gate(repository, base="trunk").exit_status == 0


def test_a_missing_repository_or_common_commit_is_an_error(repository, tmp_path):
    write_params(tmp_path)
    for base in (None, "HEAD"):
        with pytest.raises(DhmdError, match="the command needs a Git repository"):
            run_gate(tmp_path, base=base)
    git(repository, "checkout", "-q", "--orphan", "other")
    commit_all(repository)
    with pytest.raises(DhmdError, match="have no common commit"):
        run_gate(repository)
