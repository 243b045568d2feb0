"""Small corpora and model folders, made without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.base.artefacts import write_description
from dhmd.base.files import file_sha256
from dhmd.data.aligned import CorpusData, Ragged, read_corpus, write_cache

SIZES = {"train": 40, "valid": 20, "test": 30}
WIDTHS = {"text": 4, "audio": 3, "vision": 2}


def write_corpus(
    path: Path,
    *,
    task: str = "regression",
    generated: bool = True,
    modalities: Sequence[str] = ("text", "audio", "vision"),
    name: str = "toy",
    classes: int = 2,
    seed: int = 0,
) -> None:
    """A corpus of 5 utterances a video whose text tells the label, audio less, vision nothing."""
    rng = np.random.default_rng(seed)
    count = sum(SIZES.values())
    truth = np.clip(rng.normal(0, 1.5, count), -3, 3)
    labels = np.clip(np.round(truth + rng.normal(0, 0.5, count), 1), -3, 3)
    if task == "classification":
        labels = (truth > 0) + (truth > 1 if classes > 2 else 0) + 0.0
    videos = tuple(f"video{n // 5:02d}" for n in range(count))
    present = np.ones((count, len(modalities)), dtype=bool)
    if "audio" in modalities:
        present[::7, list(modalities).index("audio")] = False
    lengths = rng.integers(2, 6, count)
    features = {
        m: Ragged.from_rows(
            [
                rng.normal(size=(t, WIDTHS[m]))
                + {"text": 1, "audio": 0.3, "vision": 0}[m] * truth[n]
                for n, t in enumerate(lengths)
            ]
        )
        for m in modalities
    }
    planted: dict[str, Any] = {}
    if generated:
        planted = {f"reliability_{m}": rng.uniform(size=count) for m in modalities}
        planted |= {"truth": truth, "latent": rng.integers(0, 3, count).astype(float)}
    write_cache(
        path,
        CorpusData(
            name=name,
            task=task,  # type: ignore[arg-type]
            low=-3.0 if task == "regression" else 0.0,
            high=3.0 if task == "regression" else classes - 1.0,
            class_names=() if task == "regression" else tuple("abc"[:classes]),
            alignment="word",
            ids=tuple(f"{video}[{n % 5}]" for n, video in enumerate(videos)),
            videos=videos,
            modalities=tuple(modalities),
            feature_names={m: tuple(f"{m}{d}" for d in range(WIDTHS[m])) for m in modalities},
            present_NM=present,
            labels_N=labels.astype(np.float32),
            folds={"0": np.repeat(list(SIZES), list(SIZES.values()))},
            planted=planted,
            sources={"labels.csd": "0" * 64},
            report={},
            features=features,
            words=None,
            word_intervals=None,
        ),
    )


def write_outputs(
    folder: Path,
    cache: Path,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    error: float = 0.8,
    unimodal: bool = False,
    whole: bool = False,
    change: Mapping[str, Any] | None = None,
    modalities: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    """A model folder whose predictions are the labels plus normal errors.

    `whole` adds edges that follow the planted reliability, codes by the planted latent, and
    withheld modalities; `change` replaces attributes or datasets.
    """
    corpus = read_corpus(cache, test_labels=True)
    modalities = tuple(corpus.modalities if modalities is None else modalities)
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (len(seeds), len(corpus.ids))
    if unimodal:
        shape = (*shape, len(modalities))
    noise = rng.normal(0, error, shape)
    labels = corpus.labels_N.reshape(1, -1, *[1] * (len(shape) - 2))
    if corpus.task == "classification":
        classes = len(corpus.class_names)
        scores = np.eye(classes)[corpus.labels_N.astype(int)]
        scores = scores.reshape(1, len(corpus.ids), *[1] * (len(shape) - 2), classes)
        scores = scores + rng.normal(0, error, (*shape, classes))
        prediction = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    else:
        prediction = labels + noise
    data: dict[str, Any] = {"prediction": prediction.astype(np.float32)}
    attributes: dict[str, Any] = {
        "seeds": np.array(seeds, dtype=np.int64),
        "modalities": json.dumps(modalities),
        "task": corpus.task,
        "identity": corpus.identity,
        "fold": corpus.fold,
    }
    if whole:
        data |= _whole(corpus, modalities, len(seeds), prediction, rng)
        statistics = [{"active": 2.0 + s, "dead": 5, "overlap_different": None} for s in seeds]
        attributes["dictionary_stats"] = json.dumps(
            {space: statistics for space in ("homogeneous", "heterogeneous")}
        )
    for name, value in (change or {}).items():
        (attributes if name in attributes else data)[name] = value
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "outputs.h5", "w") as file:
        text = h5py.string_dtype()
        file.create_dataset("ids", data=list(corpus.ids), dtype=text)
        file.create_dataset("split", data=corpus.split_N.astype(object), dtype=text)
        for name, value in data.items():
            file.create_dataset(name, data=value)
        file.attrs.update(attributes)
    write_description(folder, {"files": {"outputs.h5": file_sha256(folder / "outputs.h5")}})


def _whole(
    corpus: Any, modalities: Sequence[str], seeds: int, prediction: Any, rng: Any
) -> dict[str, Any]:
    count, m = len(corpus.ids), len(modalities)
    result: dict[str, Any] = {}
    for index, name in enumerate(modalities):
        worse = prediction + rng.normal(0, 0.5 * (m - index), prediction.shape)
        worse[:, corpus.split_N != "test"] = np.nan
        result[f"withheld/{name}"] = worse.astype(np.float32)
    weights = np.full((seeds, count, m, m), 1 / m)
    if corpus.planted:
        reliability = np.stack([corpus.planted[f"reliability_{n}"] for n in modalities], axis=1)
        weights[:] = (reliability / reliability.sum(1, keepdims=True))[None, :, :, None]
    weights[np.broadcast_to(~corpus.present_NM[None, :, None, :m], weights.shape)] = np.nan
    codes = np.zeros((count, m, 8), dtype=np.float32)
    latent = corpus.planted.get("latent", np.zeros(count)).astype(int)
    codes[np.arange(count)[:, None], np.arange(m), latent[:, None]] = 1.0
    for space in ("homogeneous", "heterogeneous"):
        result[f"edges/{space}"] = weights.astype(np.float32)
        result[f"codes/{space}"] = codes
    return result
