"""Contextual text through every stage, and predictions of new words with the same encoder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from dhmd.data.text.encoder import load_encoder
from dhmd.prediction.model import Model
from dhmd.settings import load_params
from dhmd.training.jobs import train_job
from tests.data.formats.test_stages import (
    check_prediction,
    metrics_of,
    place_mmsa,
    root,
    run_stages,
    unpinned,
)
from tests.training.artefacts import read_files
from tests.training.learners import Recorder

__all__ = ["root"]

ROOT = Path(__file__).parents[3]


def small_recipe(root: Path, name: str, **changes: object) -> None:
    """Write a shipped recipe without its sections of settings, for other files."""
    recipe = unpinned(yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text()))
    recipe |= dict.fromkeys(("model", "kd", "pretrain", "train", "ablate")) | changes
    (root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe))


GENERATOR = {"seed": 3, "n_train": 40, "n_valid": 14, "n_test": 14}


def test_contextual_vectors_of_words_pass_through_every_stage(
    root: Path, tiny_encoder: Path
) -> None:
    small_recipe(root, "demo", generator=GENERATOR)
    shutil.copytree(tiny_encoder, root / "encoders" / "bert")
    features = {"text": "contextual", "encoder": "encoders/bert"}
    run_stages(root, "demo", "word", features=features)
    assert metrics_of("demo")["test"]["mae"] < 6
    corpus = read_corpus(Path("data/aligned/demo.h5"))
    assert corpus.feature_names["text"][0] == "bert_0"
    assert len(corpus.feature_names["text"]) == 16
    assert corpus.tokens is None

    folder = root / "new"
    folder.mkdir()
    for name in ("words", "acoustic", "visual"):
        shutil.copy(root / "data" / "raw" / "demo" / f"{name}.csd", folder)
    labels = root / "data" / "raw" / "demo" / "labels.csd"
    rows = Model("models/demo", "cpu").predict(folder, segments=labels)
    with open("metrics/demo/details/predictions.csv", encoding="utf-8") as stream:
        header = stream.readline().strip().split(",")
        written = [dict(zip(header, line.strip().split(","), strict=True)) for line in stream]
    assert written
    for row in written:
        np.testing.assert_allclose(rows.loc[row["id"], "seed_1"], float(row["seed_1"]), atol=1e-4)

    (root / "encoders" / "bert" / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(DhmdError, match="is not the encoder that the model was"):
        Model("models/demo", "cpu").predict(folder)


def test_tokens_of_an_mmsa_file_are_read(root: Path, wide_encoder: Path) -> None:
    small_recipe(root, "mmmo", options=None)
    folder = root / "data" / "placed" / "mmmo"
    place_mmsa(folder)
    features = {"text": "contextual", "encoder": str(wide_encoder)}
    run_stages(root, "mmmo", "word", features=features)
    corpus = read_corpus(Path("data/aligned/mmmo.h5"))
    assert len(corpus.feature_names["text"]) == 16
    assert corpus.tokens is not None
    np.testing.assert_array_equal(corpus.tokens.lengths, corpus.features["text"].lengths)
    assert metrics_of("mmmo")["test"]["mae"] < 6
    check_prediction("mmmo", folder / "aligned_20.pkl")


def test_tokens_of_an_mmsa_file_train_the_encoder(root: Path, wide_encoder: Path) -> None:
    small_recipe(root, "mmmo", options=None)
    folder = root / "data" / "placed" / "mmmo"
    place_mmsa(folder)
    features = {"text": "finetune", "encoder": str(wide_encoder)}
    variants = {"variants": ["no_distillation", "only_audio"]}
    run_stages(root, "mmmo", "word", features=features, ablate=variants)
    assert metrics_of("mmmo")["test"]["mae"] < 6
    before = load_file(wide_encoder / "model.safetensors")
    for seed in (1, 2):
        weights = load_file(Path("models", "mmmo", f"seed-{seed}.safetensors"))
        name = "encoder.layer.0.attention.self.query.weight"
        assert not torch.equal(weights[f"encoder.{name}"], before[name])
    assert Path("models", "mmmo", "encoder", "config.json").is_file()
    check_prediction("mmmo", folder / "aligned_20.pkl")
    other = Path("ablations", "mmmo", "only_audio", "seed-1.safetensors")
    assert not any(name.startswith("encoder.") for name in load_file(other))
    other = Path("ablations", "mmmo", "no_distillation", "seed-1.safetensors")
    assert any(name.startswith("encoder.") for name in load_file(other))


def train_again(root: Path, recorder: Recorder) -> None:
    settings = load_params(root).for_dataset("demo")
    assert settings.features.encoder is not None
    train_job(
        settings.configuration,
        Path("data/aligned/demo.h5"),
        Path("pretrained/demo"),
        root / "again",
        fold=None,
        observer=recorder,
        store=root / "trainings",
        encoder=load_encoder(settings.features.encoder, root),
    )


def test_words_train_the_encoder_and_an_interrupted_training_ends_the_same(
    root: Path, tiny_encoder: Path
) -> None:
    small_recipe(root, "demo", generator=GENERATOR)
    features = {"text": "finetune", "encoder": str(tiny_encoder)}
    train, ablate = {"epochs": 2}, {"variants": []}
    run_stages(root, "demo", "word", features=features, train=train, ablate=ablate)
    assert metrics_of("demo")["test"]["mae"] < 6
    tokens = read_corpus(Path("data/aligned/demo.h5")).tokens
    assert tokens is not None
    assert (tokens.lengths > 2).any()

    # Two epochs of the first seed and one of the second are complete.
    with pytest.raises(KeyboardInterrupt):
        train_again(root, Recorder(stop_after=3))
    assert not (root / "again").exists()
    recorder = Recorder()
    train_again(root, recorder)
    assert [epoch for epoch, _ in recorder.epochs] == [2]
    assert read_files(root / "again") == read_files(Path("models/demo"))
    assert list((root / "trainings" / "tasks").iterdir()) == []

    check_prediction("demo", Path("data/raw/demo"), segments=Path("data/raw/demo/labels.csd"))
