"""Generated corpora of a study: settings, aligned features files and test predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.config.schema import load_section
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.data.alignment import CorpusJob, align_corpus
from dhmd.data.synthetic import GeneratorConfig, generate
from dhmd.settings import Settings
from dhmd.training.configuration import Configuration

# The code that an aligned corpus depends on, for the key of a study.
CODE = ("dhmd/data/synthetic", "dhmd/data/csd.py", "dhmd/data/alignment", "dhmd/evaluation")


def generator(settings: Settings, changes: Mapping[str, Any]) -> GeneratorConfig:
    """Return the settings of the dataset config's generator, with some keys changed."""
    values = {**settings.recipe.generator, **changes}
    source = settings.recipe.source
    return load_section(GeneratorConfig, values, where="generator", source=source)


def one_thread(settings: Settings, seeds: Sequence[int]) -> Configuration:
    """Return the configuration with these seeds, for training in this process on one thread."""
    full = settings.configuration
    compute = replace(full.compute, threads=1, workers=1, device="cpu")
    return replace(full, train=replace(full.train, seeds=tuple(seeds)), compute=compute)


def alignment_key(settings: Settings) -> list[Any]:
    """Return the settings that the alignment depends on."""
    recipe = settings.recipe
    labels = asdict(recipe.labels)
    return [
        asdict(settings.align),
        dict(recipe.modalities),
        recipe.reference,
        labels,
        recipe.planted,
    ]


def write_aligned(settings: Settings, config: GeneratorConfig, folder: Path) -> Path:
    """Generate and align a corpus in `folder` unless it exists; return its features file."""
    raw, aligned, recipe = folder / "raw", folder / "aligned.h5", settings.recipe
    if not aligned.is_file():
        raw.mkdir(parents=True, exist_ok=True)
        generate(config, raw)
        job = CorpusJob(
            recipe=recipe,
            paths={name: raw / f"{name}.csd" for name in recipe.required_sequences},
            align=settings.align,
            alignment="word",
            folds_path=raw / "folds.json",
        )
        align_corpus(job, aligned)
    return aligned


def read_test_predictions(corpus: Corpus, outputs: Path) -> Array:
    """Read a model's predictions of the test split, `[E, N]`.

    Raises:
        DhmdError: a seed diverged.
    """
    with h5py.File(outputs, "r") as file:
        prediction_EN: Array = file["prediction"][()][:, corpus.index("test")]
    if not np.isfinite(prediction_EN).all():
        raise DhmdError(f"{outputs}: a seed diverged")
    return prediction_EN
