"""Skip tests with the markers slow, real and gpu, and state the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the slow tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skips: dict[str, pytest.MarkDecorator] = {}
    if not config.getoption("--run-slow"):
        skips["slow"] = pytest.mark.skip(reason="slow: run `make faults`")
    if not REAL.is_dir():
        skips["real"] = pytest.mark.skip(reason="excerpts of corpora are not in ../shared/real")
    if any("gpu" in item.keywords for item in items) and not _gpu():
        skips["gpu"] = pytest.mark.skip(reason="no CUDA device here")
    for item in items:
        for name, skip in skips.items():
            if item.get_closest_marker(name):
                item.add_marker(skip)


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def real_folder() -> Path:
    """Return the folder of excerpts of real corpora, for tests with the marker `real`."""
    return REAL
