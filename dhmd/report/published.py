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
    """One published row: its values by metric, and whether and why it compares with a run."""

    model: str
    source: str
    features: str | None
    values: Mapping[str, float]
    comparable: bool
    reason: str


def published_results(data: ReportData) -> list[Published]:
    """Return the published rows of the corpus that a dataset is made from; [] for other corpora."""
    name = data.name.partition("_")[0]
    if name not in _TABLE or data.task != "regression":
        return []
    own, mismatch = _FEATURES.get(data.corpus.features["text"].values.shape[1]), ""
    if set(data.modalities) != {"text", "audio", "vision"}:
        mismatch = f"this run uses {', '.join(data.modalities)} only"
    elif own is None:
        mismatch = "this run's text features are of another kind"
    entries = []
    for model, source, features, *values in _TABLE[name]:
        if mismatch:
            comparable, reason = False, f"no: {mismatch}"
        elif features is None:
            comparable, reason = False, "no: its features are not recorded here"
        elif features != own:
            comparable, reason = False, f"no: its text is {features}, this run's is {own}"
        else:
            comparable, reason = (
                True,
                "with care: fine-tuning, seeds and selection differ",
            )
        known = {m: v for m, v in zip(METRICS, values, strict=True) if v is not None}
        entries.append(Published(model, source, features, known, comparable, reason))
    return entries
