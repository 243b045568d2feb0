"""Tasks of a study: a killed process, and the hash of the code."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.studies import tasks
from benchmarks.studies.tasks import code_key, run_missing
from dhmd.base.errors import DhmdError


@dataclass(frozen=True)
class Job:
    result: Path


def killed(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_ends_the_study_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match=r"was killed.*run the study again with fewer --processes"):
        run_missing([Job(tmp_path / "a.json")], killed, "jobs", num_processes=2)


def test_the_code_key_depends_on_names_and_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one" / "deep").mkdir(parents=True)
    (tmp_path / "one" / "deep" / "a.py").write_text("a = 1\n")
    (tmp_path / "b.py").write_text("b = 1\n")
    monkeypatch.setattr(tasks, "_ROOT", tmp_path)
    keys = [code_key("one"), code_key("one", "b.py")]
    (tmp_path / "b.py").write_text("b = 2\n")
    keys.append(code_key("one", "b.py"))
    (tmp_path / "one" / "deep" / "a.py").write_text("a = 2\n")
    keys.append(code_key("one"))
    (tmp_path / "one" / "deep" / "a.py").rename(tmp_path / "one" / "c.py")
    keys.append(code_key("one"))
    assert len(set(keys)) == len(keys)
