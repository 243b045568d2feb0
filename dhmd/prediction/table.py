"""The CSV file of predictions.

Regression: `id,start,end,mean,seed_1,…`. Classification: `mean` and each seed are classes by name,
each followed by its probability, `mean,mean_probability,seed_1,seed_1_probability,…`; the mean is
taken over the seeds' probabilities.

S seeds, N utterances, O outputs (1, or C classes).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def table_text(
    ids: Sequence[str],
    intervals_N2: Array,
    seeds: Sequence[int],
    prediction_SNO: Array,
    class_names: Sequence[str],
) -> str:
    """The file's text; numbers in the fewest digits that read back exactly (as float32)."""
    header = ["id", "start", "end"]
    start_N, end_N = intervals_N2.T.tolist()
    columns: list[Sequence[str]] = [
        ids,
        *([repr(time) for time in row] for row in (start_N, end_N)),
    ]
    mean_NO = prediction_SNO.mean(0, dtype=np.float64).astype(np.float32)
    named = zip(
        ["mean", *(f"seed_{seed}" for seed in seeds)], [mean_NO, *prediction_SNO], strict=True
    )
    for name, prediction_NO in named:
        header.append(name)
        if not class_names:
            columns.append(_written(prediction_NO[:, 0]))
            continue
        header.append(f"{name}_probability")
        columns.append([class_names[index] for index in prediction_NO.argmax(-1)])
        columns.append(_written(prediction_NO.max(-1)))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
    return stream.getvalue()


def _written(values_N: Array) -> list[str]:
    written: list[str] = values_N.astype(np.float32).astype(np.str_).tolist()
    return written
