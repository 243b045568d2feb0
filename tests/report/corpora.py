"""A small evaluated dataset of every kind, made without a model: all that a report reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.job import evaluate_job
from dhmd.report.job import report_job
from tests.evaluation.fakes import SIZES, SPACES, write_corpus, write_outputs

__all__ = ["SIZES", "Kind", "Places", "make"]

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
    write_corpus(
        places.cache,
        task=kind.task,
        generated=kind.generated,
        modalities=kind.modalities,
        name=kind.name,
        classes=kind.classes,
        seed=kind.draw,
        aligned=kind.aligned,
        vocabulary=(*NASTY, "good", "bad", "uh", "film") if kind.words else (),
        widths={"text": kind.text_width},
        report={
            "modalities": {kind.modalities[0]: {"values_cleaned": 12}},
            "counts": {"words_dropped": 3, "labels_clipped": 0},
            "empty_segments": {"video99[0]": "<no words>"},
            "warnings": list(kind.warnings),
        },
    )
    more = {"seeds": kind.seeds, "spaces": kind.spaces, "missing": len(kind.modalities) > 1}
    # Sparse codes of any words; one code is dead.
    shape = (2, sum(SIZES.values()), len(kind.modalities), 8)
    codes = np.random.default_rng(kind.draw).uniform(size=shape) ** 4 * (np.arange(8) < 7)
    codes /= codes.sum(-1, keepdims=True)
    change = {f"codes/{s}": a.astype(np.float32) for s, a in zip(SPACES, codes, strict=True)}
    own = more | {"change": change if kind.spaces else {}}
    write_outputs(places.models, places.cache, error=0.4, whole=True, **own)
    write_outputs(places.pretrained, places.cache, error=1.2, unimodal=True, **more)
    for index, variant in enumerate(kind.variants):
        folder = places.ablations / variant
        write_outputs(folder, places.cache, error=0.4 + 0.2 * index, seed=index + 1, **more)
    places.ablations.mkdir(parents=True, exist_ok=True)
    _history(places.models, kind, encoders=False)
    _history(places.pretrained, kind, encoders=True)
    evaluate_job(
        EvaluateConfig(resamples=100),
        places.cache,
        places.pretrained,
        places.models,
        places.ablations,
        places.metrics,
    )
    return places


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
