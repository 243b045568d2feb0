"""HKT's pickles of MUStARD (and of UR-FUNNY): words as text, one row a word of audio and vision.

`train`, `dev` and `test` each list ((words, visual, acoustic, humour-centric) of the punchline, the
same of its context, id, label). The words carry no vectors: these come from a GloVe file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.data.csd import segment_id
from dhmd.data.formats.conversion import Budget, id_text, mapping, number, numbers, texts
from dhmd.data.formats.pickles import load_pickle
from dhmd.data.formats.reading import Reading, Segment, Task, known_options, numbered, option
from dhmd.data.formats.vectors import read_vectors

Array = np.ndarray[Any, Any]

_SPLITS = {"train": "train", "dev": "valid", "test": "test"}
_PLACE = {"vision": 1, "audio": 2}  # in a part's tuple
_VALID_SHARE = 10  # one in ten of each class

Fold = dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Utterance:
    """One list item, checked; `steps` are audio and vision."""

    id: str
    split: str
    label: float
    words: tuple[str, ...]
    steps: Mapping[str, Array]


def read_mustard(task: Task) -> Reading:
    """Read the recipe's sequences `pickle`, `vectors` and, for other folds, MUStARD's own files.

    `options.context`: whether the context's words come before the punchline's.
    `options.folds`: own (the pickle's train/dev/test), dependent (MUStARD's five stratified folds,
    from `utterances` and `splits`) or independent (test: the show Friends, from `utterances`).
    MUStARD's folds have no validation part: one in ten of each class of the train part is taken
    by the ids' hash (ours).

    Raises:
        DhmdError: a file is hostile, damaged or not such a file.
    """
    recipe = task.recipe
    known_options(recipe, "context", "folds")
    with_context = option(recipe, "context", False, (True, False))
    kind = option(recipe, "folds", "own", ("own", "dependent", "independent"))
    path = task.file("pickle")
    where = str(path)
    notes: dict[str, object] = {"context": with_context, "folds": kind}
    uneven: dict[str, dict[str, int]] = {}
    notes["uneven_utterances"] = uneven
    content = mapping(load_pickle(path), where=where)
    if set(content) != set(_SPLITS):
        keys = ", ".join(map(str, content))[:80]
        raise DhmdError(f"{where} has the keys {keys}, expected train, dev and test")
    utterances = list(_utterances(task, content, with_context, uneven, where))
    if not utterances:
        task.problems.stop_if_any(recipe.name)
        raise DhmdError(f"{where} holds no utterance")
    names: dict[str, tuple[str, ...]] = {}
    vectors: dict[str, Array] = {}
    for modality in recipe.modality_names:
        if modality == "text":
            words = {word for utterance in utterances for word in map(_bare, utterance.words)}
            vectors, width = read_vectors(task.file("vectors"), words)
            notes["words_without_vector"] = len(words) - len(vectors)
        else:
            width = utterances[0].steps[modality].shape[1]
        names[modality] = numbered(modality, width)
    folds = _folds(task, kind, {utterance.id: utterance.label for utterance in utterances})
    return Reading(
        feature_names=names,
        segments=_segments(task, utterances, names, vectors, where),
        has_words="text" in names,
        folds=folds,
        own_fold="own" if kind == "own" else None,
        notes=notes,
    )


def _utterances(
    task: Task,
    content: Mapping[str, Any],
    with_context: bool,
    uneven: dict[str, dict[str, int]],
    where: str,
) -> Iterator[_Utterance]:
    budget = Budget(task.file("pickle").stat().st_size)
    for own_name, split in _SPLITS.items():
        items = content[own_name]
        if not isinstance(items, list | tuple):
            raise DhmdError(f"{where}: {own_name} is {type(items).__name__}, expected a list")
        for n, item in enumerate(items):
            place = f"{where}: {own_name}[{n}]"
            try:
                utterance = _utterance(task, item, split, with_context, budget, place)
            except DhmdError as error:
                task.problems.add("utterances", str(error))
                continue
            lengths = {"words": len(utterance.words)}
            lengths |= {modality: len(rows) for modality, rows in utterance.steps.items()}
            if len(set(lengths.values())) > 1:
                uneven[segment_id(utterance.id, 0)] = lengths
                continue
            yield utterance


def _utterance(
    task: Task, item: Any, split: str, with_context: bool, budget: Budget, where: str
) -> _Utterance:
    shape = "((words, visual, acoustic, hcf), the same of the context, id, label)"
    if not isinstance(item, list | tuple) or len(item) != 4:
        raise DhmdError(f"{where} is not {shape}")
    punchline, context, own_id, label = item
    for part in (punchline, context):
        if not isinstance(part, list | tuple) or len(part) != 4:
            raise DhmdError(f"{where} is not {shape}")
    name = id_text(own_id, where=where)
    parts = [context, punchline] if with_context else [punchline]
    words: list[str] = []
    rows: dict[str, list[Array]] = {name: [] for name in _PLACE if name in task.recipe.modalities}
    for part in parts:
        words += _words(part[0], where)
        for modality, found in rows.items():
            value = part[_PLACE[modality]]
            # An empty context has no rows, and an empty list no second axis.
            if isinstance(value, list | tuple | np.ndarray) and len(value) == 0:
                continue
            found.append(numbers(value, axes=2, where=f"{where}, {modality}", budget=budget))
    steps = {}
    for modality, found in rows.items():
        if len({array.shape[1] for array in found}) != 1:
            raise DhmdError(f"{where}: {modality} has no rows, or rows of different lengths")
        steps[modality] = np.concatenate(found)
    return _Utterance(
        id=name,
        split=split,
        label=number(label, where=f"{where}: the label"),
        words=tuple(words),
        steps=steps,
    )


def _words(value: Any, where: str) -> list[str]:
    """Words of one text, or of a context's sentences; separated by spaces (source: HKT)."""
    sentences = texts((value,) if isinstance(value, str) else value, where=f"{where}, words")
    return [word for sentence in sentences for word in sentence.split()]


