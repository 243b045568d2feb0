"""One whole report for all that only look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.corpora import Kind, Places, make


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A generated regression corpus of three modalities, with words, variants and both spaces."""
    places = make(tmp_path_factory.mktemp("drawn"), Kind())
    places.draw()
    return places


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
