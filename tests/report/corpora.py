"""A small evaluated dataset of every kind, made without a model: all that a report reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from dhmd.base.label_sets import decode_sets, encode_sets
from dhmd.data.aligned import read_corpus
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.job import evaluate_job
from dhmd.report.job import report_job
from tests.aligned_files import CorpusData, ragged, write_aligned

SIZES = {"train": 30, "valid": 20, "test": 40}
# Whatever stands in a transcript must stay text.
NASTY = ("<script>alert(1)</script>", "a&b", '"quoted"', "$x_1$", "naïve", "</table>")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What kind of dataset."""

    name: str = "toy"
    task: str = "regression"
    modalities: Sequence[str] = ("text", "audio", "vision")
    generated: bool = True
    words: bool = True
    aligned: bool = True
    seeds: Sequence[int] = (1, 2, 3)
    variants: Sequence[str] = ("no_distillation", "uniform_edges", "mult", "gru")
    spaces: bool = True
    text_width: int = 4
    draw: int = 7  # of labels and features
    classes: Sequence[str] = ("angry", "neutral & calm", "happy")
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Places:
    """Where everything of one dataset is, as in a repository."""

    root: Path
    name: str

    @property
    def cache(self) -> Path:
        return self.root / "data" / "aligned" / f"{self.name}.h5"

    @property
    def pretrained(self) -> Path:
        return self.root / "pretrained" / self.name

    @property
    def models(self) -> Path:
        return self.root / "models" / self.name

    @property
    def ablations(self) -> Path:
        return self.root / "ablations" / self.name

    @property
    def metrics(self) -> Path:
        return self.root / "metrics" / self.name

    @property
    def report(self) -> Path:
        return self.root / "reports" / self.name

    def draw(self) -> None:
        report_job(self.cache, self.pretrained, self.models, self.metrics, self.report)


def make(root: Path, kind: Kind) -> Places:
    """The dataset, trained and evaluated as far as anyone can tell; not yet drawn."""
    places = Places(root, kind.name)
    places.cache.parent.mkdir(parents=True, exist_ok=True)
    _corpus(places.cache, kind)
    _model(places.models, places.cache, kind, error=0.7, whole=True)
    _model(places.pretrained, places.cache, kind, error=1.2, encoders=True)
    places.ablations.mkdir(parents=True)
    for index, variant in enumerate(kind.variants):
        _model(places.ablations / variant, places.cache, kind, error=0.7 + 0.2 * index)
    evaluate_job(
        EvaluateConfig(resamples=100),
        places.cache,
        places.pretrained,
        places.models,
        places.ablations,
        places.metrics,
    )
    return places


def _corpus(path: Path, kind: Kind) -> None:
    rng = np.random.default_rng(kind.draw)
    count, names = sum(SIZES.values()), tuple(kind.modalities)
    truth = np.clip(rng.normal(0, 1.5, count), -3, 3)
    labels = np.clip(np.round(truth + rng.normal(0, 0.7, count), 1), -3, 3)
    classes = tuple(kind.classes) if kind.task != "regression" else ()
    low, high = (0.0, len(classes) - 1.0) if classes else (-3.0, 3.0)
    if kind.task == "classification":
        labels = np.digitize(truth, np.linspace(-1, 1, len(classes) - 1)).astype(float)
    elif classes:
        labels = encode_sets(np.stack([truth - c for c in range(-1, len(classes) - 1)], axis=1))
        low, high = 2.0 ** len(classes), 2.0 ** (len(classes) + 1) - 1
    lengths = rng.integers(2, 6, count)
    videos = tuple(f"video{n // 5:02d}" for n in range(count))
    present = np.ones((count, len(names)), dtype=bool)
    if len(names) > 1:
        present[::7, 1] = False
    features = {}
    for m, name in enumerate(names):
        width = kind.text_width if name == "text" else 3
        own = lengths if kind.aligned else lengths * (m + 1)
        values = [rng.normal(size=(t, width)) + truth[n] / (m + 1) for n, t in enumerate(own)]
        features[name] = ragged(values)
    words = None
    if kind.words:
        vocabulary = (*NASTY, "good", "bad", "uh", "film")
        words = tuple(tuple(rng.choice(vocabulary, t)) for t in lengths)
    planted = {}
    if kind.generated:
        planted = {f"reliability_{m}": rng.uniform(size=count) for m in names}
        planted |= {"truth": truth, "latent": rng.integers(0, 3, count).astype(float)}
    if kind.generated and classes:
        planted["truth"] = labels
    write_aligned(
        path,
        CorpusData(
            name=kind.name,
            task=kind.task,  # type: ignore[arg-type]
            low=low,
            high=high,
            class_names=classes,
            alignment="word" if kind.aligned else "none",
            ids=tuple(f"{video}[{n % 5}]" for n, video in enumerate(videos)),
            videos=videos,
            modalities=names,
            feature_names={
                m: tuple(f"{m}{d}" for d in range(features[m].values.shape[1])) for m in names
            },
            present_NM=present,
            labels_N=labels.astype(np.float32),
            folds={"0": np.repeat(list(SIZES), list(SIZES.values()))},
            planted=planted,
            sources={"labels.csd": "0" * 64},
            report={
                "modalities": {names[0]: {"values_cleaned": 12}},
                "counts": {"words_dropped": 3, "labels_clipped": 0},
                "empty_segments": {"video99[0]": "<no words>"},
                "warnings": list(kind.warnings),
            },
            features=features,
            words=words,
            word_intervals=None,
        ),
    )


