"""On full disks and with missing or truncated inputs, stages print one sentence and no output."""

from __future__ import annotations

import importlib
import logging
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.children import ERROR, Outcome, run_in_child
from tests.faults.conftest import Reference
from tests.faults.project import OUTPUTS, STAGES, Project

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ENOSPC = 28
SHORT_STEP = 40  # the short form tries every 40th write
LONG_STEP = 20

# Imported before the first fork, so that child processes need not import them.
MODULES = (
    *("torch", "h5py", "pandas", "scipy.stats", "safetensors.torch", "dhmd.data.synthetic"),
    *("dhmd.data.download", "dhmd.data.alignment", "dhmd.data.formats", "dhmd.ablation.variants"),
    *("dhmd.training.jobs", "dhmd.evaluation.job", "dhmd.report.job", "stages._entry"),
)


def run_stage(
    project: Project, stage: str, *before: Callable[[], None], dataset: str = "demo"
) -> Outcome:
    """Run a stage in a child process, which first calls the functions `before`."""
    for name in MODULES:
        importlib.import_module(name)
    import stages._entry as entry

    work = importlib.import_module(f"stages.{stage}").work

    def child() -> int:
        entry._check_code_location = lambda: None
        entry._handle_signals = lambda name: None
        logging.getLogger().handlers.clear()  # of pytest
        for prepare in before:
            prepare()
        return entry.run_stage(stage, work, [dataset])

    return run_in_child(child, seconds=120, folder=project.folder, memory=4 << 30)


def full_after(number: int) -> Callable[[], None]:
    """Return a function that makes all writes fail after the first `number` of them.

    A write is a file that is opened, a folder that is created, or a renaming.
    """

    def install_hook() -> None:
        folder, writes_so_far = str(Path.cwd()), 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal writes_so_far
            if event == "open":
                path, _, flags = arguments
                writes = isinstance(flags, int) and flags & WRITING
            elif event in ("os.mkdir", "os.rename"):
                path, writes = arguments[0], True
            else:
                return
            if not writes or isinstance(path, int) or not isinstance(path, str | os.PathLike):
                return
            if not os.path.abspath(path).startswith(folder) or "__pycache__" in str(path):
                return
            writes_so_far += 1
            if writes_so_far > number:
                raise OSError(ENOSPC, "No space left on device", str(path))

        sys.addaudithook(hook)

    return install_hook


def small_files(size: int) -> Callable[[], None]:
    """Return a function that limits the size of files in bytes, for all libraries."""

    def install_hook() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return install_hook


def check(outcome: Outcome, what: str) -> str:
    """Return `success` or `refused`; log lines may come before the sentence."""
    context = f"{what}: status {outcome.status}: {outcome.printed[-3000:]}"
    assert outcome.status in (0, ERROR), context
    assert "Traceback" not in outcome.printed, context
    if outcome.status == ERROR:
        assert outcome.printed.splitlines()[-1].startswith("stage "), context
    return "success" if outcome.status == 0 else "refused"


def check_no_leftovers(project: Project, stage: str, what: str) -> None:
    assert project.contents(stage) == {}, f"{stage} after {what}: incomplete output"
    leftovers = [
        name for name in project.leftovers() if not name.startswith(".dhmd/trainings/tasks/")
    ]
    assert leftovers == [], f"{stage} after {what}"


def skip_in_short_form(stage: str, long: bool, *stages: str) -> None:
    """Skip the test in the short form, except for these stages."""
    if not long and stage not in stages:
        pytest.skip("the long form: run `make faults`")


def files_of(project: Project, names: tuple[str, ...]) -> list[Path]:
    paths = [project.folder / name for name in names]
    return [
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.is_file()
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_resumes_after_a_full_disk_at_any_write(
    stage: str, reference: Reference, tmp_path: Path, long: bool
) -> None:
    skip_in_short_form(stage, long, "train")
    project = reference.copy_before(tmp_path / "project", stage)
    writes = 0
    while True:
        project.remove_outputs(stage)
        shutil.rmtree(project.folder / ".dhmd", ignore_errors=True)
        outcome = run_stage(project, stage, full_after(writes))
        result = check(outcome, f"{stage}, disk full after {writes} writes")
        if result == "success" and project.contents(stage) == reference.contents[stage]:
            break  # the stage has fewer writes
        assert result == "refused", outcome.printed
        check_no_leftovers(project, stage, f"write {writes}")
        writes += LONG_STEP if long else SHORT_STEP
        assert writes < 400
    assert check(run_stage(project, stage), stage) == "success"
    assert project.contents(stage) == reference.contents[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_fails_if_a_file_cannot_be_written_completely(
    stage: str, reference: Reference, tmp_path: Path, long: bool
) -> None:
    skip_in_short_form(stage, long, "align")
    project = reference.copy_before(tmp_path / "project", stage)
    sizes = [path.stat().st_size for path in files_of(reference.project, OUTPUTS[stage])]
    outcome = run_stage(project, stage, small_files(max(sizes) // 2))
    assert check(outcome, stage) == "refused"
    check_no_leftovers(project, stage, "a file that is too large")
    assert check(run_stage(project, stage), stage) == "success"
    assert project.contents(stage) == reference.contents[stage]


READS = {
    "align": ("data/raw/demo",),
    "pretrain": ("data/aligned/demo.h5",),
    "train": ("data/aligned/demo.h5", "pretrained/demo"),
    "ablate": ("data/aligned/demo.h5", "pretrained/demo"),
    "evaluate": ("data/aligned/demo.h5", "pretrained/demo", "models/demo", "ablations/demo"),
    "report": ("data/aligned/demo.h5", "pretrained/demo", "models/demo", "metrics/demo"),
}


@pytest.mark.parametrize("stage", READS)
def test_a_missing_input_is_named(
    stage: str, reference: Reference, tmp_path: Path, long: bool
) -> None:
    skip_in_short_form(stage, long, "align")
    project = reference.copy_before(tmp_path / "project", stage)
    for name in READS[stage]:
        path = project.folder / name
        path.rename(tmp_path / "aside")
        outcome = run_stage(project, stage)
        assert check(outcome, f"{stage} without {name}") == "refused"
        assert name.partition("/demo")[0] in outcome.printed, outcome.printed
        check_no_leftovers(project, stage, f"without {name}")
        (tmp_path / "aside").rename(path)


@pytest.mark.parametrize("stage", READS)
def test_a_truncated_input_is_named(
    stage: str, reference: Reference, tmp_path: Path, long: bool
) -> None:
    """The stage fails with a message that names the file, unless it does not read the file.

    CSV files are left out: one with fewer rows is valid, and they are in Git or hashed by DVC.
    """
    skip_in_short_form(stage, long, "train")
    project = reference.copy_before(tmp_path / "project", stage)
    errors = 0
    names = tuple(name for name in READS[stage] if "metrics" not in name)
    for path in (path for path in files_of(project, names) if path.suffix != ".csv"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        outcome = run_stage(project, stage)
        what = f"{stage}, {path.relative_to(project.folder)} truncated"
        if check(outcome, what) == "success":
            assert project.contents(stage) == reference.contents[stage], what
        else:
            errors += 1
            assert path.name in outcome.printed, f"{what}: {outcome.printed}"
            check_no_leftovers(project, stage, what)
        project.remove_outputs(stage)
        path.write_bytes(content)
    assert errors
