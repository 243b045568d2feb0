"""Single utterances in the report and in the page of new predictions.

utterances.html and utterances.js render the result of `utterances_view`.

S seeds, N utterances, M modalities, O outputs (1, or one per class).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from dhmd.base.label_sets import class_membership
from dhmd.evaluation.explanations import Explanations, active_codes
from dhmd.evaluation.model_outputs import AUXILIARY, CODES, EDGES, arrays_in_group
from dhmd.evaluation.statistics import video_of

Array = np.ndarray[Any, Any]

_MAX_CHARACTERS: Final = 600  # maximum length of the words of an utterance


def utterances_view(
    explanations: Explanations,
    low: float,
    high: float,
    *,
    intervals_N2: Array | None = None,
    labels_N: Array | None = None,
    splits_N: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the data of utterances.js as JSON values.

    Args:
        explanations: explanations of the N utterances.
        low, high: range of the labels.
        intervals_N2: start and end in seconds; None if unknown, NaN rows where unknown.
        labels_N: labels (sets of classes as numbers); None if unknown.
        splits_N: names of the splits; None for utterances outside the corpus.

    Returns:
        `task`, `low`, `high`, `classes`, `modalities`, `seeds`; `words`: rows of space, code and
        words that activate it; and `items`, one per utterance: `id`, `video`, `words`, `time`,
        `shown` (per seed, the prediction or the probability of the predicted class), `outputs`
        (mean of each output), `label` (a number, or a list of class indices), `error`, `split`,
        `absent` (modalities), `moves` (contribution of each modality), and `edges`, `auxiliary`
        and `codes` by space.
    """
    edges, auxiliary, codes = (
        arrays_in_group(explanations.arrays, name) for name in (EDGES, AUXILIARY, CODES)
    )
    errors_N = None
    if labels_N is not None:
        errors_N = utterance_errors(explanations.task, explanations.outputs, labels_N)
    modalities, present_NM, items = explanations.modalities, explanations.present_NM, []
    for n, name in enumerate(explanations.ids):
        item: dict[str, Any] = {
            "id": name,
            "video": video_of(name),
            "words": "",
            "shown": _rounded(explanations.explained_output[:, n]),
            "outputs": _rounded(explanations.outputs[:, n].mean(0)),
            "absent": [m for m, has in zip(modalities, present_NM[n], strict=True) if not has],
            "moves": _rounded(explanations.contributions[:, n].mean(0)),
            "edges": {k: _rounded(values[:, n].mean(0), 2) for k, values in edges.items()},
            "auxiliary": {
                space: _rounded(values[:, n].mean(0).reshape(len(modalities), -1), 2)
                for space, values in auxiliary.items()
            },
            "codes": {
                space: [
                    [[k, round(a, 2)] for k, a in active_codes(codes_K)] for codes_K in values[n]
                ]
                for space, values in codes.items()
            },
        }
        if explanations.words is not None:
            item["words"] = " ".join(explanations.words[n])[:_MAX_CHARACTERS]
        if intervals_N2 is not None and np.isfinite(intervals_N2[n]).all():
            item["time"] = _rounded(intervals_N2[n], 2)
        if labels_N is not None and errors_N is not None:
            label: Any = round(float(labels_N[n]), 3)
            if explanations.task != "regression":
                classes = explanations.outputs.shape[-1]
                label = np.flatnonzero(
                    class_membership(explanations.task, labels_N[[n]], classes)
                ).tolist()
            item |= {"label": label, "error": round(float(errors_N[n]), 3)}
        if splits_N is not None:
            item["split"] = str(splits_N[n])
        items.append(item)
    listed = {
        (space, code)
        for item in items
        for space, by_modality in item["codes"].items()
        for pairs in by_modality
        for code, _ in pairs
    }
    return {
        "task": explanations.task,
        "low": low,
        "high": high,
        "classes": list(explanations.class_names),
        "modalities": list(modalities),
        "seeds": list(explanations.seeds),
        "words": [
            [space, code, ", ".join(word.text for word in words)]
            for (space, code), words in explanations.code_words.items()
            if (space, code) in listed
        ],
        "items": items,
    }


def utterance_errors(task: str, outputs_SNO: Array, labels_N: Array) -> Array:
    """Return the error of each utterance, `[N]`.

    It is the mean absolute error over seeds, or 1 - the mean probability of the label. In a
    multi-label task, it is averaged over classes.
    """
    if task == "regression":
        return np.asarray(np.abs(outputs_SNO[..., 0] - labels_N).mean(0))
    truth_NO, mean_NO = class_membership(task, labels_N, outputs_SNO.shape[-1]), outputs_SNO.mean(0)
    if task == "multilabel":
        return np.asarray(np.abs(truth_NO - mean_NO).mean(1))
    return np.asarray(1.0 - mean_NO[truth_NO])


def _rounded(values: Array, digits: int = 3) -> Any:
    """Return an array as nested lists of rounded numbers, None for NaN."""
    if values.ndim > 1:
        return [_rounded(value, digits) for value in values]
    return [round(v, digits) if np.isfinite(v) else None for v in values.astype(float).tolist()]
