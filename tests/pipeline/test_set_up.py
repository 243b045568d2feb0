"""Installation and the make targets of a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_the_dependencies_of_pyproject() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["text"], *extras["test"]]:
        needed = Requirement(text)
        if needed.name == project["name"]:
            assert needed.extras <= set(extras)
            continue
        assert normalised(needed.name) in pins, text
        assert needed.specifier.contains(pins[normalised(needed.name)]), text
    assert all(name == normalised(name) and "+" not in version for name, version in pins.items())


def test_continuous_integration_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text("utf-8")
    assert "set -euo pipefail" in text
    assert text.rstrip().endswith("make test")
    subprocess.run(["bash", "-n", script], check=True)


def test_make_help_lists_the_targets_and_repro_uses_the_environment() -> None:
    help_text = subprocess.run(
        ["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True
    ).stdout
    for target in ("repro", "smoke", "test", "lint", "faults", "install", "clean"):
        assert re.search(rf"^{target} ", help_text, re.MULTILINE), help_text
    plan = subprocess.run(
        ["make", "-C", ROOT, "-n", "repro"], capture_output=True, text=True, check=True
    ).stdout
    commands = [".venv/bin/dhmd config check", "rm -f .dvc/tmp/rwlock", ".venv/bin/dvc repro"]
    positions = [plan.index(command) for command in (*commands, ".venv/bin/dhmd summary")]
    assert positions == sorted(positions)


@pytest.mark.parametrize("content", ["", "{", '{"write": {}, "read', '{"write": {}, "read": {}}'])
def test_make_repro_removes_a_truncated_lock_of_dvc(tmp_path: Path, content: str) -> None:
    rwlock = tmp_path / ".dvc" / "tmp" / "rwlock"
    rwlock.parent.mkdir(parents=True)
    rwlock.write_text(content)
    shutil.copy(ROOT / "Makefile", tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    for name in ("dhmd", "dvc"):
        (programs / name).symlink_to(shutil.which("true") or "")
    subprocess.run(["make", "-C", tmp_path, "-o", ".venv/.installed", "repro"], check=True)
    assert rwlock.exists() == content.endswith("}}")


def test_make_smoke_does_not_change_the_folder() -> None:
    status = ["git", "-C", ROOT, "status", "--porcelain"]
    before = subprocess.run(status, capture_output=True, check=True).stdout
    process = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    summary, end = process.stdout.splitlines()
    assert summary.startswith("demo: test MAE ")
    assert "over 1 seed; report: reports/demo/index.html" in summary
    assert end.startswith("smoke: every stage of demo ran")
    assert subprocess.run(status, capture_output=True, check=True).stdout == before


def test_dvc_is_configured_and_ignores_temporary_files() -> None:
    config = (ROOT / ".dvc" / "config").read_text("utf-8")
    for line in ("analytics = false", "check_update = false", "autostage = false"):
        assert line in config
    ignored = (ROOT / ".dvcignore").read_text("utf-8").split()
    assert {"__pycache__/", ".dhmd/", ".partial-*"} <= set(ignored)


def test_a_clone_with_autocrlf_has_the_same_bytes(tmp_path: Path) -> None:
    clone = ["git", "clone", "--quiet", "-c", "core.autocrlf=true", str(ROOT), str(tmp_path / "c")]
    subprocess.run(clone, check=True)
    for name in ("dvc.yaml", "params.yaml", "stages/train.py", "recipes/demo.yaml"):
        committed = subprocess.run(
            ["git", "show", f"HEAD:{name}"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        assert (tmp_path / "c" / name).read_bytes() == committed.stdout
