"""Damaged and unsafe HDF5 files are refused in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.base.hdf5 import open_checked, open_hdf5

HOLDS_OPEN = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+")
print("open", flush=True)
sys.stdin.read()
"""


def error_message(path: Path) -> str:
    with pytest.raises(DhmdError) as caught, open_checked(path, f"{path} is damaged") as file:
        file["x"][()]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_valid_file_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1, 2]
        file["group/text"] = "word"
    with open_checked(tmp_path / "a.h5", "damaged") as file:
        assert file["x"][()].tolist() == [1, 2]


def test_a_file_open_for_writing_is_not_reported_as_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = [1]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_OPEN, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(DhmdError, match="another process has the file open") as caught:
            open_hdf5(path)
        holder.communicate()
    assert "truncated" not in str(caught.value)
    open_hdf5(path).close()


def test_a_file_that_is_not_complete_hdf5_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(1000)
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: len(content) // 2])
    assert "a.h5: not a whole HDF5 file: it is truncated" in error_message(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_text("<html>")
    assert "a.h5: not a whole HDF5 file: it is truncated" in error_message(tmp_path / "a.h5")


def test_a_missing_dataset_is_reported_as_damage(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"] = [1]
    assert error_message(tmp_path / "a.h5").startswith(f"{tmp_path / 'a.h5'} is damaged (")


def test_links_and_references_to_other_files_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.arange(3.0)
    reasons = {
        "soft": "'x' is a link, which is not allowed",
        "external": "'x' is a link, which is not allowed",
        "raw": "'x' refers to another file",
        "virtual": "'x' refers to another file",
        "reference": "'x' has type object, but must have numbers or text",
    }
    for name, reason in reasons.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            if name == "soft":
                file["x"] = h5py.SoftLink("/other")
            elif name == "external":
                file["x"] = h5py.ExternalLink(str(secret), "x")
            elif name == "raw":
                file.create_dataset("x", (3,), "f8", external=[(str(secret), 0, 24)])
            elif name == "virtual":
                layout = h5py.VirtualLayout((3,), "f8")
                layout[:] = h5py.VirtualSource(str(secret), "x", (3,))
                file.create_virtual_dataset("x", layout)
            else:
                file.create_dataset("x", data=[file.ref], dtype=h5py.ref_dtype)
        assert reason in error_message(tmp_path / f"{name}.h5")


def test_a_dataset_that_declares_more_bytes_than_it_stores_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (1 << 40,), "f8", chunks=(1024,))
    assert "it declares 8,796,093,022,208 bytes, but the file stores 0" in error_message(
        tmp_path / "a.h5"
    )