def _model(
    folder: Path,
    cache: Path,
    kind: Kind,
    *,
    error: float,
    whole: bool = False,
    encoders: bool = False,
) -> None:
    corpus = read_corpus(cache, test_labels=True)
    rng = np.random.default_rng(round(error * 1000))
    names, seeds = tuple(kind.modalities), tuple(kind.seeds)
    count, m = len(corpus.ids), len(names)
    shape: tuple[int, ...] = (len(seeds), count, *((m,) if encoders else ()))
    label = corpus.labels_N.reshape(1, count, *((1,) if encoders else ()))
    if kind.task == "classification":
        one_hot = np.eye(len(kind.classes))[label.astype(int)]
        scores = np.exp(2 * one_hot + rng.normal(0, error, (*shape, len(kind.classes))))
        prediction = scores / scores.sum(-1, keepdims=True)
    elif kind.task == "multilabel":
        sets = decode_sets(corpus.labels_N).reshape(*label.shape, -1)
        noise = rng.normal(0, error, (*shape, len(kind.classes)))
        prediction = 1 / (1 + np.exp(1 - 2 * sets + noise))
    else:
        prediction = 0.8 * label + rng.normal(0, error, shape)
    found = {"prediction": prediction}
    if whole:
        found |= _inside(kind, corpus.present_NM, count, rng)
        for name in names if m > 1 else ():
            found[f"missing/{name}"] = np.roll(prediction, 1, axis=1) * 0.3 + prediction * 0.7
    folder.mkdir(parents=True)
    with h5py.File(folder / "outputs.h5", "w") as file:
        text = h5py.string_dtype()
        file.create_dataset("ids", data=list(corpus.ids), dtype=text)
        file.create_dataset("split", data=corpus.split_N.astype(object), dtype=text)
        for key, value in found.items():
            file.create_dataset(key, data=value.astype(np.float32))
        file.attrs["seeds"] = np.array(seeds, dtype=np.int64)
        file.attrs["modalities"] = json.dumps(names)
        file.attrs["task"] = corpus.task
        file.attrs["identity"] = corpus.identity
        file.attrs["fold"] = corpus.fold
        if whole and kind.spaces:
            counts = {"active": 2.5, "used": 6.0, "dead": 2.0, "perplexity": 4.2}
            spaces = ("homogeneous", "heterogeneous")
            file.attrs["dictionary_stats"] = json.dumps({s: [counts] * len(seeds) for s in spaces})
    _history(folder, kind, encoders)
    (folder / "model.json").write_text("{}\n")


def _inside(
    kind: Kind, present: np.ndarray, count: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Edges that sum to 1 over sources, sparse codes, features; NaN where a modality is absent."""
    found: dict[str, np.ndarray] = {}
    seeds, m = len(kind.seeds), len(kind.modalities)
    for space in ("homogeneous", "heterogeneous") if kind.spaces else ():
        weights = rng.uniform(0.1, 1, (seeds, count, m, m)) * present[None, :, :, None]
        weights /= weights.sum(2, keepdims=True)
        found[f"edges/{space}"] = np.where(present[None, :, None, :], weights, np.nan)
        codes = rng.uniform(size=(count, m, 8)) ** 4
        codes[..., 7] = 0.0  # one is dead
        found[f"codes/{space}"] = codes / codes.sum(2, keepdims=True) * present[:, :, None]
        features = rng.normal(size=(count, m, 5)) + np.arange(m)[None, :, None]
        found[f"embedding/{space}"] = np.where(present[:, :, None], features, np.nan)
    return found


def _history(folder: Path, kind: Kind, encoders: bool) -> None:
    lines = ["seed,epoch,name,value"]
    score = {"regression": "mae", "classification": "f1", "multilabel": "f1_weighted"}[kind.task]
    for prefix in [f"{m}/" for m in kind.modalities] if encoders else [""]:
        for seed in kind.seeds:
            for epoch in range(1, 5 + seed % 2):
                for name in ("train/total", "train/task", "train/gd_homogeneous", f"valid/{score}"):
                    lines.append(f"{seed},{epoch},{prefix}{name},{1 / epoch + 0.01 * seed:.6g}")
                lines.append(f"{seed},{epoch},{prefix}lr,0.002")
            lines.append(f"{seed},3,{prefix}selected,1")
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
