"""Read UR-FUNNY's pickles: word-aligned punchlines with their context, humorous or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.csd import Array, segment_id
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

SPLIT_NAMES = {"train": "train", "dev": "valid", "test": "test"}  # key of the file: split


def read_urfunny(job: ImportJob) -> ParsedCorpus:
    """Read the recipe's sequences `folds`, `embeddings`, and those of the modalities and labels.

    The sequence of text has word indices into `embeddings`, and into the list `words` if the recipe
    has it. An utterance is a punchline, preceded by its context if `options.context` is true. As in
    the public loaders, an utterance is left out if its modalities have different numbers of words.
    Each utterance is treated as a separate video, because the files have no videos.
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
    files = {name: _ModalityFile(job, name, with_context) for name in recipe.modality_names}
    example = next(iter(folds["train"]), None)
    notes: dict[str, object] = {"context": with_context, "uneven_utterances": {}}
    return ParsedCorpus(
        feature_names={m: numbered_names(m, file.width(example)) for m, file in files.items()},
        segments=_segments(job, folds, files, labels, words, notes),
        has_words=words is not None and "text" in files,
        notes=notes,
    )


def items_by_split(content: object, where: str) -> dict[str, list[Any]]:
    """Check that a pickle has a list for each of train, dev and test, and return them."""
    items = as_dict(content, where=where)
    if set(items) != set(SPLIT_NAMES):
        keys = ", ".join(map(str, items))[:80]
        raise DhmdError(f"{where} has the keys {keys}, but must have train, dev and test")
    for name in SPLIT_NAMES:
        if not isinstance(items[name], list | tuple):
            kind = type(items[name]).__name__
            raise DhmdError(f"{where}: {name} is of type {kind}, but must be a list")
    return items


def leave_out_uneven(
    job: ImportJob, notes: dict[str, Any], utterance_id: str, split: str, lengths: Mapping[str, int]
) -> bool:
    """Return whether an utterance's modalities differ in length; if so, record it as left out."""
    if len(set(lengths.values())) == 1:
        return False
    notes["uneven_utterances"][segment_id(utterance_id, 0)] = dict(lengths)
    job.problems.leave_out(split, "their modalities have different numbers of words")
    return True


class _ModalityFile:
    """The file of one modality, with the rows of the words of each context and punchline."""

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
        """Return the number of values per word, from the entry `example`."""
        return int(self.rows(example)[0].shape[1])

    def rows(self, utterance_id: Any) -> tuple[Array, Array | None]:
        """Return the features `[T, d]` of an utterance, and the word indices `[T]` of text."""
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
            raise DhmdError(
                f"{where} has a word index that is not an integer from 0 to "
                f"{len(self._vectors) - 1}"
            )
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
    files: Mapping[str, _ModalityFile],
    labels: Mapping[Any, Any],
    words: tuple[str, ...] | None,
    notes: dict[str, object],
) -> Iterator[Segment]:
    for key, split in SPLIT_NAMES.items():
        for utterance_id in folds[key]:
            video = as_video_id(utterance_id, where="the folds")
            try:
                rows = {modality: file.rows(utterance_id) for modality, file in files.items()}
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
            utterance_words: tuple[str, ...] = ()
            if words is not None and index is not None:
                if index.max() >= len(words):
                    job.problems.add(
                        "words", f"{utterance_id!r} has a word index beyond the {len(words)} words"
                    )
                    continue
                utterance_words = tuple(words[i] for i in index)
            yield Segment(
                id=segment_id(video, 0),
                video=video,
                split=split,
                label=label,
                steps={modality: values for modality, (values, _) in rows.items()},
                words=utterance_words,
            )
