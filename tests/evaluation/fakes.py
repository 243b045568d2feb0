"""Small corpora and model directories, made without training a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.base.label_sets import decode_sets, encode_sets
from dhmd.data.aligned import read_corpus
from tests.aligned_files import CorpusData, ragged, write_aligned

SIZES = {"train": 40, "valid": 20, "test": 30}
# Slope of the label in the features; 0 for other modalities.
SIGNAL = {"text": 1.0, "audio": 0.3}
SPACES = ("homogeneous", "heterogeneous")


def write_corpus(
    path: Path,
    *,
    task: str = "regression",
    generated: bool = True,
    modalities: Sequence[str] = ("text", "audio", "vision"),
    name: str = "toy",
    classes: Sequence[str] = "ab",
    seed: int = 0,
    aligned: bool = True,
    vocabulary: Sequence[str] = (),
    widths: Mapping[str, int] | None = None,
    report: Mapping[str, Any] | None = None,
) -> None:
    """Write a corpus with 5 utterances per video, some without the second modality."""
    rng = np.random.default_rng(seed)
    count, names = sum(SIZES.values()), tuple(modalities)
    truth = np.clip(rng.normal(0, 1.5, count), -3, 3)
    labels = np.clip(np.round(truth + rng.normal(0, 0.5, count), 1), -3, 3)
    low, high = -3.0, 3.0
    if task == "classification":
        labels = (truth[:, None] > np.arange(len(classes) - 1)).sum(1) + 0.0
        low, high = 0.0, len(classes) - 1.0
    elif task == "multilabel":
        labels = encode_sets(truth[:, None] - np.arange(-1, len(classes) - 1))
        low, high = 2.0 ** len(classes), 2.0 ** (len(classes) + 1) - 1
    videos = tuple(f"video{n // 5:02d}" for n in range(count))
    present = np.ones((count, len(names)), dtype=bool)
    if len(names) > 1:
        present[::7, 1] = False
    lengths = rng.integers(2, 6, count)
    width = {m: 4 - index % 3 for index, m in enumerate(names)} | dict(widths or {})
    features = {
        m: ragged(
            [
                rng.normal(size=(t if aligned else t * (index + 1), width[m]))
                + SIGNAL.get(m, 0) * truth[n]
                for n, t in enumerate(lengths)
            ]
        )
        for index, m in enumerate(names)
    }
    planted: dict[str, Any] = {}
    if generated:
        planted = {f"reliability_{m}": rng.uniform(size=count) for m in names}
        planted |= {"truth": truth, "latent": rng.integers(0, 3, count).astype(float)}
    write_aligned(
        path,
        CorpusData(
            name=name,
            task=task,  # type: ignore[arg-type]
            low=low,
            high=high,
            class_names=() if task == "regression" else tuple(classes),
            alignment="word" if aligned else "none",
            ids=tuple(f"{video}[{n % 5}]" for n, video in enumerate(videos)),
            videos=videos,
            modalities=names,
            feature_names={m: tuple(f"{m}{d}" for d in range(width[m])) for m in names},
            present_NM=present,
            labels_N=labels.astype(np.float32),
            folds={"0": np.repeat(list(SIZES), list(SIZES.values()))},
            planted=planted,
            sources={"labels.csd": "0" * 64},
            report=dict(report or {}),
            features=features,
            words=tuple(tuple(rng.choice(vocabulary, t)) for t in lengths) if vocabulary else None,
            word_intervals=None,
        ),
    )


def write_outputs(
    folder: Path,
    aligned: Path,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    error: float = 0.8,
    unimodal: bool = False,
    whole: bool = False,
    spaces: bool = True,
    missing: bool = True,
    change: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Write a model directory whose predictions are the labels plus normal errors.

    Args:
        whole: whether to add edges that follow the planted reliability, codes that follow the
            planted latent class, features, and predictions with missing modalities.
        spaces: False leaves out edges, codes and features.
        missing: False leaves out predictions with missing modalities.
        change: attributes or datasets to replace.
    """
    corpus = read_corpus(aligned, test_labels=True)
    modalities = tuple(corpus.modalities)
    rng = np.random.default_rng(seed)
    extra = (len(modalities),) if unimodal else ()
    shape = (len(seeds), len(corpus.ids), *extra)
    labels = corpus.labels_N.reshape(1, -1, *(1 for _ in extra))
    if corpus.task == "classification":
        classes = len(corpus.class_names)
        scores = np.eye(classes)[labels.astype(int)] + rng.normal(0, error, (*shape, classes))
        prediction = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    elif corpus.task == "multilabel":
        sets = decode_sets(corpus.labels_N).reshape(*labels.shape, -1)
        noise = rng.normal(0, error, (*shape, len(corpus.class_names)))
        prediction = 1 / (1 + np.exp(1 - 2 * sets + noise))
    else:
        prediction = labels + rng.normal(0, error, shape)
    data: dict[str, Any] = {"prediction": prediction.astype(np.float32)}
    attributes: dict[str, Any] = {
        "seeds": np.array(seeds, dtype=np.int64),
        "modalities": json.dumps(modalities),
        "task": corpus.task,
        "identity": corpus.identity,
        "fold": corpus.fold,
    }
    if whole:
        data |= _interpretability(corpus, len(seeds)) if spaces else {}
        for index, name in enumerate([*modalities, "noise for text"] if missing else ()):
            worse = prediction + rng.normal(0, 0.5 * abs(len(modalities) - index), prediction.shape)
            worse[:, corpus.split_N != "test"] = np.nan
            data[f"missing/{name}"] = worse.astype(np.float32)
        statistics = [{"active": 2.0 + s, "dead": 5, "overlap_different": None} for s in seeds]
        if spaces:
            attributes["dictionary_stats"] = json.dumps(dict.fromkeys(SPACES, statistics))
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


def _interpretability(corpus: Any, num_seeds: int) -> dict[str, Any]:
    n, m = corpus.present_NM.shape
    weights = np.full((num_seeds, n, m, m), 1 / m)
    if corpus.planted:
        reliability = np.stack([corpus.planted[f"reliability_{k}"] for k in corpus.modalities], 1)
        weights[:] = (reliability / reliability.sum(1, keepdims=True))[None, :, :, None]
    weights[np.broadcast_to(~corpus.present_NM[None, :, None], weights.shape)] = np.nan
    codes = np.zeros((n, m, 8), dtype=np.float32)
    latent = corpus.planted.get("latent", np.zeros(n)).astype(int)
    codes[np.arange(n)[:, None], np.arange(m), latent[:, None]] = corpus.present_NM
    features = np.random.default_rng(1).normal(size=(n, m, 5)) + np.arange(m)[:, None]
    features[~corpus.present_NM] = np.nan
    groups = {"edges": weights, "codes": codes, "embedding": features}
    return {f"{k}/{s}": v.astype(np.float32) for k, v in groups.items() for s in SPACES}
