"""The GitHub workflow: most of its commands run here, as they do on a workstation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dhmd.config.yaml12 import load_yaml
from tests.gate.fakes import predictions_of, write_metrics
from tests.pipeline.scratch import Scratch

ROOT = Path(__file__).parents[2]

# They take minutes or need all stages; other tests cover them.
LONG = ("make install", "make test", ".venv/bin/dhmd report")

# A stage of the demo that only copies what evaluate would write.
PIPELINE = """
stages:
  report:
    matrix:
      dataset: ${datasets}
    cmd: cp -r made/${item.dataset} metrics/
    deps:
      - made/${item.dataset}
    metrics:
      - metrics/${item.dataset}/metrics.json:
          cache: false
    outs:
      - metrics/${item.dataset}/details:
          cache: false
"""


def workflow() -> Mapping[str, Any]:
    value = load_yaml(ROOT / ".github" / "workflows" / "ci.yml", "ci.yml")
    assert isinstance(value, dict)
    return value


def steps() -> Iterator[Mapping[str, Any]]:
    for job in workflow()["jobs"].values():
        yield from job["steps"]


def commands() -> list[str]:
    """Return every line for a shell, but for those that write the comment's file."""
    lines = [line for step in steps() for line in step.get("run", "").splitlines()]
    plain = [re.split(r" (?:\||>>) ", line)[0].removesuffix(" --markdown") for line in lines]
    return [line for line in plain if line != "mkdir -p .dhmd"]


def test_the_pages_show_every_command() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {
        line.split("  #")[0].strip()
        for page in pages
        for block in re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        for line in block.splitlines()
    }
    assert set(commands()) - {".venv/bin/dhmd report"} <= shown


def test_no_text_of_a_pull_request_reaches_a_shell() -> None:
    for step in steps():
        assert "${{" not in step.get("run", "")
        assert "${{" not in step.get("with", {}).get("script", "")
    pipeline = workflow()["jobs"]["pipeline"]
    assert pipeline["env"] == {"BASE": "${{ github.event.pull_request.base.sha }}"}
    assert set(workflow()["on"]) == {"pull_request", "push"}  # no pull_request_target
    assert workflow()["permissions"] == {"contents": "read"}
    assert pipeline["permissions"] == {"contents": "read", "pull-requests": "write"}


def test_the_gate_has_the_history_and_its_exit_status_counts() -> None:
    checkout = workflow()["jobs"]["pipeline"]["steps"][0]
    assert checkout["uses"].startswith("actions/checkout@")
    assert checkout["with"]["fetch-depth"] == 0
    gate = next(step for step in steps() if step.get("id") == "gate")
    assert gate["shell"] == "bash"  # GitHub runs this name with -eo pipefail


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, str]]:
    """Clone a project whose last commit makes a metric worse; return it and its environment."""
    folder = tmp_path_factory.mktemp("ci")
    project = Scratch(folder, pipeline=PIPELINE)
    shutil.copy(ROOT / "Makefile", project.folder)
    project("git", "add", "Makefile")
    reproduce(project, error=0.6)
    base = project("git", "rev-parse", "HEAD").strip()
    reproduce(project, error=0.9)
    project("git", "clone", "-q", os.fspath(project.folder), os.fspath(folder / "clone"))
    (folder / "clone" / ".venv").symlink_to(Path(sys.executable).parents[1])
    return folder / "clone", {**project.environment, "BASE": base}


def reproduce(project: Scratch, *, error: float) -> None:
    """Reproduce and commit the metrics of predictions with this error."""
    made = project.folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    write_metrics(made, predictions_of((1, 2, 3, 4, 5), error))
    (made / "metrics" / "demo").rename(made / "demo")
    (project.folder / "metrics").mkdir(exist_ok=True)
    project("dvc", "repro")
    project("git", "add", "made", "metrics", "dvc.lock")
    project("git", "commit", "-q", "-m", f"error {error}")


def run(step: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a step's commands as GitHub does; return exit status and output."""
    options = ["-eo", "pipefail"] if step.get("shell") == "bash" else ["-e"]
    # .venv is a link to an installed environment.
    script = step["run"].replace("make repro", "make -o .venv/.installed repro")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", *options, "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_the_commands_run_on_a_fresh_clone(clone: tuple[Path, Mapping[str, str]]) -> None:
    folder, environment = clone
    found = {
        step["name"]: run(step, folder, environment)
        for step in workflow()["jobs"]["pipeline"]["steps"]
        if "run" in step and step["run"] not in LONG
    }
    assert {name: status for name, (status, _) in found.items()} == {
        "Is dvc.lock current with code and params?": 0,
        "Reproduce the demo": 0,
        "Has a metric become worse?": 1,
        "What moved?": 0,
        "Are the committed metrics reproduced here?": 0,
    }, found
    # The comment is written although the gate failed.
    comment = (folder / ".dhmd" / "comment.md").read_text(encoding="utf-8")
    assert comment.startswith("### Gate: regressed (exit 1)")
    assert "| demo | mae | 5 | " in comment
    assert "| metrics/demo/metrics.json | test.mae |" in re.sub(" +", " ", comment)

    (folder / "metrics" / "demo" / "metrics.json").write_text("{}")
    lock_check = {"run": ".venv/bin/dhmd lock-check"}
    status, printed = run(lock_check, folder, environment)
    assert (status, printed.splitlines()[0]) == (
        1,
        "stale: report@demo (metrics/demo/metrics.json modified)",
    )
