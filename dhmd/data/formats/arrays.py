"""Users' own features: one `.npz` or `.h5` file per split.

Each file contains, for N utterances,

    ids      [N] text, `video[i]`, i the utterance's index in its video
    labels   [N] numbers (classification: the class's index), or [N, C] (multilabel: above 0 for
             the classes that are present); another name is labels.column
    <key>    [ΣT, d] numbers, a modality's rows of all utterances one after the other
    <key>_offsets  [N + 1] whole numbers from 0 to ΣT: utterance n is rows offsets[n]:offsets[n + 1]
    <key>_names    [d] text (optional)
    words    [ΣT] text, one word per row of text (optional)

with one <key> per modality, which `modalities` of the recipe names. Padded arrays `[N, T, d]` with
`<key>_lengths [N]` instead of offsets are read too.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS, open_checked
from dhmd.data.aligned import SPLITS
from dhmd.data.csd import segment_row, video_of
from dhmd.data.formats.conversion import label_values, numbers, texts
from dhmd.data.formats.reading import ImportJob, Reading, Segment, numbered

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Modality:
    """One modality of one split: its names, if it has any, and N arrays `[T, d]`."""

    names: tuple[str, ...] | None
    width: int
    rows: list[Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Split:
    path: Path
    ids: tuple[str, ...]
    labels_N: Array
    modalities: Mapping[str, _Modality]
    words: tuple[str, ...] | None


def read_arrays(job: ImportJob) -> Reading:
    """Read the recipe's sequences `train`, `valid` and `test`."""
    job.options()
    given = [split for split in SPLITS if job.labelled or split in job.recipe.sequences]
    splits = {split: _split(job.file(split), job) for split in given}
    names: dict[str, tuple[str, ...]] = {}
    for modality, first in splits[given[0]].modalities.items():
        names[modality] = first.names or numbered(modality, first.width)
    has_words = "text" in names and all(split.words is not None for split in splits.values())
    return Reading(
        feature_names=names, segments=_segments(job, splits, has_words), has_words=has_words
    )


def load_arrays(path: Path) -> dict[str, Array]:
    """Load all arrays of a file; arrays of objects are refused, since they would be pickles."""
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except (*READ_ERRORS, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DhmdError(
            f"cannot read {path} as arrays ({first_line(error)}): fetch it or write it again"
        ) from error
    with open_checked(path, f"cannot read {path} as arrays, write it again") as file:
        return {
            name: np.asarray(item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()])
            for name, item in file.items()
            if isinstance(item, h5py.Dataset)
        }


def _split(path: Path, job: ImportJob) -> _Split:
    content, where = load_arrays(path), str(path)
    ids = texts(_value(content, "ids", where), where=f"{where}: ids")
    spec = job.recipe.labels
    key = spec.column if isinstance(spec.column, str) else "labels"
    labels_N = np.full(len(ids), np.nan)
    if job.labelled:
        labels = _value(content, key, where)
        labels_N = label_values(labels, count=len(ids), where=f"{where}: {key}", spec=spec)
    modalities = {
        modality: _modality(content, job.recipe.modalities[modality], len(ids), where)
        for modality in job.recipe.modality_names
    }
    words = texts(content["words"], where=f"{where}: words") if "words" in content else None
    if words is not None and "text" in modalities:
        rows = sum(map(len, modalities["text"].rows))
        if len(words) != rows:
            raise DhmdError(f"{where} has {len(words)} words for {rows} rows of text")
    return _Split(path=path, ids=ids, labels_N=labels_N, modalities=modalities, words=words)


def _modality(content: Mapping[str, Array], key: str, count: int, where: str) -> _Modality:
    value = _value(content, key, where)
    values = numbers(value, axes=3 if value.ndim == 3 else 2, where=f"{where}: {key}")
    names = None
    if f"{key}_names" in content:
        names = texts(content[f"{key}_names"], where=f"{where}: {key}_names")
        if len(names) != values.shape[-1]:
            raise DhmdError(
                f"{where}: {key} has {values.shape[-1]} values per row, but {len(names)} names"
            )
    if values.ndim == 3:
        lengths = _whole(_value(content, f"{key}_lengths", where), f"{where}: {key}_lengths")
        if len(values) != count or len(lengths) != count:
            raise DhmdError(f"{where}: {key} and its lengths do not fit {count} ids")
        if (lengths < 0).any() or (lengths > values.shape[1]).any():
            raise DhmdError(f"{where}: {key}_lengths are not within 0 to {values.shape[1]}")
        rows = [values[n, : lengths[n]] for n in range(count)]
    else:
        offsets = _whole(_value(content, f"{key}_offsets", where), f"{where}: {key}_offsets")
        fits = len(offsets) == count + 1 and offsets[0] == 0 and offsets[-1] == len(values)
        if not fits or (np.diff(offsets) < 0).any():
            raise DhmdError(
                f"{where}: {key}_offsets do not run from 0 to {len(values)} in {count} steps"
            )
        rows = [values[offsets[n] : offsets[n + 1]] for n in range(count)]
    return _Modality(names=names, width=values.shape[-1], rows=rows)


def _value(content: Mapping[str, Array], key: str, where: str) -> Array:
    if key not in content:
        raise DhmdError(f"{where} has no array {key!r}; it has {', '.join(content) or 'none'}")
    return content[key]


def _whole(value: Array, where: str) -> Array:
    array = numbers(value, axes=1, where=where)
    if not (array == np.floor(array)).all():
        raise DhmdError(f"{where} are not whole numbers")
    return array.astype(np.int64)


def _segments(job: ImportJob, splits: Mapping[str, _Split], has_words: bool) -> Iterator[Segment]:
    for name, split in splits.items():
        start = 0
        for n, own_id in enumerate(split.ids):
            steps = {m: modality.rows[n] for m, modality in split.modalities.items()}
            words: tuple[str, ...] = ()
            if has_words and split.words is not None:
                words = split.words[start : start + len(steps["text"])]
                start += len(words)
            if segment_row(own_id) is None:
                job.problems.add("ids", f"{split.path}: the id {own_id[:60]!r} is not video[i]")
                continue
            lengths = {m: len(rows) for m, rows in steps.items()}
            if job.alignment == "word" and len(set(lengths.values())) > 1:
                listed = ", ".join(f"{count} {m}" for m, count in lengths.items())
                job.problems.add(
                    "uneven",
                    f"{split.path}: {own_id!r} has {listed} rows: set data.alignment to none, "
                    "or align them",
                )
                continue
            yield Segment(
                id=own_id,
                video=video_of(own_id),
                split=name,
                label=float(split.labels_N[n]),
                steps=steps,
                words=words,
            )
