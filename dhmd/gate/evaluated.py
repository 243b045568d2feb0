"""One dataset's metrics at one revision, computed again from its predictions.

`dvc commit` makes a hand-edited metrics file look clean, so nothing that is written is believed:
seeds' rows and means must follow from `predictions.csv`, or the folder is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.evaluation.files import (
    IDENTITY,
    METRICS_FILE,
    PREDICTIONS,
    SEEDS,
    TRUTH,
    Predictions,
    parse_json,
    parse_predictions,
    parse_seeds,
    parse_truth,
)
from dhmd.evaluation.identity import PROTOCOL, Identity, identity_from
from dhmd.evaluation.metrics import Scores, score
from dhmd.evaluation.summary import against_truth, metrics_summary
from dhmd.vcs import METRICS_FOLDER, Revision

# Far above what two processors' sums differ by, far below any digit that a table shows.
TOLERANCE = 1e-9
NEEDED = (IDENTITY, METRICS_FILE, SEEDS, PREDICTIONS)


class NotComparableError(DhmdError):
    """Why a comparison cannot be made: neither a pass nor a regression."""


@dataclass(frozen=True)
class Evaluated:
    """What a revision says of a dataset, and the scores computed again, by seed."""

    identity: Identity
    predictions: Predictions
    scores: dict[int, Scores]


def load_evaluated(revision: Revision, dataset: str, files: set[str]) -> Evaluated:
    """Read and check `metrics/<dataset>/`.

    A folder of another protocol than this code's cannot be checked by it: its scores are computed
    by this code, and its identity says that they do not compare.

    Raises:
        NotComparableError: a file missing, unreadable, or in disagreement with the predictions; the
            sentence names the revision, the file and the value.
    """
    folder = f"{METRICS_FOLDER}/{dataset}"
    absent = [name for name in NEEDED if name not in files]
    if absent:
        raise NotComparableError(f"{folder} of {revision.label} lacks {', '.join(absent)}")
    try:
        return _load(revision, dataset, folder, files)
    except NotComparableError:
        raise
    except DhmdError as error:
        raise NotComparableError(f"{revision.label}: {error}") from error


def _load(revision: Revision, dataset: str, folder: str, files: set[str]) -> Evaluated:
    def text(name: str) -> str:
        return revision.read(f"{folder}/{name}") or ""

    source = f"{folder}/{IDENTITY}"
    identity = identity_from(parse_json(text(IDENTITY), source), source)
    if identity.dataset != dataset:
        raise DhmdError(f"{source} is of the dataset {identity.dataset}")
    predictions = parse_predictions(text(PREDICTIONS), f"{folder}/{PREDICTIONS}")
    scores = {
        seed: score(identity.task, values, predictions.labels)
        for seed, values in zip(predictions.seeds, predictions.values, strict=True)
    }
    evaluated = Evaluated(identity, predictions, scores)
    if identity.protocol == PROTOCOL:
        truth = text(TRUTH) if TRUTH in files else None
        _check(evaluated, folder, text(SEEDS), text(METRICS_FILE), truth)
    return evaluated


def _check(evaluated: Evaluated, folder: str, seeds: str, metrics: str, truth: str | None) -> None:
    """Rows of seeds and means follow from the predictions.

    Raises:
        DhmdError: the first value that does not.
    """
    rows = parse_seeds(seeds, f"{folder}/{SEEDS}")
    computed = {seed: scores.values for seed, scores in evaluated.scores.items()}
    for split, found in rows.items():
        if set(found) != set(computed):
            raise DhmdError(
                f"{folder}/{SEEDS} has {split} rows of seeds {sorted(found)}, but {PREDICTIONS} "
                f"columns of seeds {sorted(computed)}"
            )
    for seed, values in computed.items():
        _agree(rows["test"][seed], values, f"{folder}/{SEEDS}: seed {seed}, test")
    planted: dict[str, Any] = {}
    ids, true_labels = parse_truth(truth, f"{folder}/{TRUTH}") if truth else ((), np.zeros(0))
    if ids:
        if ids != evaluated.predictions.ids:
            raise DhmdError(f"{folder}/{TRUTH} has other utterances than {PREDICTIONS}")
        predictions = evaluated.predictions
        by_seed = dict(zip(predictions.seeds, predictions.values, strict=True))
        planted["truth"], planted["ceiling"] = against_truth(
            evaluated.identity.task, by_seed, predictions.labels, true_labels
        )
    summary = metrics_summary(
        evaluated.identity.task, {"test": computed, "valid": rows["valid"]}, **planted
    )
    source = f"{folder}/{METRICS_FILE}"
    _agree(parse_json(metrics, source), summary, f"{source}:")


def _agree(written: object, computed: object, where: str) -> None:
    """Two nested values are the same up to the tolerance.

    Raises:
        DhmdError: naming the first place where they are not.
    """
    if isinstance(computed, Mapping):
        if not isinstance(written, Mapping):
            raise _disagreement(where, written, computed)
        for key in [*computed, *(key for key in written if key not in computed)]:
            _agree(written.get(key), computed.get(key), f"{where} {key}")
    elif isinstance(computed, float) and isinstance(written, int | float):
        try:
            near = abs(written - computed) <= TOLERANCE * max(1.0, abs(computed))
        except OverflowError:  # an integer beyond any float
            near = False
        if not near:
            raise _disagreement(where, written, computed)
    elif written != computed:
        raise _disagreement(where, written, computed)


def _disagreement(where: str, written: object, computed: object) -> DhmdError:
    says = "absent" if written is None else _shown(written)
    gives = "nothing" if computed is None else _shown(computed)
    return DhmdError(
        f"{where} is {says}, but {PREDICTIONS} gives {gives}: edited by hand or out of date; run "
        "dvc repro and commit what it writes"
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
