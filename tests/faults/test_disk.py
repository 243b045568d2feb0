"""Full disks, read-only folders, files that vanish, are cut or lose a bit."""

from __future__ import annotations

import importlib
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.children import REFUSED, Outcome, in_child
from tests.faults.conftest import Counts, Reference, Tell
from tests.faults.project import OUTPUTS, STAGES, Project
from tests.faults.warm import preload

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_ENOSPC = 28


def run_stage(project: Project, stage: str, before: Callable[[], None] = lambda: None) -> Outcome:
    """A stage in a child of this process, as `python -m stages.<stage>` runs it but for signals."""
    preload()  # in each child's stead
    import stages._entry as entry

    work = importlib.import_module(f"stages.{stage}").work

    def child() -> int:
        for name in ("_refuse_foreign_code", "_die_with_parent"):
            setattr(entry, name, lambda: None)
        logging.getLogger().handlers.clear()  # pytest's own: the stage sets up its own
        before()
        return entry._status(stage, work, ["demo"])

    return in_child(child, seconds=120, folder=project.folder, memory=4 << 30)


def failing(number: int) -> Callable[[], None]:
    """From the n-th file, folder or renaming on, the disk of the child is full."""

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
                raise OSError(_ENOSPC, "No space left on device", str(path))

        sys.addaudithook(hook)

    return arm


def smaller_files(size: int) -> Callable[[], None]:
    """No file of the child grows beyond so many bytes."""

    def arm() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return arm


def drawn(project: Project, stage: str) -> Callable[[], None]:
    """For a child's `before`: a report that is drawn already, and only has to be written.

    Its stage draws for seconds before it writes anything. Other stages go their whole way.
    """
    if stage != "report":
        return lambda: None
    from dhmd.report import job

    with chdir(project.folder):
        places = ("data/aligned/demo.h5", "pretrained/demo", "models/demo", "metrics/demo")
        report = job.build_report(job.read_report_data(*map(Path, places)))

    def arm() -> None:
        job.build_report = lambda data: report

    return arm


def both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def arm() -> None:
        first()
        second()

    return arm


def nothing_left(project: Project, stage: str, what: str) -> None:
    assert project.contents(stage) == {}, f"{stage} after {what}: half an output"
    left = [name for name in project.leftovers() if not name.startswith(".dhmd/trainings/tasks/")]
    assert left == [], f"{stage} after {what}"


def in_short_form(stage: str, long: bool, *stages: str) -> None:
    if not long and stage not in stages:
        pytest.skip("the long form: run `make faults`")


def untracked(reference: Reference, folder: Path, stage: str) -> Project:
    project = reference.upto(folder, stage)
    text = (project.folder / "params.yaml").read_text(encoding="utf-8")
    if "  enabled: true\n  # Tracking" in text:
        project.edit(
            "params.yaml", ("  enabled: true\n  # Tracking", "  enabled: false\n  # Tracking")
        )
    return project


def check(outcome: Outcome, what: str) -> str:
    """`success` or `refused`, where the log of a training may stand before the sentence."""
    told = f"{what}: status {outcome.status}: {outcome.said[-3000:]}"
    assert outcome.status in (0, REFUSED), told
    assert "Traceback" not in outcome.said, told
    if outcome.status == REFUSED:
        assert outcome.said.splitlines()[-1].startswith("stage "), told
    return "success" if outcome.status == 0 else "refused"


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_at_every_write(
    stage: str, reference: Reference, tmp_path: Path, long: bool, counts: Counts, tell: Tell
) -> None:
    in_short_form(stage, long, "train")
    project = untracked(reference, tmp_path / "project", stage)
    number, refused = 0, 0
    ready = drawn(project, stage)
    while True:
        project.remove_outputs(stage)
        shutil.rmtree(project.folder / ".dhmd", ignore_errors=True)
        outcome = run_stage(project, stage, both(ready, failing(number)))
        found = check(outcome, f"{stage}, disk full after {number} writes")
        if found == "success" and project.contents(stage) == reference.contents[stage]:
            break  # there is no such write any more
        assert found == "refused", outcome.said
        refused += 1
        nothing_left(project, stage, f"write {number}")
        number += 1 if long else 25
        assert number < 400
    counts.add("disk", f"{stage}: full at a write: refused", refused)
    sizes = [path.stat().st_size for name in OUTPUTS[stage] for path in _files(reference, name)]
    rng = random.Random(stage)
    for _ in range(10 if long else 1):
        size = rng.randrange(max(sizes))
        project.remove_outputs(stage)
        shutil.rmtree(project.folder / ".dhmd", ignore_errors=True)
        what = f"{stage}, no file beyond {size} bytes"
        outcome = run_stage(project, stage, both(ready, smaller_files(size)))
        assert check(outcome, what) == "refused", what
        nothing_left(project, stage, what)
        counts.add("disk", f"{stage}: file cannot grow: refused")
    tell(f"disk: {stage}: {refused} writes")
    assert check(run_stage(project, stage), stage) == "success"
    assert project.contents(stage) == reference.contents[stage]


def _files(reference: Reference, name: str) -> list[Path]:
    path = reference.project.folder / name
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


