"""Read users' features: one `.npz` or `.h5` file per split.

A file with N utterances has these arrays:

    ids      [N] text, `video[i]`; i is the utterance's index in its video
    labels   [N] numbers (classification: the class index), or [N, C] (multilabel: above 0 for
             the classes that are present); `labels.column` of the recipe is another name
    <key>    [ΣT, d] numbers, the rows of one modality of all utterances, concatenated
    <key>_offsets  [N + 1] whole numbers from 0 to ΣT: utterance n is rows offsets[n]:offsets[n + 1]
    <key>_names    [d] text (optional)
    words    [ΣT] text, one word per row of text (optional)

`modalities` of the recipe has the <key> of each modality. Padded arrays `[N, T, d]` with
`<key>_lengths [N]` instead of offsets are also read.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS, open_checked
from dhmd.data.aligned import SPLITS
from dhmd.data.csd import Array, segment_row, video_of
from dhmd.data.formats.conversion import as_labels, as_numbers, as_texts
from dhmd.data.formats.interface import ImportJob, ParsedCorpus, Segment, numbered_names


@dataclass(frozen=True, kw_only=True, eq=False)
class _Modality:
    """One modality of one split: feature names or None, width d, and N arrays `[T, d]`."""

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


def read_arrays(job: ImportJob) -> ParsedCorpus:
    """Read the recipe's sequences `train`, `valid` and `test`."""
    job.options()
    split_names = [split for split in SPLITS if job.labelled or split in job.recipe.sequences]
    splits = {split: _split(job.file(split), job) for split in split_names}
    names: dict[str, tuple[str, ...]] = {}
    for modality, first in splits[split_names[0]].modalities.items():
        names[modality] = first.names or numbered_names(modality, first.width)
    has_words = "text" in names and all(split.words is not None for split in splits.values())
    return ParsedCorpus(
        feature_names=names, segments=_segments(job, splits, has_words), has_words=has_words
    )


def load_arrays(path: Path) -> dict[str, Array]:
    """Return all arrays of a file by name; an array of objects is an error.

    NumPy stores objects as pickles, which could run code.
    """
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except (*READ_ERRORS, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DhmdError(
            f"cannot read {path} as arrays ({first_line(error)}): download or write it again"
        ) from error
    with open_checked(path, f"cannot read {path} as arrays, write it again") as file:
        return {
            name: np.asarray(item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()])
            for name, item in file.items()
            if isinstance(item, h5py.Dataset)
        }


def _split(path: Path, job: ImportJob) -> _Split:
    content, where = load_arrays(path), str(path)
    ids = as_texts(_value(content, "ids", where), where=f"{where}: ids")
    spec = job.recipe.labels
    key = spec.column if isinstance(spec.column, str) else "labels"
    labels_N = np.full(len(ids), np.nan)
    if job.labelled:
        labels = _value(content, key, where)
        labels_N = as_labels(labels, count=len(ids), where=f"{where}: {key}", spec=spec)
    modalities = {
        modality: _modality(content, job.recipe.modalities[modality], len(ids), where)
        for modality in job.recipe.modality_names
    }
    words = as_texts(content["words"], where=f"{where}: words") if "words" in content else None
    if words is not None and "text" in modalities:
        rows = sum(map(len, modalities["text"].rows))
        if len(words) != rows:
            raise DhmdError(f"{where} has {len(words)} words for {rows} rows of text")
    return _Split(path=path, ids=ids, labels_N=labels_N, modalities=modalities, words=words)


def _modality(content: Mapping[str, Array], key: str, count: int, where: str) -> _Modality:
    value = _value(content, key, where)
    values = as_numbers(value, axes=3 if value.ndim == 3 else 2, where=f"{where}: {key}")
    names = None
    if f"{key}_names" in content:
        names = as_texts(content[f"{key}_names"], where=f"{where}: {key}_names")
        if len(names) != values.shape[-1]:
            raise DhmdError(
                f"{where}: {key} has {values.shape[-1]} columns, but {key}_names has {len(names)}"
            )
    if values.ndim == 3:
        lengths = _as_whole_numbers(
            _value(content, f"{key}_lengths", where), f"{where}: {key}_lengths"
        )
        if len(values) != count or len(lengths) != count:
            raise DhmdError(f"{where}: {key} and {key}_lengths must have {count} rows, one per id")
        if (lengths < 0).any() or (lengths > values.shape[1]).any():
            raise DhmdError(f"{where}: {key}_lengths are not within 0 to {values.shape[1]}")
        rows = [values[n, : lengths[n]] for n in range(count)]
    else:
        offsets = _as_whole_numbers(
            _value(content, f"{key}_offsets", where), f"{where}: {key}_offsets"
        )
        fits = len(offsets) == count + 1 and offsets[0] == 0 and offsets[-1] == len(values)
        if not fits or (np.diff(offsets) < 0).any():
            raise DhmdError(
                f"{where}: {key}_offsets must be {count + 1} ascending numbers from 0 to"
                f" {len(values)}"
            )
        rows = [values[offsets[n] : offsets[n + 1]] for n in range(count)]
    return _Modality(names=names, width=values.shape[-1], rows=rows)


def _value(content: Mapping[str, Array], key: str, where: str) -> Array:
    if key not in content:
        raise DhmdError(f"{where} has no array {key!r}; it has {', '.join(content) or 'none'}")
    return content[key]


def _as_whole_numbers(value: Array, where: str) -> Array:
    array = as_numbers(value, axes=1, where=where)
    if not (array == np.floor(array)).all():
        raise DhmdError(f"{where} are not whole numbers")
    return array.astype(np.int64)


def _segments(job: ImportJob, splits: Mapping[str, _Split], has_words: bool) -> Iterator[Segment]:
    for name, split in splits.items():
        start = 0
        for n, utterance_id in enumerate(split.ids):
            steps = {m: modality.rows[n] for m, modality in split.modalities.items()}
            words: tuple[str, ...] = ()
            if has_words and split.words is not None:
                words = split.words[start : start + len(steps["text"])]
                start += len(words)
            if segment_row(utterance_id) is None:
                job.problems.add(
                    "ids", f"{split.path}: the id {utterance_id[:60]!r} is not video[i]"
                )
                continue
            lengths = {m: len(rows) for m, rows in steps.items()}
            if job.alignment == "word" and len(set(lengths.values())) > 1:
                counts = ", ".join(f"{count} {m}" for m, count in lengths.items())
                job.problems.add(
                    "uneven",
                    f"{split.path}: {utterance_id!r} has {counts} rows: set data.alignment to "
                    "none, or align them",
                )
                continue
            yield Segment(
                id=utterance_id,
                video=video_of(utterance_id),
                split=name,
                label=float(split.labels_N[n]),
                steps=steps,
                words=words,
            )