def _bare(word: str) -> str:
    """The word without the punctuation around it, which GloVe has as words of its own."""
    return word.strip('.,;:!?"()[]…-') or word


def _segments(
    task: Task,
    utterances: Sequence[_Utterance],
    names: Mapping[str, tuple[str, ...]],
    vectors: Mapping[str, Array],
    where: str,
) -> Iterator[Segment]:
    nothing = np.zeros(len(names.get("text", ())), dtype=np.float32)
    for utterance in utterances:
        steps = dict(utterance.steps)
        if "text" in names:
            rows = [vectors.get(_bare(word), nothing) for word in utterance.words]
            steps["text"] = np.array(rows, dtype=np.float32).reshape(len(rows), len(nothing))
        narrow = [m for m, values in steps.items() if values.shape[1] != len(names[m])]
        if narrow:
            task.problems.add(
                "width",
                f"{where}: {narrow[0]} of {utterance.id!r} has {steps[narrow[0]].shape[1]} values "
                f"a word, others {len(names[narrow[0]])}",
            )
            continue
        yield Segment(
            id=segment_id(utterance.id, 0),
            video=utterance.id,
            split=utterance.split,
            label=utterance.label,
            steps=steps,
            words=utterance.words if "text" in names else (),
        )


def _folds(task: Task, kind: str, labels: Mapping[str, float]) -> dict[str, Fold]:
    """Folds beside the pickle's own, from the files that MUStARD publishes."""
    if kind == "own":
        return {}
    path = task.file("utterances")
    try:
        records = mapping(json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except (OSError, ValueError) as error:
        raise DhmdError(f"cannot read {path} as JSON: {first_line(error)}") from error
    order = [str(own_id) for own_id in records]
    absent = [own_id for own_id in labels if own_id not in records]
    if absent:
        raise DhmdError(f"{path} lacks the utterance {absent[0]!r} ({len(absent)} such)")
    if kind == "independent":
        shows = {str(i): mapping(r, where=str(path)).get("show") for i, r in records.items()}
        test = {own_id for own_id in order if shows[own_id] == "FRIENDS"}
        if not test:
            raise DhmdError(f"{path} names no utterance of the show FRIENDS")
        return {"independent": _fold("independent", order, test, labels)}
    splits_path = task.file("splits")
    listed = load_pickle(splits_path)
    if not isinstance(listed, list | tuple) or not listed:
        raise DhmdError(f"{splits_path} is no list of (train, test) indexes")
    folds = {}
    for k, pair in enumerate(listed, 1):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DhmdError(f"{splits_path} is no list of (train, test) indexes")
        index = numbers(pair[1], axes=1, where=f"{splits_path}, fold {k}")
        if not np.isin(index, np.arange(len(order))).all():
            raise DhmdError(f"{splits_path}, fold {k} points outside {len(order)} utterances")
        name = f"dependent_{k}"
        folds[name] = _fold(name, order, {order[int(i)] for i in index}, labels)
    return folds


def _fold(name: str, order: Sequence[str], test: set[str], labels: Mapping[str, float]) -> Fold:
    """Test as given; of the rest one in ten of each class to validate on, by the ids' hash."""
    rest = [own_id for own_id in order if own_id not in test and own_id in labels]
    valid: set[str] = set()
    for label in sorted(set(labels.values())):
        ranked = sorted(
            (own_id for own_id in rest if labels[own_id] == label),
            key=lambda own_id: hashlib.sha256(f"{name}:{own_id}".encode()).digest(),
        )
        valid.update(ranked[: max(1, len(ranked) // _VALID_SHARE)])
    return {
        "train": tuple(own_id for own_id in rest if own_id not in valid),
        "valid": tuple(own_id for own_id in rest if own_id in valid),
        "test": tuple(own_id for own_id in order if own_id in test),
    }