@contextmanager
def small_disk(folder: Path, size: int, *, read_only: bool = False) -> Iterator[None]:
    """Another, tiny disk in the place of a folder, where this machine lets us mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size}" + (",ro" if read_only else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_too_small_and_a_disk_that_is_read_only(
    stage: str, reference: Reference, tmp_path: Path, long: bool, counts: Counts, tell: Tell
) -> None:
    in_short_form(stage, long, "align")
    project = untracked(reference, tmp_path / "project", stage)
    (name,) = OUTPUTS[stage]
    parent = (project.folder / name).parent
    shutil.rmtree(parent, ignore_errors=True)
    need = sum(path.stat().st_size for path in _files(reference, name))
    rng = random.Random(f"small {stage}")
    ready = drawn(project, stage)
    for _ in range(6 if long else 1):
        size = rng.randrange(4096, max(8192, need * 9 // 10))
        with small_disk(parent, size):
            what = f"{stage} on a disk of {size} bytes"
            outcome = run_stage(project, stage, ready)
            assert check(outcome, what) == "refused", what
            assert "No space left on device" in outcome.said, outcome.said
            nothing_left(project, stage, what)
            counts.add("disk", f"{stage}: small disk: refused")
    with small_disk(parent, 1 << 20, read_only=True):
        outcome = run_stage(project, stage, ready)
        assert check(outcome, f"{stage}, read-only") == "refused"
        assert "Read-only file system" in outcome.said
        counts.add("disk", f"{stage}: read-only folder: refused")
    assert check(run_stage(project, stage), stage) == "success"
    assert project.contents(stage) == reference.contents[stage]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "train", "ablate", "evaluate"])
def test_a_disk_without_room_for_the_record_costs_one_warning(
    stage: str, reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    """There is room for a file's name, and for none of its bytes."""
    project = reference.upto(tmp_path / "project", stage)
    folder = project.folder / ".dhmd" / "tracking"
    with small_disk(folder, 4096):
        (folder / "full").write_bytes(bytes(4096))
        said = project.run(*project.stage(stage))
        assert said.count("No space left on device") == 1, said
        assert "Traceback" not in said, said
        assert [path.name for path in folder.iterdir()] == ["full"]
    assert project.contents(stage) == reference.contents[stage]
    counts.add("disk", f"{stage}: no room for its record: warned, same bytes")


READS = {
    "align": ("data/raw/demo",),
    "pretrain": ("data/aligned/demo.h5",),
    "train": ("data/aligned/demo.h5", "pretrained/demo"),
    "ablate": ("data/aligned/demo.h5", "pretrained/demo"),
    "evaluate": ("data/aligned/demo.h5", "pretrained/demo", "models/demo", "ablations/demo"),
    "report": ("data/aligned/demo.h5", "pretrained/demo", "models/demo", "metrics/demo"),
}


@pytest.mark.parametrize("stage", READS)
def test_what_a_stage_reads_is_gone(
    stage: str, reference: Reference, tmp_path: Path, long: bool, counts: Counts
) -> None:
    in_short_form(stage, long, "align")
    project = untracked(reference, tmp_path / "project", stage)
    for name in READS[stage]:
        path = project.folder / name
        path.rename(tmp_path / "aside")
        outcome = run_stage(project, stage)
        assert check(outcome, f"{stage} without {name}") == "refused"
        assert name.partition("/demo")[0] in outcome.said, outcome.said
        nothing_left(project, stage, f"without {name}")
        (tmp_path / "aside").rename(path)
        counts.add("disk", f"{stage}: input deleted: refused")


def test_a_file_that_the_list_of_downloads_names_is_not_there(
    reference: Reference, tmp_path: Path
) -> None:
    """The file or the list: both are named."""
    project = untracked(reference, tmp_path / "project", "align")
    (project.folder / "data/raw/demo/words.csd").unlink()
    outcome = run_stage(project, "align")
    assert check(outcome, "align") == "refused"
    assert "data/raw/demo/words.csd, which data/raw/demo/sources.json lists" in outcome.said


@pytest.mark.parametrize("stage", READS)
def test_a_cut_or_a_flipped_bit_is_found_before_anything_is_computed(
    stage: str, reference: Reference, tmp_path: Path, long: bool, counts: Counts, tell: Tell
) -> None:
    in_short_form(stage, long, "train")
    project = untracked(reference, tmp_path / "project", stage)
    rng = random.Random(f"bit {stage}")
    files = [
        path
        for name in READS[stage]
        for path in _files(Reference(project, {}, {}), name)
        if _is_read(stage, path)
    ]
    for path in files if long else rng.sample(files, 2):
        whole = path.read_bytes()
        for number in range(4 if long else 1):
            data = bytearray(whole)
            if number == 0 and long:
                del data[len(data) // 2 :]
            else:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(bytes(data))
            outcome = run_stage(project, stage)
            what = f"{stage}, {path.relative_to(project.folder)}, damage {number}"
            if check(outcome, what) == "success":
                # A blank for another blank in a JSON file.
                assert path.suffix == ".json", what
                assert project.contents(stage) == reference.contents[stage], what
            else:
                assert path.name in outcome.said, f"{what}: {outcome.said}"
                nothing_left(project, stage, what)
            project.remove_outputs(stage)
            counts.add("disk", f"{stage}: cut or flipped input: found")
        path.write_bytes(whole)
    tell(f"disk: {stage}: {len(files)} files damaged")


def _is_read(stage: str, path: Path) -> bool:
    """Whether a stage reads a file and the project promises to find its damage.

    Weights are not read by evaluation and report; metrics lie in Git, and the gate computes them
    again.
    """
    if "metrics" in path.parts[-4:]:
        return False
    if stage in ("evaluate", "report"):
        if path.suffix == ".safetensors":
            return False
        if stage == "evaluate":
            # Of a model directory evaluate reads outputs.h5, whose damage HDF5 finds in part.
            return "aligned" in path.parts
        return path.name != "outputs.h5" or path.parent.parent.name == "models"
    return path.name != "history.csv"
