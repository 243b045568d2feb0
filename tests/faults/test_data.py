"""Files damaged by chance, by hand and on purpose: success, or one clear sentence, and no third."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dhmd.base.artefacts import load_description, write_description
from dhmd.config.schema import load_section
from dhmd.data.aligned import read_corpus, read_folds
from dhmd.data.alignment import align_corpus
from dhmd.data.download import ordered_sources, wanted_files
from dhmd.data.formats import import_corpus
from dhmd.data.synthetic import GeneratorConfig
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.job import evaluate_job
from dhmd.recipes import Recipe, check_recipe_file, load_recipe
from dhmd.settings import load_params
from dhmd.training.input import Input
from dhmd.training.weights import load_model
from tests.data.formats.files import array_splits, mmsa_splits, write_arrays, write_pickle
from tests.data.formats.recipes import arrays_recipe, mmsa_recipe
from tests.faults.children import in_child
from tests.faults.conftest import Counts, Reference, Tell
from tests.faults.mutations import (
    Mutate,
    arrays_changed,
    bytes_changed,
    changed_value,
    hdf5_changed,
    mixture,
    yaml_changed,
)
from tests.training.bench import reseal

SHORT, SEED = 4, 20_260_204


@dataclass(frozen=True)
class Target:
    """What is damaged, how, what reads it, and how often the long form does so.

    Attributes:
        prepare: make the good file in a folder.
        mutate: damage it.
        read: use it, in a child whose working folder that folder is.
    """

    prepare: Callable[[Reference, Path], Path]
    mutate: Mutate
    read: Callable[[Path], object]
    number: int


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
    align_corpus(
        {name: folder / "raw" / f"{name}.csd" for name in settings.recipe.sequences},
        settings.recipe,
        settings.align,
        alignment="word",
        sources={},
        folds_path=folder / "raw" / "folds.json",
        output=folder / "aligned.h5",
    )


def _folds(reference: Reference, folder: Path) -> Path:
    return Path(shutil.copy(reference.project.folder / "data/raw/demo/folds.json", folder))


def _aligned(reference: Reference, folder: Path) -> Path:
    return Path(shutil.copy(reference.project.folder / "data/aligned/demo.h5", folder))


def _use_aligned(path: Path) -> None:
    corpus = read_corpus(path, test_labels=True)
    for split in ("train", "valid", "test"):
        corpus.index(split)
    Input.of(corpus, corpus.modalities, torch.device("cpu"))


def _pickle(reference: Reference, folder: Path) -> Path:
    return write_pickle(folder / "file.pkl", mmsa_splits(seed=3))


def _pickled(path: Path, rng: random.Random) -> None:
    content: Any = pickle.loads(path.read_bytes())  # our own, of a moment ago
    for _ in range(rng.randrange(1, 3)):
        content = changed_value(content, rng)
    path.write_bytes(pickle.dumps(content, protocol=rng.choice((2, 3, 4, 5))))


def _arrays(suffix: str) -> Callable[[Reference, Path], Path]:
    def prepare(reference: Reference, folder: Path) -> Path:
        write_arrays(folder, array_splits(seed=3), suffix)
        return folder / f"train.{suffix}"

    return prepare


def _import(recipe: Recipe) -> Callable[[Path], object]:
    def read(path: Path) -> None:
        from dhmd.data.alignment import AlignConfig

        import_corpus(
            recipe,
            path.parent,
            AlignConfig(),
            alignment="word",
            sources={},
            output=path.parent / "tiny.h5",
        )

    return read


def _model(reference: Reference, folder: Path) -> Path:
    shutil.copytree(reference.project.folder / "models" / "demo", folder / "model")
    return folder / "model"


def _model_bytes(path: Path, rng: random.Random) -> None:
    bytes_changed(rng.choice(sorted(path.iterdir())), rng)


def _model_sealed(path: Path, rng: random.Random) -> None:
    if rng.random() < 0.5:
        bytes_changed(rng.choice(sorted(path.glob("*.safetensors"))), rng)
        reseal(path)
    else:
        content = changed_value(load_description(path), rng)
        if isinstance(content, dict):
            plain = json.loads(json.dumps(content, default=str).replace("NaN", "null"))
            write_description(path, plain)
        else:
            (path / "model.json").write_text(json.dumps(str(content)))


def _load(path: Path) -> None:
    load_model(path, torch.device("cpu"))


def _evaluated(reference: Reference, folder: Path) -> Path:
    for part in ("data/aligned", "pretrained", "models", "ablations"):
        shutil.copytree(reference.project.folder / part, folder / part)
    return folder / "models" / "demo" / "outputs.h5"


def _outputs_sealed(path: Path, rng: random.Random) -> None:
    rng.choice((hdf5_changed, hdf5_changed, bytes_changed))(path, rng)
    reseal(path.parent)


def _evaluate(path: Path) -> None:
    root = path.parents[2]
    evaluate_job(
        EvaluateConfig(resamples=100),
        root / "data" / "aligned" / "demo.h5",
        root / "pretrained" / "demo",
        root / "models" / "demo",
        root / "ablations" / "demo",
        root / "metrics",
    )


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
            wanted_files(recipe)
            ordered_sources(recipe, settings.data.sources.get(dataset), root)

    return read


TARGETS = {
    ".csd words": Target(
        _one_sequence("words"), mixture(bytes_changed, hdf5_changed, hdf5_changed), _align, 60
    ),
    ".csd features": Target(
        _one_sequence("acoustic"), mixture(bytes_changed, hdf5_changed, hdf5_changed), _align, 60
    ),
    ".csd labels": Target(
        _one_sequence("labels"), mixture(bytes_changed, hdf5_changed, hdf5_changed), _align, 60
    ),
    "folds": Target(_folds, bytes_changed, read_folds, 60),
    "aligned features file": Target(
        _aligned, mixture(bytes_changed, hdf5_changed), _use_aligned, 110
    ),
    "MMSA pickle": Target(_pickle, mixture(bytes_changed, _pickled), _import(mmsa_recipe()), 150),
    "arrays, .npz": Target(
        _arrays("npz"), mixture(bytes_changed, arrays_changed), _import(arrays_recipe("npz")), 120
    ),
    "arrays, .h5": Target(
        _arrays("h5"), mixture(bytes_changed, hdf5_changed), _import(arrays_recipe("h5")), 120
    ),
    "model folder": Target(_model, _model_bytes, _load, 80),
    "model folder, sealed by its forger": Target(_model, _model_sealed, _load, 110),
    "outputs, sealed by its forger": Target(_evaluated, _outputs_sealed, _evaluate, 30),
    "params.yaml": Target(_settings("params.yaml"), yaml_changed, _read_settings("demo"), 130),
    "generated corpus's recipe": Target(
        _settings("recipes/demo.yaml"), yaml_changed, _read_settings("demo"), 110
    ),
    "downloaded corpus's recipe": Target(
        _settings("recipes/mosi.yaml"), yaml_changed, _read_settings("mosi"), 110
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_read_or_refused_in_a_sentence(
    name: str, reference: Reference, tmp_path: Path, long: bool, counts: Counts, tell: Tell
) -> None:
    target = TARGETS[name]
    good = tmp_path / "good"
    good.mkdir()
    inside = target.prepare(reference, good).relative_to(good)
    assert in_child(lambda: target.read(good / inside), folder=good).check(name) == "success"
    shutil.rmtree(good)
    good.mkdir()
    target.prepare(reference, good)
    outcomes: Counter[str] = Counter()
    defects = []
    for number in range(target.number if long else SHORT):
        folder = tmp_path / "mutant"
        shutil.copytree(good, folder, symlinks=True)
        rng = random.Random(f"{SEED} {name} {number}")
        target.mutate(folder / inside, rng)
        outcome = in_child(lambda: target.read(folder / inside), folder=folder)  # noqa: B023
        try:
            outcomes[outcome.check(f"{name}, mutant {number}")] += 1
        except AssertionError as error:
            defects.append(str(error))
        assert not list(folder.rglob(".partial-*")), f"{name}, mutant {number} left something"
        shutil.rmtree(folder)
    for outcome_name, found in outcomes.items():
        counts.add("data", f"{name}: {outcome_name}", found)
    tell(f"data: {name}: {dict(outcomes)}")
    assert not defects, f"{len(defects)} defects:\n\n" + "\n\n".join(defects[:8])


def test_the_children_tell_what_happened() -> None:
    """The fuzzer itself would notice a crash, a hang, a traceback and a glutton."""

    def crash() -> None:
        import os

        os.abort()

    def hang() -> None:
        while True:
            pass

    def eat() -> object:
        return np.ones(3 << 27)

    def fail() -> None:
        raise KeyError("x")

    assert in_child(lambda: None).check("fine") == "success"
    with pytest.raises(AssertionError, match="status -6"):
        in_child(crash).check("x")
    with pytest.raises(AssertionError, match="it took too long"):
        in_child(hang, seconds=0.3).check("x")
    for work in (eat, fail):
        with pytest.raises(AssertionError, match="Error"):
            in_child(work).check("x")
