"""The files of `metrics/<dataset>/`, written and read back: one place for each format.

Numbers are written so that they read back exactly and in the fewest digits; nothing is rounded.
Every score is computed from the numbers as written, so that whoever reads `predictions.csv`, with
whatever tool, computes the very same ones.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError, first_line
from dhmd.evaluation.metrics import METRICS, Floats, Scores

PREDICTIONS = "predictions.csv"
SEEDS = "seeds.csv"
METRICS_FILE = "metrics.json"
IDENTITY = "identity.json"
TRUTH = "truth.csv"
SPLITS = ("test", "valid")
_SEED_PREFIX = "seed_"


@dataclass(frozen=True)
class Predictions:
    """What `predictions.csv` holds: test ids [N], labels [N], seeds [S] and values [S, N]."""

    ids: tuple[str, ...]
    labels: Floats
    seeds: tuple[int, ...]
    values: Floats


def read_text(path: Path) -> str:
    """A file that a stage has written.

    Raises:
        DhmdError: it is missing, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}; run dvc repro") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        DhmdError: as `read_text`, or it holds something else.
    """
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, dict):
        raise DhmdError(f"{path} is not a JSON object; run dvc repro")
    return value


@contextmanager
def written_by_evaluate(folder: Path) -> Iterator[None]:
    """Inside, what the folder's files hold is taken for what `evaluate` writes.

    Raises:
        DhmdError: it turned out to be something else, of another version or edited.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DhmdError(
            f"a file of {folder} holds other values than this version of evaluate writes "
            f"({type(error).__name__}: {first_line(error)}); run dvc repro"
        ) from error


def written(values: NDArray[np.floating[Any]] | NDArray[np.integer[Any]]) -> NDArray[np.str_]:
    """Each number in the fewest digits that read back to it exactly (`float32` in its own)."""
    return values.astype(np.str_)


def as_written(values: NDArray[np.floating[Any]]) -> Floats:
    """The numbers that a reader of the written ones gets."""
    return written(values).astype(np.float64)


def json_text(value: object) -> str:
    """JSON as this project writes it: indented, floats in shortest form, never NaN."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file with `\\n` line ends on every system."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def cells(scores: Scores, task: str) -> list[str]:
    """A row's metric cells; an undefined metric is an empty one."""
    return [
        repr(scores.values[metric]) if metric in scores.values else "" for metric in METRICS[task]
    ]


def predictions_text(predictions: Predictions, task: str) -> str:
    """`predictions.csv`; classes are whole numbers."""

    def column(values: Floats) -> list[str]:
        # The values came from written ones: as float64 they are shortest in the same digits.
        numbers = values.astype(np.int64) if task == "classification" else values
        return [str(value) for value in numbers.tolist()]

    header = ["id", "label", *(f"{_SEED_PREFIX}{seed}" for seed in predictions.seeds)]
    columns = [column(predictions.labels), *(column(values) for values in predictions.values)]
    return csv_text(header, zip(predictions.ids, *columns, strict=True))


def seeds_text(scores: Mapping[str, Mapping[int, Scores]], task: str) -> str:
    """`seeds.csv` from scores by split and seed."""
    rows = [
        [seed, split, *cells(scores[split][seed], task)]
        for split in SPLITS
        for seed in scores[split]
    ]
    return csv_text(["seed", "split", *METRICS[task]], rows)


def parse_json(text: str, source: str) -> object:
    """The JSON value in `text`; NaN and infinities are refused.

    Raises:
        DhmdError: the sentence names `source`.
    """

    def refuse(constant: str) -> object:
        raise DhmdError(f"{source} holds {constant}, which no metrics file may")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise DhmdError(f"{source} is not readable as JSON ({first_line(error)})") from error


def parse_predictions(text: str, source: str) -> Predictions:
    """Read `predictions.csv`.

    Raises:
        DhmdError: another header, a value that is not a finite number, an id twice, no rows.
    """
    header, rows = _parse_csv(text, source)
    names = header[2:]
    seeds = [name.removeprefix(_SEED_PREFIX) for name in names]
    well_named = all(
        name.startswith(_SEED_PREFIX) and seed.isdecimal()
        for name, seed in zip(names, seeds, strict=True)
    )
    if header[:2] != ["id", "label"] or not names or not well_named:
        raise DhmdError(f"{source}: the header must be id,label,seed_1,…, not {','.join(header)}")
    if len(set(seeds)) != len(seeds):
        raise DhmdError(f"{source}: a seed has two columns")
    if not rows:
        raise DhmdError(f"{source} has no rows")
    ids = tuple(row[0] for row in rows)
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DhmdError(f"{source}: {twice} has two rows")
    table = np.array(
        [
            [_number(cell, f"{source}: {row[0]}, {name}") for cell, name in pairs]
            for row in rows
            for pairs in [zip(row[1:], header[1:], strict=True)]
        ]
    )
    return Predictions(ids, table[:, 0], tuple(int(seed) for seed in seeds), table[:, 1:].T.copy())


def parse_seeds(text: str, source: str) -> dict[str, dict[int, dict[str, float]]]:
    """Read `seeds.csv`: split → seed → metric → value, empty cells left out.

    Raises:
        DhmdError: another header, a value that is not a finite number, a seed and split twice.
    """
    header, rows = _parse_csv(text, source)
    if header[:2] != ["seed", "split"]:
        raise DhmdError(f"{source}: the header must begin with seed,split")
    result: dict[str, dict[int, dict[str, float]]] = {split: {} for split in SPLITS}
    for row in rows:
        if not row[0].isdecimal() or row[1] not in result:
            raise DhmdError(f"{source}: no row can be of seed {row[0]!r} and split {row[1]!r}")
        seed, split = int(row[0]), row[1]
        if seed in result[split]:
            raise DhmdError(f"{source}: seed {seed} has two rows of split {split}")
        result[split][seed] = {
            name: _number(cell, f"{source}: seed {seed}, {split}, {name}")
            for cell, name in zip(row[2:], header[2:], strict=True)
            if cell
        }
    return result


def truth_text(ids: Sequence[str], truth: Floats) -> str:
    """`truth.csv`: what a generated corpus planted as the test utterances' labels without noise."""
    return csv_text(["id", "truth"], zip(ids, map(repr, truth.tolist()), strict=True))


def parse_truth(text: str, source: str) -> tuple[tuple[str, ...], Floats]:
    """Read `truth.csv`.

    Raises:
        DhmdError: another header, or a value that is not a finite number.
    """
    header, rows = _parse_csv(text, source)
    if header != ["id", "truth"]:
        raise DhmdError(f"{source}: the header must be id,truth")
    values = [_number(row[1], f"{source}: {row[0]}") for row in rows]
    return tuple(row[0] for row in rows), np.array(values, dtype=np.float64)


def _parse_csv(text: str, source: str) -> tuple[list[str], list[list[str]]]:
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise DhmdError(f"{source} is not readable as CSV ({first_line(error)})") from error
    if not rows or len(rows[0]) < 2:
        raise DhmdError(f"{source} has no header")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise DhmdError(
                f"{source}, row {number}: {len(row)} cells, but the header has {len(rows[0])}"
            )
    return rows[0], rows[1:]


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DhmdError(f"{where} is {cell or 'empty'!r}, not a finite number")
    return value
