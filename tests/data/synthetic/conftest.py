"""Generated corpora that all tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.data.synthetic import GeneratorConfig, generate


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the corpus of the recipe demo."""
    folder = tmp_path_factory.mktemp("demo")
    generate(GeneratorConfig(seed=1), folder)
    return folder


@pytest.fixture(scope="session")
def no_cue_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the corpus of the recipe demo_no_cue."""
    folder = tmp_path_factory.mktemp("no_cue")
    generate(GeneratorConfig(regime="no_cue", seed=1), folder)
    return folder


@pytest.fixture(scope="session")
def small_config() -> GeneratorConfig:
    """Return the settings of a corpus of a few dozen utterances."""
    return GeneratorConfig(n_train=24, n_valid=8, n_test=8)
