"""People's own features: one `.npz` or `.h5` file a split.

Each file holds, for N utterances,

    ids      [N] text, `video[i]`, i the utterance's place in its video
    labels   [N] numbers (classification: the class's index)
    <key>    [ΣT, d] numbers, a modality's rows of all utterances one after the other
    <key>_offsets  [N + 1] whole numbers from 0 to ΣT: utterance n is rows offsets[n]:offsets[n + 1]
    <key>_names    [d] text (may be absent)
    words    [ΣT] text, a word a row of text (may be absent)

with one <key> for each modality, as the recipe's `modalities` says. Padded arrays `[N, T, d]` with
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
from dhmd.base.hdf5 import MAX_COMPRESSION, READ_ERRORS, check_group
from dhmd.data.aligned import SPLITS
from dhmd.data.csd import segment_row, video_of
from dhmd.data.formats.conversion import numbers, texts
from dhmd.data.formats.reading import Reading, Segment, Task, known_options, numbered

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Modality:
    """Rows of one modality in one split; `rows(n)` gives an utterance's."""

    values: Array  # [ΣT, d] or [N, T, d]
    offsets: Array | None
    lengths: Array | None
    names: tuple[str, ...] | None

    def rows(self, n: int) -> Array:
        if self.offsets is not None:
            return self.values[self.offsets[n] : self.offsets[n + 1]]
        assert self.lengths is not None  # one of the two, _modality checks it
        return self.values[n, : self.lengths[n]]


def read_arrays(task: Task) -> Reading:
    """Read the recipe's sequences `train`, `valid` and `test`.

    Raises:
        DhmdError: a file is damaged or lacks an array, shapes do not fit each other.
    """
    recipe = task.recipe
    known_options(recipe)
    paths = {split: task.file(split) for split in SPLITS}
    contents = {split: load_arrays(path) for split, path in paths.items()}
    parts = {
        split: {
            modality: _modality(contents[split], recipe.modalities[modality], str(paths[split]))
            for modality in recipe.modality_names
        }
        for split in SPLITS
    }
    names: dict[str, tuple[str, ...]] = {}
    for modality, part in parts["train"].items():
        width = part.values.shape[-1]
        names[modality] = part.names or numbered(modality, width)
        for split in SPLITS:
            other = parts[split][modality].values.shape[-1]
            if other != width:
                raise DhmdError(
                    f"{paths[split]}: {modality} has {other} values a row, but {width} in train"
                )
    has_words = "text" in names and all("words" in content for content in contents.values())
    return Reading(
        feature_names=names,
        segments=_segments(task, paths, contents, parts, has_words),
        has_words=has_words,
    )


def load_arrays(path: Path) -> dict[str, Array]:
    """All arrays of a file; objects in an .npz would be pickles, and are refused."""
    try:
        if path.suffix.lower() == ".npz":
            _check_zip(path)
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        with h5py.File(path, "r") as file:
            return _datasets(file, path)
    except (*READ_ERRORS, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DhmdError(
            f"cannot read {path} as arrays ({first_line(error)}): fetch it or write it again"
        ) from error


def _datasets(file: h5py.File, path: Path) -> dict[str, Array]:
    """The datasets at a file's top, none of them a trap."""
    check_group(file, str(path))
    found = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    _check_sum(sum(item.nbytes for item in found.values()), path)
    return {
        name: np.asarray(item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()])
        for name, item in found.items()
    }


def _check_sum(size: int, path: Path) -> None:
    """One block of data may go by many names, and each would be read."""
    held = path.stat().st_size
    if size > MAX_COMPRESSION * held:
        raise DhmdError(
            f"{path} is damaged: its arrays are {size:,} bytes together, the file has {held:,}"
        )


def _check_zip(path: Path) -> None:
    """Headers of arrays must not promise more than their member holds, nor members than the file.

    NumPy writes members as they are or deflated; other ways to pack have no limit worth the name.
    """
    with zipfile.ZipFile(path) as archive:
        _check_sum(sum(member.file_size for member in archive.infolist()), path)
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DhmdError(
                    f"{path}: {member.filename} is packed in a way that NumPy does not write: "
                    "write the file again with numpy.savez"
                )
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
                if dtype.hasobject:
                    raise DhmdError(f"{path}: {member.filename} holds objects, which are refused")
                size = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if size != member.file_size - stream.tell():
                    raise DhmdError(f"{path}: {member.filename} is damaged: its size is wrong")


