"""Numbers that others have published for MOSI and MOSEI, and whether a run here compares with them.

Accuracies as shares. ACC2 leaves out utterances labelled 0. Every value is (lowest, highest), equal
where there is one. The features are what the source says of its text; None where the numbers came
to us without them: such a row is never called comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dhmd.report.inputs import Inputs

Range = tuple[float, float]

# Widths by which a corpus's text features are known.
_FEATURES: Final[Mapping[int, str]] = {300: "GloVe", 768: "BERT"}


@dataclass(frozen=True)
class Published:
    """One row: what, from where, with which text features, and how it compares with this run."""

    model: str
    source: str
    features: str | None
    values: Mapping[str, Range]
    comparable: bool = False
    why: str = ""


def published_for(inputs: Inputs) -> list[Published]:
    """The published rows of the corpus that a dataset is made from; none for other corpora."""
    corpus = _corpus_of(inputs.name)
    if corpus is None or inputs.task != "regression":
        return []
    own, fault = _own_features(inputs)
    return [
        Published(
            entry.model, entry.source, entry.features, entry.values, *_verdict(entry, own, fault)
        )
        for entry in _TABLE[corpus]
    ]


def _corpus_of(name: str) -> str | None:
    for corpus in _TABLE:
        if name == corpus or name.startswith(f"{corpus}_"):
            return corpus
    return None


def _own_features(inputs: Inputs) -> tuple[str | None, str]:
    """The kind of text features of this run, and why nothing compares with it, if so."""
    if set(inputs.modalities) != {"text", "audio", "vision"}:
        return None, f"this run reads {', '.join(inputs.modalities)} only"
    width = inputs.corpus.features["text"].values.shape[1]
    kind = _FEATURES.get(width)
    return kind, "" if kind else f"this run's text features ({width} values) are of another kind"


def _verdict(entry: Published, own: str | None, fault: str) -> tuple[bool, str]:
    if fault:
        return False, f"no: {fault}"
    if entry.features is None:
        return False, "no: its features are not recorded here"
    if entry.features != own:
        return False, f"no: its text is {entry.features}, this run's {own}"
    if own == "BERT":
        return True, "with care: most train BERT along, here it is frozen"
    return True, "with care: other training, seeds and selection"


def _row(
    model: str,
    source: str,
    features: str | None,
    acc2: Range,
    acc7: Range,
    mae: Range | None = None,
    corr: Range | None = None,
) -> Published:
    values = {
        "acc2_non0": (acc2[0] / 100, acc2[1] / 100),
        "acc7": (acc7[0] / 100, acc7[1] / 100),
    }
    values |= {"mae": mae} if mae else {}
    values |= {"corr": corr} if corr else {}
    return Published(model, source, features, values)


def _one(value: float) -> Range:
    return value, value


_RERUNS: Final = "range of five independent re-runs"
_CITED: Final = "as later papers cite it"
_GUESS: Final = "guess: DMD as cited plus the paper's relative gains; its own table is not public"

_TABLE: Final[Mapping[str, tuple[Published, ...]]] = {
    "mosi": (
        _row("DMD (BERT)", _CITED, "BERT", _one(86.0), _one(45.6)),
        _row("DMD, re-run", _RERUNS, None, (83.2, 84.9), (43.9, 46.2), (0.71, 0.75)),
        _row("DMD (GloVe)", "aligned, unconfirmed", "GloVe", _one(84.5), _one(41.4)),
        _row("DLF", "AAAI 2025", "BERT", _one(85.06), _one(47.1), _one(0.731), _one(0.781)),
        _row("DecAlign", "ICLR 2026", "BERT", _one(85.75), _one(45.1), _one(0.735), _one(0.811)),
        _row("MODS", "AAAI 2026", None, _one(85.83), _one(49.3), _one(0.688), _one(0.798)),
        _row("FINE", "AAAI 2026", None, _one(86.95), _one(48.5)),
        _row("DHMD, guessed", _GUESS, None, _one(87.1), _one(46.2)),
    ),
    "mosei": (
        _row("DMD (BERT)", _CITED, "BERT", _one(86.6), _one(54.5)),
        _row("DMD, re-run", _RERUNS, None, (84.2, 85.2), (52.8, 54.2), (0.54, 0.56)),
        _row("DMD (GloVe)", "aligned, unconfirmed", "GloVe", _one(85.0), _one(53.7)),
        _row("DLF", "AAAI 2025", "BERT", _one(85.42), _one(53.9), _one(0.536), _one(0.764)),
        _row("DecAlign", "ICLR 2026", "BERT", _one(86.48), _one(55.0), _one(0.543), _one(0.768)),
        _row("MODS", "AAAI 2026", None, _one(85.88), _one(54.3), _one(0.527), _one(0.772)),
        _row("FINE", "AAAI 2026", None, _one(87.70), _one(55.6)),
        _row("DHMD, guessed", _GUESS, None, _one(88.2), _one(55.8)),
    ),
}
