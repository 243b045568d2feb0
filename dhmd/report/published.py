"""Published results on MOSI and MOSEI, and whether they compare with a run of this project.

ACC2 leaves out utterances labelled 0. `features` are the text features that the source reports;
None where we do not know them: such a row is never called comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dhmd.report.data import ReportData

METRICS: Final = ("acc2_non0", "acc7", "mae", "corr")
# Text features by their width.
_FEATURES: Final[Mapping[int, str]] = {300: "GloVe", 768: "BERT"}

# Corpus -> (model, source, text features, ACC2, ACC7, MAE, correlation).
_Row = tuple[str, str, str | None, float, float, float | None, float | None]
_TABLE: Final[Mapping[str, tuple[_Row, ...]]] = {
    "mosi": (
        ("DMD", "CVPR 2023, as later papers cite it", "BERT", 0.860, 0.456, None, None),
        ("DLF", "AAAI 2025", "BERT", 0.8506, 0.471, 0.731, 0.781),
        ("DecAlign", "ICLR 2026", "BERT", 0.8575, 0.451, 0.735, 0.811),
        ("MODS", "AAAI 2026", None, 0.8583, 0.493, 0.688, 0.798),
        ("FINE", "AAAI 2026", None, 0.8695, 0.485, None, None),
    ),
    "mosei": (
        ("DMD", "CVPR 2023, as later papers cite it", "BERT", 0.866, 0.545, None, None),
        ("DLF", "AAAI 2025", "BERT", 0.8542, 0.539, 0.536, 0.764),
        ("DecAlign", "ICLR 2026", "BERT", 0.8648, 0.550, 0.543, 0.768),
        ("MODS", "AAAI 2026", None, 0.8588, 0.543, 0.527, 0.772),
        ("FINE", "AAAI 2026", None, 0.8770, 0.556, None, None),
    ),
}


@dataclass(frozen=True)
class Published:
    """One published row: values by metric, and whether it compares with a run, and why."""

    model: str
    source: str
    features: str | None
    values: Mapping[str, float]
    comparable: str


def own_features(data: ReportData) -> str | None:
    """Return the kind of the run's text features; None if it is unknown."""
    text = data.corpus.features.get("text")
    return None if text is None else _FEATURES.get(text.values.shape[1])


def published_results(data: ReportData) -> list[Published]:
    """Return the published rows of the corpus that a dataset is made from; [] for other corpora."""
    name = data.name.partition("_")[0]
    if name not in _TABLE or data.task != "regression":
        return []
    entries = []
    for model, source, features, *values in _TABLE[name]:
        if set(data.modalities) != {"text", "audio", "vision"}:
            comparable = "no: this run uses other modalities"
        elif features is None:
            comparable = "no: its text features are not recorded here"
        elif features != own_features(data):
            comparable = "no: other text features"
        else:
            comparable = "with care: fine-tuning, seeds and selection differ"
        known = {m: v for m, v in zip(METRICS, values, strict=True) if v is not None}
        entries.append(Published(model, source, features, known, comparable))
    return entries
