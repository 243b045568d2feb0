"""Full and read-only disks, and inputs that are missing or cut: one sentence, and no output."""

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

from tests.faults.children import REFUSED, Outcome, in_child
from tests.faults.conftest import Reference
from tests.faults.project import OUTPUTS, STAGES, Project

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ENOSPC = 28
SHORT_STEP = 40  # the short form tries every 40th write
LONG_STEP = 20

# Imported before the first fork, so that no child does.
MODULES = (
    *("torch", "h5py", "pandas", "scipy.stats", "safetensors.torch", "dhmd.data.synthetic"),
    *("dhmd.data.download", "dhmd.data.alignment", "dhmd.data.formats", "dhmd.ablation.variants"),
    *("dhmd.training.jobs", "dhmd.evaluation.job", "dhmd.report.job", "stages._entry"),
)


def run_stage(
    project: Project, stage: str, *before: Callable[[], None], dataset: str = "demo"
) -> Outcome:
    """Run a stage in a child of this process, after each function of `before`."""
    for name in MODULES:
        importlib.import_module(name)
    import stages._entry as entry

    work = importlib.import_module(f"stages.{stage}").work

    def child() -> int:
        entry._check_code_location = lambda: None
        entry._handle_signals = lambda name: None
        logging.getLogger().handlers.clear()  # pytest's own
        for prepare in before:
            prepare()
        return entry.run_stage(stage, work, [dataset])

    return in_child(child, seconds=120, folder=project.folder, memory=4 << 30)


def full_after(number: int) -> Callable[[], None]:
    """Let the child's disk be full from the n-th opened file, new folder or renaming on."""

    def arm() -> None:
        here, seen = str(Path.cwd()), 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event == "open":
                path, _, flags = arguments
                writes = isinstance(flags, int) and flags & WRITING
            elif event in ("os.mkdir", "os.rename"):
                path, writes = arguments[0], True
            else:
                return
            if not writes or isinstance(path, int) or not isinstance(path, str | os.PathLike):
                return
            if not os.path.abspath(path).startswith(here) or "__pycache__" in str(path):
                return
            seen += 1
            if seen > number:
                raise OSError(ENOSPC, "No space left on device", str(path))

        sys.addaudithook(hook)

    return arm


def small_files(size: int) -> Callable[[], None]:
    """Let no file of the child grow beyond `size` bytes, whichever library writes it."""

    def arm() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return arm


def check(outcome: Outcome, what: str) -> str:
    """Return `success` or `refused`; a training's log may stand before the sentence."""
    context = f"{what}: status {outcome.status}: {outcome.printed[-3000:]}"
    assert outcome.status in (0, REFUSED), context
    assert "Traceback" not in outcome.printed, context
    if outcome.status == REFUSED:
        assert outcome.printed.splitlines()[-1].startswith("stage "), context
    return "success" if outcome.status == 0 else "refused"


def nothing_left(project: Project, stage: str, what: str) -> None:
    assert project.contents(stage) == {}, f"{stage} after {what}: half an output"
    left = [name for name in project.leftovers() if not name.startswith(".dhmd/trainings/tasks/")]
    assert left == [], f"{stage} after {what}"


def only_short(stage: str, long: bool, *stages: str) -> None:
    """Skip the other stages in the short form."""
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
def test_a_disk_that_is_full_at_any_write(
    stage: str, reference: Reference, tmp_path: Path, long: bool
) -> None:
    only_short(stage, long, "train")
    project = reference.upto(tmp_path / "project", stage)
    number = 0
    while True:
        project.remove_outputs(stage)
        shutil.rmtree(project.folder / ".dhmd", ignore_errors=True)
        outcome = run_stage(project, stage, full_after(number))
        found = check(outcome, f"{stage}, disk full after {number} writes")
        if found == "success" and project.contents(stage) == reference.contents[stage]:
            break  # it does not write so often
        assert found == "refused", outcome.printed
        nothing_left(project, stage, f"write {number}")
        number += LONG_STEP if long else SHORT_STEP
        assert number < 400
    assert check(run_stage(project, stage), stage) == "success"
    assert project.contents(stage) == reference.contents[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_file_that_cannot_be_written_to_its_end(
    stage: str, reference: Reference, tmp_path: Path, long: bool
) -> None:
    only_short(stage, long, "align")
    project = reference.upto(tmp_path / "project", stage)
    sizes = [path.stat().st_size for path in files_of(reference.project, OUTPUTS[stage])]
    outcome = run_stage(project, stage, small_files(max(sizes) // 2))
    assert check(outcome, stage) == "refused"
    nothing_left(project, stage, "a file that is too large")
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
def test_an_input_that_is_missing(
    stage: str, reference: Reference, tmp_path: Path, long: bool
) -> None:
    only_short(stage, long, "align")
    project = reference.upto(tmp_path / "project", stage)
    for name in READS[stage]:
        path = project.folder / name
        path.rename(tmp_path / "aside")
        outcome = run_stage(project, stage)
        assert check(outcome, f"{stage} without {name}") == "refused"
        assert name.partition("/demo")[0] in outcome.printed, outcome.printed
        nothing_left(project, stage, f"without {name}")
        (tmp_path / "aside").rename(path)


@pytest.mark.parametrize("stage", READS)
def test_an_input_that_is_cut(stage: str, reference: Reference, tmp_path: Path, long: bool) -> None:
    """It is refused by name, unless the stage does not read that file at all.

    A CSV file may have fewer rows: it is in Git, or DVC has its hash.
    """
    only_short(stage, long, "train")
    project = reference.upto(tmp_path / "project", stage)
    refused = 0
    names = tuple(name for name in READS[stage] if "metrics" not in name)
    for path in (path for path in files_of(project, names) if path.suffix != ".csv"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        outcome = run_stage(project, stage)
        what = f"{stage}, {path.relative_to(project.folder)} cut"
        if check(outcome, what) == "success":
            assert project.contents(stage) == reference.contents[stage], what
        else:
            refused += 1
            assert path.name in outcome.printed, f"{what}: {outcome.printed}"
            nothing_left(project, stage, what)
        project.remove_outputs(stage)
        path.write_bytes(whole)
    assert refused
