"""Damaged files are read or refused in one sentence; no reader crashes or hangs."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dhmd.config.schema import load_section
from dhmd.data.aligned import read_corpus, read_folds
from dhmd.data.download import ordered_sources, required_files
from dhmd.data.formats import align_dataset, import_corpus
from dhmd.data.synthetic import GeneratorConfig
from dhmd.recipes import Recipe, check_recipe_file, load_recipe
from dhmd.settings import load_params
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.weights import load_model
from tests.data.formats.files import array_splits, mmsa_splits, write_arrays, write_pickle
from tests.data.formats.recipes import arrays_recipe, job_of, mmsa_recipe
from tests.faults.children import run_in_child
from tests.faults.conftest import Reference
from tests.faults.mutations import (
    Mutate,
    change_arrays,
    change_bytes,
    change_hdf5,
    change_value,
    change_yaml,
    mixture,
)

SHORT, LONG, SEED = 2, 20, 20_260_204


@dataclass(frozen=True)
class Target:
    """A kind of file, and functions for it.

    Attributes:
        prepare: write an undamaged file into a folder.
        mutate: damage the file.
        read: read the file, in a child process whose working folder is that folder.
    """

    prepare: Callable[[Reference, Path], Path]
    mutate: Mutate
    read: Callable[[Path], object]


def _one_sequence(name: str) -> Callable[[Reference, Path], Path]:
    def prepare(reference: Reference, folder: Path) -> Path:
        shutil.copytree(reference.project.folder / "data" / "raw" / "demo", folder / "raw")
        for part in ("recipes", "params.yaml"):
            (folder / part).symlink_to(reference.project.folder / part)
        return folder / "raw" / f"{name}.csd"

    return prepare


def _align(path: Path) -> None:
    folder = path.parents[1]
    settings = load_params(folder).for_dataset("demo")
    align_dataset(
        settings, folder / "raw", folder / "aligned.h5", root=folder, recipes=folder / "recipes"
    )


def _folds(reference: Reference, folder: Path) -> Path:
    return Path(shutil.copy(reference.project.folder / "data/raw/demo/folds.json", folder))


def _aligned(reference: Reference, folder: Path) -> Path:
    return Path(shutil.copy(reference.project.folder / "data/aligned/demo.h5", folder))


def _use_aligned(path: Path) -> None:
    corpus = read_corpus(path, test_labels=True)
    for split in ("train", "valid", "test"):
        corpus.index(split)
    DeviceCorpus.of(corpus, corpus.modalities, torch.device("cpu"))


def _pickle(reference: Reference, folder: Path) -> Path:
    return write_pickle(folder / "file.pkl", mmsa_splits(seed=3))


def _change_pickle(path: Path, rng: random.Random) -> None:
    content: Any = pickle.loads(path.read_bytes())  # written by _pickle
    for _ in range(rng.randrange(1, 3)):
        content = change_value(content, rng)
    path.write_bytes(pickle.dumps(content, protocol=rng.choice((2, 3, 4, 5))))


def _arrays(suffix: str) -> Callable[[Reference, Path], Path]:
    def prepare(reference: Reference, folder: Path) -> Path:
        write_arrays(folder, array_splits(seed=3), suffix)
        return folder / f"train.{suffix}"

    return prepare


def _import(recipe: Recipe) -> Callable[[Path], object]:
    def read(path: Path) -> None:
        import_corpus(job_of(recipe, path.parent), path.parent / "tiny.h5")

    return read


def _model(reference: Reference, folder: Path) -> Path:
    shutil.copytree(reference.project.folder / "models" / "demo", folder / "model")
    return folder / "model"


def _change_model(path: Path, rng: random.Random) -> None:
    change_bytes(rng.choice(sorted(path.iterdir())), rng)


def _load(path: Path) -> None:
    load_model(path, torch.device("cpu"))


def _settings(name: str) -> Callable[[Reference, Path], Path]:
    def prepare(reference: Reference, folder: Path) -> Path:
        shutil.copytree(reference.project.folder / "recipes", folder / "recipes")
        shutil.copy(reference.project.folder / "params.yaml", folder)
        return folder / name

    return prepare


def _read_settings(dataset: str) -> Callable[[Path], object]:
    def read(path: Path) -> None:
        from dhmd.ablation.variants import chosen_variants

        root = path.parent if path.name == "params.yaml" else path.parents[1]
        settings = load_params(root).for_dataset(dataset)
        chosen_variants(settings.ablate, settings.configuration)
        check_recipe_file(dataset, root)
        recipe = load_recipe(dataset, root)
        if recipe.format == "generated":
            load_section(GeneratorConfig, recipe.generator, where="generator", source=recipe.source)
        else:
            required_files(recipe)
            ordered_sources(recipe, settings.data.sources.get(dataset), root)

    return read


CSD = mixture(change_bytes, change_hdf5, change_hdf5)
TARGETS = {
    ".csd words": Target(_one_sequence("words"), CSD, _align),
    ".csd features": Target(_one_sequence("acoustic"), CSD, _align),
    ".csd labels": Target(_one_sequence("labels"), CSD, _align),
    "folds": Target(_folds, change_bytes, read_folds),
    "aligned features file": Target(_aligned, mixture(change_bytes, change_hdf5), _use_aligned),
    "MMSA pickle": Target(_pickle, mixture(change_bytes, _change_pickle), _import(mmsa_recipe())),
    "arrays, .npz": Target(
        _arrays("npz"), mixture(change_bytes, change_arrays), _import(arrays_recipe("npz"))
    ),
    "arrays, .h5": Target(
        _arrays("h5"), mixture(change_bytes, change_hdf5), _import(arrays_recipe("h5"))
    ),
    "model folder": Target(_model, _change_model, _load),
    "params.yaml": Target(_settings("params.yaml"), change_yaml, _read_settings("demo")),
    "generated corpus's recipe": Target(
        _settings("recipes/demo.yaml"), change_yaml, _read_settings("demo")
    ),
    "downloaded corpus's recipe": Target(
        _settings("recipes/mosi.yaml"), change_yaml, _read_settings("mosi")
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_read_or_refused_in_a_sentence(
    name: str, reference: Reference, tmp_path: Path, long: bool
) -> None:
    target = TARGETS[name]
    original = tmp_path / "good"
    original.mkdir()
    relative = target.prepare(reference, original).relative_to(original)
    assert (
        run_in_child(lambda: target.read(original / relative), folder=original).check(name)
        == "success"
    )
    shutil.rmtree(original)
    original.mkdir()
    target.prepare(reference, original)
    bugs = []
    for trial in range(LONG if long else SHORT):
        mutant = tmp_path / "mutant"
        shutil.copytree(original, mutant, symlinks=True)
        target.mutate(mutant / relative, random.Random(f"{SEED} {name} {trial}"))
        outcome = run_in_child(lambda: target.read(mutant / relative), folder=mutant)  # noqa: B023
        try:
            outcome.check(f"{name}, mutant {trial}")
        except AssertionError as error:
            bugs.append(str(error))
        assert not list(mutant.rglob(".partial-*")), f"{name}, mutant {trial} left a temporary file"
        shutil.rmtree(mutant)
    assert not bugs, f"{len(bugs)} bugs:\n\n" + "\n\n".join(bugs[:8])


def test_a_child_that_crashes_hangs_or_fails_is_noticed() -> None:
    def crash() -> None:
        import os

        os.abort()

    def hang() -> None:
        while True:
            pass

    def allocate() -> object:
        return np.ones(3 << 27)

    def fail() -> None:
        raise KeyError("x")

    assert run_in_child(lambda: None).check("fine") == "success"
    with pytest.raises(AssertionError, match="status -6"):
        run_in_child(crash).check("x")
    with pytest.raises(AssertionError, match="it took too long"):
        run_in_child(hang, seconds=0.3).check("x")
    for work in (allocate, fail):
        with pytest.raises(AssertionError, match="Error"):
            run_in_child(work).check("x")
