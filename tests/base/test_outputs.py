"""Where an output may go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.base.outputs import check_output


def test_new_files_and_older_outputs_are_fine(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("old")
    for name in ("old.csv", "new.csv", "new/folder/a.csv", "old.csv/below"):
        check_output(tmp_path / name, inputs=[tmp_path / "in.csd"], kept=[tmp_path / "model"])


def test_what_is_no_regular_file_is_refused_and_left(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for path, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is a device or a pipe"),
        (tmp_path / "link", "is a link to nowhere"),
        (Path("/dev/null"), "is a device or a pipe"),
    ):
        with pytest.raises(DhmdError, match=said):
            check_output(path)


def test_what_is_read_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "in.csd").write_text("in")
    os.link(tmp_path / "in.csd", tmp_path / "same.csd")
    (tmp_path / "alias").symlink_to("model")
    with pytest.raises(DhmdError, match="one of the inputs"):
        check_output(tmp_path / "same.csd", inputs=[tmp_path / "in.csd"])
    for output in (model / "model.json", model / "a" / "b.csv", tmp_path / "alias" / "x.csv"):
        with pytest.raises(DhmdError, match="which is read"):
            check_output(output, kept=[model])
