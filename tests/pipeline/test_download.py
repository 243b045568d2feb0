"""Downloads under DVC: pinned files are downloaded once, replaced local files are noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.download.conftest import hdf5_body, server
from tests.data.download.server import Server, whole_body
from tests.data.formats.files import array_splits, write_arrays
from tests.pipeline.scratch import Scratch

__all__ = ["server"]

LABELS = "/CMU-MOSI/labels/CMU_MOSI_Opinion_Labels.csd"


@pytest.fixture
def scratch(tmp_path: Path, server: Server) -> Scratch:
    """Return a copy of the project in which a local server is the source of `mosi`."""
    scratch = Scratch(tmp_path, pipeline=None)
    scratch.edit("recipes/mosi.yaml", ("http://immortal.multicomp.cs.cmu.edu", server.url))
    scratch.commit("a server on loopback")
    paths = (
        "/CMU-MOSI/language/CMU_MOSI_TimestampedWords.csd",
        "/CMU-MOSI/language/CMU_MOSI_TimestampedWordVectors.csd",
        "/CMU-MOSI/acoustic/CMU_MOSI_COVAREP.csd",
        "/CMU-MOSI/visual/CMU_MOSI_Visual_Facet_42.csd",
        LABELS,
    )
    server.files = {path: whole_body(hdf5_body(n, 9_000)) for n, path in enumerate(paths)}
    return scratch


def test_pinned_files_are_fetched_once(scratch: Scratch, server: Server) -> None:
    # The commands of docs/data.md.
    scratch("dvc", "exp", "run", "-S", "datasets=[mosi]", "download@mosi")
    assert len(server.requests) == len(server.files)
    server.requests.clear()
    output = scratch("dhmd", "data", "pin", "mosi")
    assert "`dvc commit -f download@mosi`" in output
    scratch("dvc", "commit", "-f", "download@mosi")
    assert "didn't change" in scratch("dvc", "repro", "download@mosi")
    assert server.requests == []

    # After a change of the stage's code and of the features, the stage runs again. It takes
    # unchanged files from DVC's cache and downloads only the new one.
    with open(scratch.folder / "stages" / "download.py", "a") as stream:
        stream.write("# another remark\n")
    scratch.edit("recipes/mosi.yaml", ("vision: facet42", "vision: openface2"))
    openface = "/CMU-MOSI/visual/CMU_MOSI_Visual_OpenFace_2.csd"
    server.files[openface] = whole_body(hdf5_body(9, 9_000))
    raw = scratch.folder / "data" / "raw" / "mosi"
    before = (raw / "covarep.csd").read_bytes()
    scratch("dvc", "repro", "download@mosi")
    assert [path for path, _ in server.requests] == [openface]
    assert (raw / "covarep.csd").read_bytes() == before
    assert not (raw / "facet42.csd").exists()


def test_a_replaced_file_is_noticed_after_the_manifest_is_written(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, pipeline=None)
    placed = scratch.folder / "data" / "placed" / "my_arrays"
    placed.mkdir(parents=True)
    write_arrays(placed, array_splits())
    assert "wrote recipes/sources/my_arrays.json (3 local files)" in scratch(
        "dhmd", "data", "manifest", "my_arrays"
    )
    scratch.edit("params.yaml", ("\n- demo", "\n- my_arrays"))
    scratch.commit("own arrays")
    download = ("dvc", "repro", "download@my_arrays")
    scratch(*download)

    write_arrays(placed, array_splits(seed=1))
    assert "didn't change" in scratch(*download)  # DVC does not track this folder
    assert "train.npz, valid.npz changed since it was recorded" in scratch(
        "dhmd", "lock-check", fails=True
    )
    scratch("dhmd", "data", "manifest", "my_arrays")
    assert "didn't change" not in scratch(*download)
    raw = scratch.folder / "data" / "raw" / "my_arrays"
    for split in ("train", "valid", "test"):
        file = f"{split}.npz"
        assert (raw / file).read_bytes() == (placed / file).read_bytes()

    # The manifest is in Git, so that an experiment in a copy of the repository has it.
    scratch.commit("new arrays")
    scratch("dvc", "exp", "run", "--temp", "download@my_arrays")
