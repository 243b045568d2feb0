"""Small datasets with all files that a report reads, made without training a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.job import evaluate_job
from dhmd.report.job import report_job
from tests.evaluation.fakes import SIZES, SPACES, write_corpus, write_outputs

__all__ = ["SIZES", "DatasetOptions", "DatasetPaths", "make_dataset"]

# Words of transcripts that must not become markup.
SPECIAL_WORDS = ("<script>alert(1)</script>", "a&b", '"quoted"', "$x_1$", "naïve", "</table>")


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Options of `make_dataset`."""

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
    random_seed: int = 7
    classes: Sequence[str] = ("angry", "neutral & calm", "happy")
    warnings: Sequence[str] = ()


class DatasetPaths:
    """The paths of one dataset in a repository."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.aligned = root / "data" / "aligned" / f"{name}.h5"
        self.pretrained = root / "pretrained" / name
        self.models = root / "models" / name
        self.ablations = root / "ablations" / name
        self.metrics = root / "metrics" / name
        self.report = root / "reports" / name

    def write_report(self) -> None:
        report_job(self.aligned, self.pretrained, self.models, self.metrics, self.report)


def make_dataset(root: Path, options: DatasetOptions) -> DatasetPaths:
    """Write a corpus, model outputs, histories and metrics; the report is not written."""
    paths = DatasetPaths(root, options.name)
    paths.aligned.parent.mkdir(parents=True, exist_ok=True)
    write_corpus(
        paths.aligned,
        task=options.task,
        generated=options.generated,
        modalities=options.modalities,
        name=options.name,
        classes=options.classes,
        seed=options.random_seed,
        aligned=options.aligned,
        vocabulary=(*SPECIAL_WORDS, "good", "bad", "uh", "film") if options.words else (),
        widths={"text": options.text_width},
        report={
            "modalities": {options.modalities[0]: {"values_cleaned": 12}},
            "counts": {"words_dropped": 3, "labels_clipped": 0},
            "empty_segments": {"video99[0]": "<no words>"},
            "warnings": list(options.warnings),
        },
    )
    common = {
        "seeds": options.seeds,
        "spaces": options.spaces,
        "missing": len(options.modalities) > 1,
    }
    # Sparse codes of any words; one code is dead.
    shape = (2, sum(SIZES.values()), len(options.modalities), 8)
    codes = np.random.default_rng(options.random_seed).uniform(size=shape) ** 4 * (np.arange(8) < 7)
    codes /= codes.sum(-1, keepdims=True)
    change = {f"codes/{s}": a.astype(np.float32) for s, a in zip(SPACES, codes, strict=True)}
    model_options = common | {"change": change if options.spaces else {}}
    write_outputs(paths.models, paths.aligned, error=0.4, whole=True, **model_options)
    write_outputs(paths.pretrained, paths.aligned, error=1.2, unimodal=True, **common)
    for index, variant in enumerate(options.variants):
        folder = paths.ablations / variant
        write_outputs(folder, paths.aligned, error=0.4 + 0.2 * index, seed=index + 1, **common)
    paths.ablations.mkdir(parents=True, exist_ok=True)
    _write_history(paths.models, options, encoders=False)
    _write_history(paths.pretrained, options, encoders=True)
    evaluate_job(
        EvaluateConfig(resamples=100),
        paths.aligned,
        paths.pretrained,
        paths.models,
        paths.ablations,
        paths.metrics,
    )
    return paths


def _write_history(folder: Path, options: DatasetOptions, encoders: bool) -> None:
    lines = ["seed,epoch,name,value"]
    score = {"regression": "mae", "classification": "f1", "multilabel": "f1_weighted"}[options.task]
    for prefix in [f"{m}/" for m in options.modalities] if encoders else [""]:
        for seed in options.seeds:
            for epoch in range(1, 5 + seed % 2):
                for name in ("train/total", "train/task", "train/gd_homogeneous", f"valid/{score}"):
                    lines.append(f"{seed},{epoch},{prefix}{name},{1 / epoch + 0.01 * seed:.6g}")
                lines.append(f"{seed},{epoch},{prefix}lr,0.002")
            lines.append(f"{seed},3,{prefix}selected,1")
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
