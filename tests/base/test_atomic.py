"""Whole or not at all, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dhmd.base.atomic import sweep, whole_file, whole_folder, write_text
from dhmd.base.errors import DhmdError
from dhmd.base.locks import try_lock

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_whole_and_keeps_its_suffix(tmp_path: Path) -> None:
    with whole_file(tmp_path / "new" / "a.csv") as temporary:
        assert temporary.suffix == ".csv"
        assert not temporary.exists()
        temporary.write_text("1")
        assert not (tmp_path / "new" / "a.csv").exists()
    assert names(tmp_path / "new") == {"a.csv"}
    write_text(tmp_path / "new" / "a.csv", "2")
    assert (tmp_path / "new" / "a.csv").read_text() == "2"
    assert names(tmp_path / "new") == {"a.csv"}


def test_a_folder_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole_folder(tmp_path / "out") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / text).write_text(text)
    assert names(tmp_path / "out" / "deep") == {"new"}
    assert names(tmp_path) == {"out"}


def fail_in_file(target: Path, error: BaseException) -> None:
    with whole_file(target) as temporary:
        temporary.write_text("new")
        raise error


def fail_in_folder(target: Path, error: BaseException) -> None:
    with whole_folder(target) as temporary:
        (temporary / "deep").mkdir()
        raise error


def write_nothing(target: Path) -> None:
    with whole_file(target):
        pass


def test_on_failure_the_old_stays_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt):
        fail_in_file(tmp_path / "a", KeyboardInterrupt())
    with pytest.raises(DhmdError, match=r"cannot write .*a: .*No space left"):
        fail_in_file(tmp_path / "a", OSError(28, "No space left on device"))
    with pytest.raises(DhmdError, match=r"cannot write .*b: "):
        write_nothing(tmp_path / "b")
    with pytest.raises(ValueError, match="x"):
        fail_in_folder(tmp_path / "c", ValueError("x"))
    with pytest.raises(DhmdError, match=r"cannot write .*a/b: "):
        write_text(tmp_path / "a" / "b", "a file stands where the folder should be")
    assert names(tmp_path) == {"a"}
    assert (tmp_path / "a").read_text() == "old"


KILLED = """
import os, signal, sys
from pathlib import Path
from dhmd.base.atomic import whole_file, whole_folder
with whole_folder(Path(sys.argv[1]) / "out") as folder, whole_file(folder / "part") as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_goes_with_the_next_write(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".partial-")
    assert left.endswith("-out")
    (tmp_path / ".partial-report").touch()  # not ours: the user may call a file so
    write_text(tmp_path / "other", "x")
    assert names(tmp_path) == {"other", ".partial-report"}


def test_what_another_is_writing_stays(tmp_path: Path) -> None:
    with whole_file(tmp_path / "weights.safetensors") as one:
        # This library replaces the file by one of its own.
        save_file({"x": torch.zeros(1)}, one)
        with whole_folder(tmp_path / "two") as two:
            write_text(tmp_path / "three", "x")
            sweep(tmp_path)
            assert one.exists()
            assert two.exists()
    assert names(tmp_path) == {"weights.safetensors", "two", "three"}


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(20):
            write_text(tmp_path / "same", f"{number}" * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == {"same"}
    text = (tmp_path / "same").read_text()
    assert len(text) == 1000
    assert len(set(text)) == 1


def test_sweeping_nothing_or_what_cannot_be_read_is_no_error(tmp_path: Path) -> None:
    sweep(tmp_path / "absent")
    (tmp_path / "file").touch()
    sweep(tmp_path / "file")


def test_one_lock_a_thing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert try_lock(folder) is None
    folder.mkdir()
    lock = try_lock(folder)
    assert lock is not None
    assert try_lock(folder) is None
    folder.rename(tmp_path / "old")
    folder.mkdir()  # another one of the same name
    second = try_lock(folder)
    assert second is not None
    for descriptor in (lock, second):
        os.close(descriptor)
