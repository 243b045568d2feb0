"""UR-FUNNY's pickles: word-aligned punchlines with their context, humorous or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.csd import segment_id
from dhmd.data.formats.conversion import (
    as_dict,
    as_number,
    as_numbers,
    as_texts,
    as_video_id,
    concatenate_rows,
)
from dhmd.data.formats.interface import ImportJob, ParsedCorpus, Segment, numbered_names
from dhmd.data.formats.pickles import load_pickle

Array = np.ndarray[Any, Any]

SPLIT_NAMES = {"train": "train", "dev": "valid", "test": "test"}  # the files' names -> ours


def read_urfunny(job: ImportJob) -> ParsedCorpus:
    """Read the recipe's sequences `folds`, `embeddings`, those of `modalities` and `labels`.

    Text is one vector per word: its sequence has indices into `embeddings` (and `words`, a list
    of words, where the recipe has it). An utterance is its punchline, after its context where
    `options.context` is true. An utterance whose modalities differ in their number of words is left
    out and listed, as the public loaders do. Every utterance is its own video: the files name none.
    """
    recipe = job.recipe
    (with_context,) = job.options(context=(False, True))
    path = job.file("folds")
    folds = items_by_split(load_pickle(path), str(path))
    for split, ids in folds.items():
        for utterance_id in ids:
            as_video_id(utterance_id, where=f"{path}: {split}")
    words = None
    if "words" in recipe.sequences:
        words = as_texts(load_pickle(job.file("words")), where=str(job.file("words")))
    if recipe.labels.sequence is None:
        raise DhmdError(f"{recipe.source}: labels.sequence is null, but must name a sequence")
    label_path = job.file(recipe.labels.sequence)
    labels = as_dict(load_pickle(label_path), where=str(label_path))
    streams = {modality: _Stream(job, modality, with_context) for modality in recipe.modality_names}
    example = next(iter(folds["train"]), None)
    notes: dict[str, object] = {"context": with_context, "uneven_utterances": {}}
    return ParsedCorpus(
        feature_names={
            m: numbered_names(m, stream.width(example)) for m, stream in streams.items()
        },
        segments=_segments(job, folds, streams, labels, words, notes),
        has_words=words is not None and "text" in streams,
        notes=notes,
    )


def items_by_split(content: object, where: str) -> dict[str, list[Any]]:
    """Return the utterance ids of each split (train, dev, test)."""
    found = as_dict(content, where=where)
    if set(found) != set(SPLIT_NAMES):
        keys = ", ".join(map(str, found))[:80]
        raise DhmdError(f"{where} has the keys {keys}, but must have train, dev and test")
    for name in SPLIT_NAMES:
        if not isinstance(found[name], list | tuple):
            kind = type(found[name]).__name__
            raise DhmdError(f"{where}: {name} is {kind}, but must be a list")
    return found


def leave_out_uneven(
    job: ImportJob, notes: dict[str, Any], utterance_id: str, split: str, lengths: Mapping[str, int]
) -> bool:
    """Record an utterance whose modalities differ in length; return whether it does."""
    if len(set(lengths.values())) == 1:
        return False
    notes["uneven_utterances"][segment_id(utterance_id, 0)] = dict(lengths)
    job.problems.leave_out(split, "their modalities have different numbers of words")
    return True


class _Stream:
    """One modality's file: id -> rows of the words of context and punchline."""

    def __init__(self, job: ImportJob, modality: str, with_context: bool) -> None:
        path = job.file(job.recipe.modalities[modality])
        self._where = str(path)
        self._entries = as_dict(load_pickle(path), where=self._where)
        self._with_context = with_context
        self._kind = "embedding_indexes" if modality == "text" else "features"
        self._vectors: Array | None = None
        if modality == "text":
            vectors = job.file("embeddings")
            self._vectors = as_numbers(load_pickle(vectors), axes=2, where=str(vectors))

    def width(self, example: Any) -> int:
        """Return the number of values per word."""
        return int(self.rows(example)[0].shape[1])

    def rows(self, utterance_id: Any) -> tuple[Array, Array | None]:
        """Return `[T, d]`, and for text the words' indices."""
        where = f"{self._where}: entry {utterance_id!r}"
        if utterance_id not in self._entries:
            raise DhmdError(f"{where} is missing")
        entry = as_dict(self._entries[utterance_id], where=where)
        parts = [self._part(entry, "punchline", where)]
        if self._with_context:
            parts = [*self._part(entry, "context", where), *parts]
        rows = concatenate_rows(parts, axes=2 if self._vectors is None else 1, where=where)
        if self._vectors is None:
            return rows, None
        if not np.isin(rows, np.arange(len(self._vectors))).all():
            raise DhmdError(f"{where} points outside the {len(self._vectors)} word vectors")
        index = rows.astype(np.int64)
        return self._vectors[index], index

    def _part(self, entry: Mapping[str, Any], part: str, where: str) -> Any:
        value = entry.get(f"{part}_{self._kind}")
        if not isinstance(value, list | tuple | np.ndarray):
            raise DhmdError(f"{where} has no {part}_{self._kind}")
        return value


def _segments(
    job: ImportJob,
    folds: Mapping[str, list[Any]],
    streams: Mapping[str, _Stream],
    labels: Mapping[Any, Any],
    words: tuple[str, ...] | None,
    notes: dict[str, object],
) -> Iterator[Segment]:
    for own_name, split in SPLIT_NAMES.items():
        for utterance_id in folds[own_name]:
            video = as_video_id(utterance_id, where="the folds")
            try:
                rows = {modality: stream.rows(utterance_id) for modality, stream in streams.items()}
                if utterance_id not in labels:
                    raise DhmdError(f"the label of {utterance_id!r} is missing")
                label = as_number(labels[utterance_id], where=f"the label of {utterance_id!r}")
            except DhmdError as error:
                job.problems.add("entries", str(error))
                continue
            lengths = {modality: len(values) for modality, (values, _) in rows.items()}
            if leave_out_uneven(job, notes, video, split, lengths):
                continue
            index = rows["text"][1] if "text" in rows else None
            spoken: tuple[str, ...] = ()
            if words is not None and index is not None:
                if index.max() >= len(words):
                    job.problems.add("words", f"{utterance_id!r} points outside {len(words)} words")
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