def _modality(content: Mapping[str, Array], key: str, where: str) -> _Modality:
    values = np.asarray(_value(content, key, where))
    ids = texts(_value(content, "ids", where), where=f"{where}: ids")
    values = numbers(values, axes=3 if values.ndim == 3 else 2, where=f"{where}: {key}")
    names = None
    if f"{key}_names" in content:
        names = texts(content[f"{key}_names"], where=f"{where}: {key}_names")
        if len(names) != values.shape[-1]:
            raise DhmdError(
                f"{where}: {key} has {values.shape[-1]} values a row, but {len(names)} names"
            )
    if values.ndim == 3:
        lengths = _whole(_value(content, f"{key}_lengths", where), f"{where}: {key}_lengths")
        if len(values) != len(ids) or len(lengths) != len(ids):
            raise DhmdError(f"{where}: {key} and its lengths do not fit {len(ids)} ids")
        if (lengths < 0).any() or (lengths > values.shape[1]).any():
            raise DhmdError(f"{where}: {key}_lengths are not within 0 to {values.shape[1]}")
        return _Modality(values=values, offsets=None, lengths=lengths, names=names)
    offsets = _whole(_value(content, f"{key}_offsets", where), f"{where}: {key}_offsets")
    fits = len(offsets) == len(ids) + 1 and offsets[0] == 0 and offsets[-1] == len(values)
    if not fits or (np.diff(offsets) < 0).any():
        raise DhmdError(
            f"{where}: {key}_offsets do not run from 0 to {len(values)} in {len(ids)} steps"
        )
    return _Modality(values=values, offsets=offsets, lengths=None, names=names)


def _value(content: Mapping[str, Array], key: str, where: str) -> Array:
    if key not in content:
        raise DhmdError(f"{where} has no array {key!r}; it has {', '.join(content) or 'none'}")
    return content[key]


def _whole(value: Array, where: str) -> Array:
    array = numbers(value, axes=1, where=where)
    if not (array == np.floor(array)).all():
        raise DhmdError(f"{where} are no whole numbers")
    return array.astype(np.int64)


def _segments(
    task: Task,
    paths: Mapping[str, Path],
    contents: Mapping[str, Mapping[str, Array]],
    parts: Mapping[str, Mapping[str, _Modality]],
    has_words: bool,
) -> Iterator[Segment]:
    for split, path in paths.items():
        content = contents[split]
        ids = texts(content["ids"], where=f"{path}: ids")
        labels = numbers(_value(content, "labels", str(path)), axes=1, where=f"{path}: labels")
        if len(labels) != len(ids):
            raise DhmdError(f"{path} has {len(ids)} ids, but {len(labels)} labels")
        words = texts(content["words"], where=f"{path}: words") if has_words else ()
        first = 0
        for n, own_id in enumerate(ids):
            steps = {modality: part.rows(n) for modality, part in parts[split].items()}
            lengths = {modality: len(rows) for modality, rows in steps.items()}
            spoken: tuple[str, ...] = ()
            if has_words:
                spoken = words[first : first + lengths["text"]]
                first += lengths["text"]
            if segment_row(own_id) is None:
                task.problems.add("ids", f"{path}: the id {own_id[:60]!r} is not video[i]")
                continue
            if task.alignment == "word" and len(set(lengths.values())) > 1:
                task.problems.add(
                    "uneven",
                    f"{path}: {own_id!r} has {_listed(lengths)} rows: set data.alignment to none, "
                    "or align them",
                )
                continue
            yield Segment(
                id=own_id,
                video=video_of(own_id),
                split=split,
                label=float(labels[n]),
                steps=steps,
                words=spoken,
            )
        if has_words and first != len(words):
            raise DhmdError(f"{path} has {len(words)} words for {first} rows of text")


def _listed(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {modality}" for modality, count in lengths.items())
