"""A report that the tests only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.corpora import DatasetOptions, DatasetPaths, make_dataset


@pytest.fixture(scope="session")
def toy_paths(tmp_path_factory: pytest.TempPathFactory) -> DatasetPaths:
    """Write a dataset with three modalities, words, variants and both spaces, and its report."""
    paths = make_dataset(tmp_path_factory.mktemp("toy"), DatasetOptions())
    paths.write_report()
    return paths


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
