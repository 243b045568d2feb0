"""Atomic writes of files and folders, file locks, and checks of outputs."""

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

from dhmd.base.errors import DhmdError
from dhmd.base.files import atomic_file, atomic_folder, check_output, try_lock, write_text

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_written_atomically_and_the_temporary_file_has_its_suffix(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "new" / "a.csv") as temporary:
        assert temporary.suffix == ".csv"
        assert not temporary.exists()
        temporary.write_text("1")
        assert not (tmp_path / "new" / "a.csv").exists()
    write_text(tmp_path / "new" / "a.csv", "2")
    assert (tmp_path / "new" / "a.csv").read_text() == "2"
    assert names(tmp_path / "new") == {"a.csv"}


def test_a_folder_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / text).write_text(text)
    assert names(tmp_path / "out" / "deep") == {"new"}
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_are_those_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_folder(tmp_path / "out") as folder:
            # safetensors writes through a private temporary file of its own.
            save_file({"x": torch.zeros(1)}, folder / "x.safetensors")
        with atomic_file(tmp_path / "y.safetensors") as path:
            save_file({"x": torch.zeros(1)}, path)
    finally:
        os.umask(before)
    for path in (tmp_path / "out" / "x.safetensors", tmp_path / "y.safetensors"):
        assert path.stat().st_mode & 0o777 == mode


def test_a_hard_link_keeps_the_users_permissions(tmp_path: Path) -> None:
    (tmp_path / "users").touch(mode=0o600)
    with atomic_file(tmp_path / "placed") as path:
        os.link(tmp_path / "users", path)
    assert (tmp_path / "users").stat().st_mode & 0o777 == 0o600


def fail_in_file(target: Path, error: BaseException) -> None:
    with atomic_file(target) as temporary:
        temporary.write_text("new")
        raise error


def fail_in_folder(target: Path, error: BaseException) -> None:
    with atomic_folder(target) as temporary:
        (temporary / "deep").mkdir()
        raise error


def write_nothing(target: Path) -> None:
    with atomic_file(target):
        pass


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
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
from dhmd.base.files import atomic_file, atomic_folder
with atomic_folder(Path(sys.argv[1]) / "out") as folder, atomic_file(folder / "part") as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_write_removes_the_files_of_a_killed_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    assert names(tmp_path) == {".partial-out", ".partial-out.lock"}
    with atomic_folder(tmp_path / "out") as folder:
        write_text(folder / "a", "x")
    assert names(tmp_path) == {"out"}
    assert names(tmp_path / "out") == {"a"}


def test_concurrent_writers_of_one_file_leave_one_whole_text(tmp_path: Path) -> None:
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


def test_only_one_process_holds_a_lock(tmp_path: Path) -> None:
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    assert try_lock(tmp_path / "lock") is None
    lock.release()
    assert try_lock(tmp_path / "lock") is not None


def test_an_output_may_be_new_or_replace_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("old")
    for name in ("old.csv", "new.csv", "new/folder/a.csv", "old.csv/below"):
        check_output(
            tmp_path / name, inputs=[tmp_path / "in.csd"], input_folders=[tmp_path / "model"]
        )


def test_an_output_must_not_replace_anything_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is a device or a pipe"),
        (tmp_path / "link", "is a link to nowhere"),
        (Path("/dev/null"), "is a device or a pipe"),
    ):
        with pytest.raises(DhmdError, match=message):
            check_output(path)


def test_an_output_must_not_replace_an_input(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "in.csd").write_text("in")
    os.link(tmp_path / "in.csd", tmp_path / "same.csd")
    (tmp_path / "alias").symlink_to("model")
    with pytest.raises(DhmdError, match="one of the inputs"):
        check_output(tmp_path / "same.csd", inputs=[tmp_path / "in.csd"])
    for output in (model / "model.json", model / "a" / "b.csv", tmp_path / "alias" / "x.csv"):
        with pytest.raises(DhmdError, match="an input"):
            check_output(output, input_folders=[model])
