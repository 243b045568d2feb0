"""Read HKT's pickles of MUStARD (and UR-FUNNY), with one row of audio and vision per word.

`train`, `dev` and `test` are lists of ((words, visual, acoustic, humour-centric) of the punchline,
the same of its context, id, label). The word vectors are read from a GloVe file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.data.csd import Array, segment_id
from dhmd.data.formats.conversion import (
    as_dict,
    as_number,
    as_numbers,
    as_texts,
    as_video_id,
    concatenate_rows,
)
from dhmd.data.formats.interface import (
    ImportJob,
    ParsedCorpus,
    Segment,
    numbered_names,
    validation_sample,
)
from dhmd.data.formats.pickles import load_pickle
from dhmd.data.formats.urfunny import SPLIT_NAMES, items_by_split, leave_out_uneven
from dhmd.data.formats.vectors import read_vectors

_INDEX = {"vision": 1, "audio": 2}  # position in the tuple of a punchline or context

Fold = dict[str, tuple[str, ...]]  # the ids of each split


@dataclass(frozen=True, kw_only=True, eq=False)
class _Utterance:
    """One item of the lists; `steps` has `[T, d]` of audio and vision."""

    id: str
    split: str
    label: float
    words: tuple[str, ...]
    steps: Mapping[str, Array]


def read_mustard(job: ImportJob) -> ParsedCorpus:
    """Read the recipe's sequences `pickle` and `vectors`, and `utterances` and `splits` for folds.

    `options.context`: whether the words of the context precede those of the punchline.
    `options.folds`: own (train, dev and test of the pickle), dependent (MUStARD's five stratified
    folds, from `utterances` and `splits`) or independent (test: the show Friends, from
    `utterances`). MUStARD's folds have no validation split, so a tenth of each class of the train
    split is used, chosen by the hash of the id (ours).
    """
    recipe = job.recipe
    with_context, kind = job.options(
        context=(False, True), folds=("own", "dependent", "independent")
    )
    path = job.file("pickle")
    where = str(path)
    notes: dict[str, object] = {"context": with_context, "folds": kind, "uneven_utterances": {}}
    content = items_by_split(load_pickle(path), where)
    utterances = list(_utterances(job, content, with_context, notes, where))
    if not utterances:
        job.problems.raise_first(recipe.name)
        raise DhmdError(f"{where} has no utterances")
    names: dict[str, tuple[str, ...]] = {}
    vectors: dict[str, Array] = {}
    for modality in recipe.modality_names:
        if modality == "text":
            words = {
                _strip_punctuation(word) for utterance in utterances for word in utterance.words
            }
            vectors, width = read_vectors(job.file("vectors"), words)
            notes["words_without_vector"] = len(words) - len(vectors)
        else:
            width = utterances[0].steps[modality].shape[1]
        names[modality] = numbered_names(modality, width)
    return ParsedCorpus(
        feature_names=names,
        segments=_segments(utterances, names, vectors),
        has_words="text" in names,
        folds=_folds(job, kind, {utterance.id: utterance.label for utterance in utterances}),
        file_fold="own" if kind == "own" else None,
        notes=notes,
    )


def _utterances(
    job: ImportJob,
    content: Mapping[str, list[Any]],
    with_context: bool,
    notes: dict[str, object],
    where: str,
) -> Iterator[_Utterance]:
    for key, split in SPLIT_NAMES.items():
        for n, item in enumerate(content[key]):
            try:
                utterance = _utterance(job, item, split, with_context, f"{where}: {key}[{n}]")
            except DhmdError as error:
                job.problems.add("utterances", str(error))
                continue
            lengths = {"words": len(utterance.words)}
            lengths |= {modality: len(rows) for modality, rows in utterance.steps.items()}
            if not leave_out_uneven(job, notes, utterance.id, split, lengths):
                yield utterance


def _utterance(job: ImportJob, item: Any, split: str, with_context: bool, where: str) -> _Utterance:
    form = "((words, visual, acoustic, hcf), the same of the context, id, label)"
    if not isinstance(item, list | tuple) or len(item) != 4:
        raise DhmdError(f"{where} is not {form}")
    punchline, context, utterance_id, label = item
    for part in (punchline, context):
        if not isinstance(part, list | tuple) or len(part) != 4:
            raise DhmdError(f"{where} is not {form}")
    name = as_video_id(utterance_id, where=where)
    parts = [context, punchline] if with_context else [punchline]
    words = [word for part in parts for word in _words(part[0], where)]
    steps = {}
    for modality, index in _INDEX.items():
        if modality in job.recipe.modalities:
            values = [part[index] for part in parts]
            if not all(isinstance(value, list | tuple | np.ndarray) for value in values):
                raise DhmdError(f"{where}, {modality} has no rows")
            steps[modality] = concatenate_rows(values, axes=2, where=f"{where}, {modality}")
    return _Utterance(
        id=name,
        split=split,
        label=as_number(label, where=f"{where}: the label"),
        words=tuple(words),
        steps=steps,
    )


def _words(value: Any, where: str) -> list[str]:
    """Return the words of a text, or of a list of sentences, which HKT separates by spaces."""
    sentences = as_texts((value,) if isinstance(value, str) else value, where=f"{where}, words")
    return [word for sentence in sentences for word in sentence.split()]


def _strip_punctuation(word: str) -> str:
    """Strip the punctuation around a word; GloVe has separate vectors for it."""
    return word.strip('.,;:!?"()[]…-') or word


def _segments(
    utterances: Sequence[_Utterance],
    names: Mapping[str, tuple[str, ...]],
    vectors: Mapping[str, Array],
) -> Iterator[Segment]:
    absent = np.zeros(len(names.get("text", ())), dtype=np.float32)
    for utterance in utterances:
        steps = dict(utterance.steps)
        if "text" in names:
            rows = [vectors.get(_strip_punctuation(word), absent) for word in utterance.words]
            steps["text"] = np.array(rows, dtype=np.float32).reshape(len(rows), len(absent))
        yield Segment(
            id=segment_id(utterance.id, 0),
            video=utterance.id,
            split=utterance.split,
            label=utterance.label,
            steps=steps,
            words=utterance.words if "text" in names else (),
        )


def _folds(job: ImportJob, kind: str, labels: Mapping[str, float]) -> dict[str, Fold]:
    """Read the folds `kind` from MUStARD's files; return {} for those of the pickle."""
    if kind == "own":
        return {}
    path = job.file("utterances")
    try:
        records = as_dict(json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except (OSError, ValueError) as error:
        raise DhmdError(f"cannot read {path} as JSON: {first_line(error)}") from error
    order = [str(utterance_id) for utterance_id in records]
    absent = [utterance_id for utterance_id in labels if utterance_id not in records]
    if absent:
        raise DhmdError(f"{path} lacks the utterance {absent[0]!r} ({len(absent)} in total)")
    if kind == "independent":
        shows = {str(i): as_dict(r, where=str(path)).get("show") for i, r in records.items()}
        test = {utterance_id for utterance_id in order if shows[utterance_id] == "FRIENDS"}
        if not test:
            raise DhmdError(f"{path} has no utterance of the show FRIENDS")
        return {"independent": _fold("independent", order, test, labels)}
    path = job.file("splits")
    pairs = load_pickle(path)
    folds = {}
    for k, pair in enumerate(pairs if isinstance(pairs, list | tuple) else (), 1):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DhmdError(f"{path} is not a list of (train, test) indices")
        index = as_numbers(pair[1], axes=1, where=f"{path}, fold {k}")
        if not np.isin(index, np.arange(len(order))).all():
            raise DhmdError(
                f"{path}, fold {k} has an index that is not one of the {len(order)} utterances"
            )
        name = f"dependent_{k}"
        folds[name] = _fold(name, order, {order[int(i)] for i in index}, labels)
    if not folds:
        raise DhmdError(f"{path} is not a list of (train, test) indices")
    return folds


def _fold(name: str, order: Sequence[str], test: set[str], labels: Mapping[str, float]) -> Fold:
    """Return a fold with a tenth of each class outside of `test` as validation split."""
    rest = [
        utterance_id
        for utterance_id in order
        if utterance_id not in test and utterance_id in labels
    ]
    valid: set[object] = set()
    for label in sorted(set(labels.values())):
        valid |= validation_sample(
            (utterance_id for utterance_id in rest if labels[utterance_id] == label), name
        )
    return {
        "train": tuple(utterance_id for utterance_id in rest if utterance_id not in valid),
        "valid": tuple(utterance_id for utterance_id in rest if utterance_id in valid),
        "test": tuple(utterance_id for utterance_id in order if utterance_id in test),
    }
