"""UR-FUNNY's pickles: word-aligned punchlines with their context, humorous or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.csd import segment_id
from dhmd.data.formats.conversion import Budget, id_text, mapping, number, numbers, texts
from dhmd.data.formats.pickles import load_pickle
from dhmd.data.formats.reading import Reading, Segment, Task, known_options, numbered, option

Array = np.ndarray[Any, Any]

# What the files call the splits.
_SPLITS = {"train": "train", "dev": "valid", "test": "test"}


def read_urfunny(task: Task) -> Reading:
    """Read the recipe's sequences `folds`, `embeddings`, those of `modalities` and `labels`.

    Text is a vector a word: its sequence holds indexes into `embeddings` (and `words`, a list of
    words, where the recipe has it). An utterance is its punchline, after its context where
    `options.context` is true. One whose modalities differ in words is left out and listed, as the
    public loaders do. Every utterance is its own video: the files name none.

    Raises:
        DhmdError: a file is hostile, damaged or not such a file.
    """
    recipe = task.recipe
    known_options(recipe, "context")
    with_context = option(recipe, "context", False, (True, False))
    folds_path = task.file("folds")
    folds = mapping(load_pickle(folds_path), where=str(folds_path))
    if set(folds) != set(_SPLITS):
        keys = ", ".join(map(str, folds))[:80]
        raise DhmdError(f"{folds_path} has the keys {keys}, expected train, dev and test")
    words = None
    if "words" in recipe.sequences:
        path = task.file("words")
        words = texts(load_pickle(path), where=str(path))
    streams = {
        modality: _Stream(task, modality, with_context) for modality in recipe.modality_names
    }
    label_name = recipe.labels.sequence
    if label_name is None:
        raise DhmdError(f"{recipe.source}: labels.sequence is null, but must name a sequence")
    label_path = task.file(label_name)
    labels = mapping(load_pickle(label_path), where=str(label_path))
    notes: dict[str, object] = {"context": with_context}
    for own_name in _SPLITS:
        if not isinstance(folds[own_name], list | tuple):
            raise DhmdError(
                f"{folds_path}: {own_name} is {type(folds[own_name]).__name__}, expected a list"
            )
        for own_id in folds[own_name]:
            id_text(own_id, where=f"{folds_path}: {own_name}")
    example = next(iter(folds["train"]), None)
    return Reading(
        feature_names={m: numbered(m, stream.width(example)) for m, stream in streams.items()},
        segments=_segments(task, folds, streams, labels, words, notes),
        has_words=words is not None and "text" in streams,
        notes=notes,
    )


class _Stream:
    """One modality's file: id -> rows of the words of context and punchline."""

    def __init__(self, task: Task, modality: str, with_context: bool) -> None:
        path = task.file(task.recipe.modalities[modality])
        self.where = str(path)
        self._entries = mapping(load_pickle(path), where=self.where)
        self._budget = Budget(path.stat().st_size)
        self._with_context = with_context
        self._kind = "embedding_indexes" if modality == "text" else "features"
        self._vectors: Array | None = None
        if modality == "text":
            vectors_path = task.file("embeddings")
            self._vectors = numbers(
                load_pickle(vectors_path),
                axes=2,
                where=str(vectors_path),
                budget=Budget(vectors_path.stat().st_size),
            )

    def width(self, example: Any) -> int:
        """How many values a word has."""
        if self._vectors is not None:
            return int(self._vectors.shape[1])
        if example is None or example not in self._entries:
            raise DhmdError(f"{self.where} has no entry {example!r}")
        return int(self.rows(example)[0].shape[1])

    def rows(self, own_id: Any) -> tuple[Array, Array | None]:
        """`[T, d]`, and of text the words' indexes.

        Raises:
            DhmdError: the entry is missing or misshapen.
        """
        where = f"{self.where}: entry {own_id!r}"
        if own_id not in self._entries:
            raise DhmdError(f"{where} is missing")
        entry = mapping(self._entries[own_id], where=where)
        axes = 1 if self._vectors is not None else 2
        parts = [self._part(entry, "punchline", where)]
        if self._with_context:
            parts = [*self._part(entry, "context", where), *parts]
        # A context may be empty, and an empty list has no second axis.
        arrays = [
            numbers(part, axes=axes, where=where, budget=self._budget)
            for part in parts
            if len(part)
        ]
        widths = {array.shape[1:] for array in arrays}
        if len(widths) > 1:
            raise DhmdError(f"{where} is ragged: its rows have different lengths")
        if not arrays:
            raise DhmdError(f"{where} holds no word")
        joined = np.concatenate(arrays)
        if self._vectors is None:
            return joined, None
        if not np.isin(joined, np.arange(len(self._vectors))).all():
            raise DhmdError(f"{where} points outside the {len(self._vectors)} word vectors")
        index = joined.astype(np.int64)
        return self._vectors[index], index

    def _part(self, entry: Mapping[str, Any], part: str, where: str) -> Any:
        value = entry.get(f"{part}_{self._kind}")
        if not isinstance(value, list | tuple | np.ndarray):
            raise DhmdError(f"{where} has no {part}_{self._kind}")
        return value


def _segments(
    task: Task,
    folds: Mapping[str, Any],
    streams: Mapping[str, _Stream],
    labels: Mapping[Any, Any],
    words: tuple[str, ...] | None,
    notes: dict[str, object],
) -> Iterator[Segment]:
    uneven: dict[str, dict[str, int]] = {}
    notes["uneven_utterances"] = uneven
    for own_name, split in _SPLITS.items():
        for own_id in folds[own_name]:
            try:
                rows = {modality: stream.rows(own_id) for modality, stream in streams.items()}
                label = _label(labels, own_id)
            except DhmdError as error:
                task.problems.add("entries", str(error))
                continue
            lengths = {modality: len(values) for modality, (values, _) in rows.items()}
            video = id_text(own_id, where="the folds")
            if len(set(lengths.values())) > 1:
                uneven[segment_id(video, 0)] = lengths
                continue
            spoken: tuple[str, ...] = ()
            if words is not None and "text" in rows:
                index = rows["text"][1]
                assert index is not None  # text always has one
                if index.max() >= len(words):
                    task.problems.add("words", f"{own_id!r} points outside {len(words)} words")
                    continue
                spoken = tuple(words[i] for i in index)
            yield Segment(
                id=segment_id(video, 0),
                video=video,
                split=split,
                label=label,
                steps={modality: values for modality, (values, _) in rows.items()},
                words=spoken,
            )


def _label(labels: Mapping[Any, Any], own_id: Any) -> float:
    if own_id not in labels:
        raise DhmdError(f"the label of {own_id!r} is missing")
    return number(labels[own_id], where=f"the label of {own_id!r}")
