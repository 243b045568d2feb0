"""The view of single utterances, in the report and in the page of new predictions.

utterances.html and utterances.js show what `view` returns.

S seeds, N utterances, M modalities, O outputs (1, or one per class).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from dhmd.base.label_sets import class_membership
from dhmd.evaluation.explanations import Explanations, active_codes
from dhmd.evaluation.model_outputs import AUXILIARY, CODES, EDGES, group

Array = np.ndarray[Any, Any]

_MAX_WORDS: Final = 600  # characters


def view(
    found: Explanations,
    low: float,
    high: float,
    *,
    intervals_N2: Array | None = None,
    labels_N: Array | None = None,
    splits_N: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Describe utterances for utterances.js, as JSON values.

    Args:
        low, high: the range of the labels.
        intervals_N2: start and end in seconds, if they are known.
        labels_N: labels (as numbers, see dhmd/base/label_sets.py), if known.

    Returns:
        Facts about all utterances, and `items`, one per utterance: id, video, words, time, `shown`
        (per seed, the value or the probability of the predicted class), `outputs` (means of all
        outputs), label (a number, or a list of classes), error, split, `absent` modalities,
        `moves` (the contribution of each modality), and by space edges, auxiliary outputs, codes.
    """
    parts = {name: group(found.arrays, name) for name in (EDGES, AUXILIARY, CODES)}
    errors_N = None if labels_N is None else errors(found.task, found.outputs, labels_N)
    classes, items = found.outputs.shape[-1], []
    for n, name in enumerate(found.ids):
        item: dict[str, Any] = {
            "id": name,
            "video": video_of(name),
            "words": "" if found.words is None else " ".join(found.words[n])[:_MAX_WORDS],
            "shown": _numbers(found.shown[:, n]),
            "outputs": _numbers(found.outputs[:, n].mean(0)),
            "absent": [
                m
                for m, there in zip(found.modalities, found.present_NM[n], strict=True)
                if not there
            ],
            "moves": _numbers(found.changes[:, n].mean(0)),
            "edges": {k: _numbers(values[:, n].mean(0), 2) for k, values in parts[EDGES].items()},
            "auxiliary": {
                space: _numbers(values[:, n].mean(0).reshape(len(found.modalities), -1), 2)
                for space, values in parts[AUXILIARY].items()
            },
            "codes": {
                space: [
                    [[k, round(a, 2)] for k, a in active_codes(codes_K)] for codes_K in values[n]
                ]
                for space, values in parts[CODES].items()
            },
        }
        if intervals_N2 is not None and np.isfinite(intervals_N2[n]).all():
            item["time"] = _numbers(intervals_N2[n], 2)
        if labels_N is not None and errors_N is not None:
            label: Any = round(float(labels_N[n]), 3)
            if found.task != "regression":
                label = np.flatnonzero(
                    class_membership(found.task, labels_N[[n]], classes)
                ).tolist()
            item |= {"label": label, "error": round(float(errors_N[n]), 3)}
        if splits_N is not None:
            item["split"] = str(splits_N[n])
        items.append(item)
    shown = {
        (space, code)
        for item in items
        for space, by_modality in item["codes"].items()
        for codes in by_modality
        for code, _ in codes
    }
    return {
        "task": found.task,
        "low": low,
        "high": high,
        "classes": list(found.class_names),
        "modalities": list(found.modalities),
        "seeds": list(found.seeds),
        "words": [
            [space, code, ", ".join(word.text for word in words)]
            for (space, code), words in found.code_words.items()
            if (space, code) in shown
        ],
        "items": items,
    }


def errors(task: str, outputs_SNO: Array, labels_N: Array) -> Array:
    """Return mean absolute errors over seeds, or 1 - the mean probability of the label."""
    if task == "regression":
        error_N: Array = np.abs(outputs_SNO[..., 0] - labels_N).mean(0)
        return error_N
    truth_NO, mean_NO = class_membership(task, labels_N, outputs_SNO.shape[-1]), outputs_SNO.mean(0)
    if task == "multilabel":
        return np.asarray(np.abs(truth_NO - mean_NO).mean(1))
    return np.asarray(1.0 - mean_NO[truth_NO])


def video_of(utterance: str) -> str:
    """Return the video of an id `video[i]`."""
    return utterance.rpartition("[")[0] or utterance


def _numbers(values: Array, digits: int = 3) -> Any:
    """Return a nested list of rounded numbers, None for NaN."""
    if values.ndim > 1:
        return [_numbers(value, digits) for value in values]
    return [round(v, digits) if np.isfinite(v) else None for v in values.astype(float).tolist()]
