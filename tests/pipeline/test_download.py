"""What was downloaded once and pinned is not downloaded again, whatever DVC removes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.download.conftest import hdf5_body, server
from tests.data.download.server import Server, whole
from tests.pipeline.scratch import Scratch

__all__ = ["server"]

LABELS = "/CMU-MOSI/labels/CMU_MOSI_Opinion_Labels.csd"


@pytest.fixture
def scratch(tmp_path: Path, server: Server) -> Scratch:
    """The real pipeline, with the recipe `mosi` from a server on loopback."""
    scratch = Scratch(tmp_path, pipeline=None)
    scratch.edit("recipes/mosi.yaml", "http://immortal.multicomp.cs.cmu.edu", server.url)
    scratch.commit("a server on loopback")
    paths = (
        "/CMU-MOSI/language/CMU_MOSI_TimestampedWords.csd",
        "/CMU-MOSI/language/CMU_MOSI_TimestampedWordVectors.csd",
        "/CMU-MOSI/acoustic/CMU_MOSI_COVAREP.csd",
        "/CMU-MOSI/visual/CMU_MOSI_Visual_Facet_42.csd",
        LABELS,
    )
    server.files = {path: whole(hdf5_body(n, 9_000)) for n, path in enumerate(paths)}
    return scratch


def test_pinned_files_are_fetched_once(scratch: Scratch, server: Server) -> None:
    # As docs/data.md has it.
    scratch("dvc", "exp", "run", "-S", "datasets=[mosi]", "download@mosi")
    assert len(server.asked) == len(server.files)
    server.asked.clear()
    said = scratch("dhmd", "data", "pin", "mosi")
    assert "`dvc commit -f download@mosi`" in said
    scratch("dvc", "commit", "-f", "download@mosi")
    assert "didn't change" in scratch("dvc", "repro", "download@mosi")
    assert server.asked == []

    # The stage's code changes and other features are chosen: the stage runs again, finds in DVC's
    # cache what is still the same, and fetches only what is not yet here.
    with open(scratch.folder / "stages" / "download.py", "a") as stream:
        stream.write("# another remark\n")
    scratch.edit("recipes/mosi.yaml", "vision: facet42", "vision: openface2")
    openface = "/CMU-MOSI/visual/CMU_MOSI_Visual_OpenFace_2.csd"
    server.files[openface] = whole(hdf5_body(9, 9_000))
    raw = scratch.folder / "data" / "raw" / "mosi"
    before = (raw / "covarep.csd").read_bytes()
    scratch("dvc", "repro", "download@mosi")
    assert [path for path, _ in server.asked] == [openface]
    assert (raw / "covarep.csd").read_bytes() == before
    assert not (raw / "facet42.csd").exists()
