"""MMSA's feature pickles: train/valid/test, each a dict of padded arrays `[N, T, d]`.

Which steps are real comes from the file: lengths where it has them, else the mask in `text_bert`.
Padding is guessed from rows of zeros only where the recipe says that this is how the file is made
(`options.padding: trailing_zeros`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import SPLITS
from dhmd.data.csd import segment_id
from dhmd.data.formats.conversion import Budget, mapping, numbers, texts
from dhmd.data.formats.known import known_file
from dhmd.data.formats.pickles import load_pickle
from dhmd.data.formats.reading import Reading, Segment, Task, known_options, numbered, option

Array = np.ndarray[Any, Any]

SEPARATOR = "$_$"
SEQUENCE = "pickle"
_MOST_DIGITS = 18  # Python makes no int of 5000
_LABELS = {"regression": "regression_labels", "classification": "classification_labels"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One split of the file, checked.

    Attributes:
        ids: N as in the file, `video$_$clip`.
        features: modality -> `[N, T, d]`.
        real: modality -> `[N, T]` bool, the steps that are not padding.
        labels_N: float64.
        tokens: ids, their mask and their segment ids, `[N, K]` int64, bool and int64, or None.
        aligned: all modalities share their steps.
    """

    ids: tuple[str, ...]
    features: Mapping[str, Array]
    real: Mapping[str, Array]
    labels_N: Array
    tokens: tuple[Array, Array, Array] | None
    aligned: bool


def read_mmsa(task: Task) -> Reading:
    """Read the pickle of the recipe's sequence `pickle`.

    `modalities` names each modality's key (`text`, `audio`, `vision`), `labels.column` the labels'
    key (0: `regression_labels` or `classification_labels`, by the task).

    Raises:
        DhmdError: the file is hostile, damaged or not such a file, or its modalities are not
            aligned where data.alignment is word.
    """
    recipe = task.recipe
    known_options(recipe, "padding")
    option(recipe, "padding", "marked", ("marked", "trailing_zeros", "none"))
    path = task.file(SEQUENCE)
    content = load_pickle(path)
    where = str(path)
    splits = read_splits(content, task, where, Budget(path.stat().st_size))
    _check_sizes(task, splits, where)
    if task.alignment == "word" and not all(split.aligned for split in splits.values()):
        raise DhmdError(
            f"{where} is unaligned, each modality has its own steps: set data.alignment to none"
        )
    first = splits["train"]
    widths = {modality: array.shape[2] for modality, array in first.features.items()}
    for name, split in splits.items():
        for modality, array in split.features.items():
            if array.shape[2] != widths[modality]:
                raise DhmdError(
                    f"{where}: {modality} has {array.shape[2]} values a step in {name}, "
                    f"but {widths[modality]} in train"
                )
    notes: dict[str, object] = {}
    sha256 = task.sources.get(path.name)
    if sha256 is not None and (known := known_file(sha256)) is not None:
        notes["file"] = known
    return Reading(
        feature_names={m: numbered(m, width) for m, width in widths.items()},
        segments=_segments(task, splits, notes, where),
        has_tokens=all(split.tokens is not None for split in splits.values()),
        notes=notes,
    )


def read_splits(content: object, task: Task, where: str, budget: Budget) -> dict[str, Split]:
    """The three splits of a loaded file.

    Raises:
        DhmdError: a split or a key is missing, shapes do not fit each other.
    """
    top = mapping(content, where=where)
    if any(split not in top for split in SPLITS):
        keys = ", ".join(repr(key)[:40] for key in list(top)[:8]) or "none"
        raise DhmdError(
            f"{where} is no MMSA feature file: its top-level keys are {keys}, "
            "expected train, valid and test"
        )
    return {
        name: _split(mapping(top[name], where=f"{where}: {name}"), task, f"{where}: {name}", budget)
        for name in SPLITS
    }


def _split(part: Mapping[str, Any], task: Task, where: str, budget: Budget) -> Split:
    recipe = task.recipe
    ids = texts(_value(part, "id", where), where=f"{where}.id")
    keys = {modality: recipe.modalities[modality] for modality in recipe.modality_names}
    features = {
        modality: numbers(_value(part, key, where), axes=3, where=f"{where}.{key}", budget=budget)
        for modality, key in keys.items()
    }
    labels_N = _labels(part, task, where, budget)
    counts = {"labels": len(labels_N), **{keys[m]: len(array) for m, array in features.items()}}
    tokens = None
    if "text_bert" in part:
        tokens = _tokens(part["text_bert"], f"{where}.text_bert", budget)
        counts["text_bert"] = len(tokens[0])
    for what, count in counts.items():
        if count != len(ids):
            raise DhmdError(f"{where} has {len(ids)} ids, but {count} rows of {what}")
    lengths = {
        modality: numbers(part[f"{key}_lengths"], axes=1, where=f"{where}.{key}_lengths")
        for modality, key in keys.items()
        if f"{key}_lengths" in part
    }
    for modality, found in lengths.items():
        if len(found) != len(ids):
            raise DhmdError(
                f"{where} has {len(ids)} ids, but {len(found)} values in {keys[modality]}_lengths"
            )
    steps = {array.shape[1] for array in features.values()}
    aligned = len(steps) == 1 and not lengths
    real = {
        modality: _real(modality, array, features, lengths, tokens, aligned, task, where)
        for modality, array in features.items()
    }
    return Split(
        ids=ids, features=features, real=real, labels_N=labels_N, tokens=tokens, aligned=aligned
    )


def _value(part: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in part:
        keys = ", ".join(str(name)[:40] for name in list(part)[:16])
        raise DhmdError(f"{where} has no {key!r}; it has {keys or 'nothing'}")
    return part[key]


def _labels(part: Mapping[str, Any], task: Task, where: str, budget: Budget) -> Array:
    spec = task.recipe.labels
    column = spec.column
    key = column if isinstance(column, str) else _LABELS[spec.task]
    value = _value(part, key, where)
    labels = numbers(value, axes=None, where=f"{where}.{key}", budget=budget).astype(np.float64)
    if labels.ndim == 2 and isinstance(column, int) and column < labels.shape[1]:
        return labels[:, column]
    if labels.ndim != 1:
        raise DhmdError(f"{where}.{key} has shape {list(labels.shape)}, expected one label a row")
    return labels


def _tokens(value: object, where: str, budget: Budget) -> tuple[Array, Array, Array]:
    """`[N, 3, K]` as ids, mask and segment ids."""
    array = numbers(value, axes=3, where=where, budget=budget)
    if array.shape[1] != 3:
        raise DhmdError(f"{where} has shape {list(array.shape)}, expected [N, 3, T]")
    ids, mask, types = array[:, 0], array[:, 1], array[:, 2]
    if not np.isin(mask, (0, 1)).all():
        raise DhmdError(f"{where}: its second row is no mask of 0 and 1")
    if not (np.isfinite(ids) & (ids >= 0) & (ids == np.floor(ids))).all():
        raise DhmdError(f"{where}: its first row holds no token ids")
    if not np.isin(types, (0, 1)).all():
        raise DhmdError(f"{where}: its third row holds no segment ids of 0 and 1")
    return ids.astype(np.int64), mask.astype(bool), types.astype(np.int64)


def _real(
    modality: str,
    array: Array,
    features: Mapping[str, Array],
    lengths: Mapping[str, Array],
    tokens: tuple[Array, Array, Array] | None,
    aligned: bool,
    task: Task,
    where: str,
) -> Array:
    """`[N, T]` bool: the steps of a modality that are not padding."""
    steps = np.arange(array.shape[1])
    if modality in lengths:
        if (lengths[modality] < 0).any():
            raise DhmdError(f"{where}: lengths of {modality} are negative")
        # Files made with a cap keep the length from before it.
        real: Array = steps[None, :] < lengths[modality][:, None]
        return real
    padding = task.recipe.options.get("padding", "marked")
    if padding == "none":
        return np.ones(array.shape[:2], dtype=bool)
    if padding == "trailing_zeros":
        shared = list(features.values()) if aligned else [array]
        some = np.any([(each != 0).any(axis=2) for each in shared], axis=0)
        # A step is real if it or any later one holds something.
        return np.flip(np.maximum.accumulate(np.flip(some, axis=1), axis=1), axis=1)
    if tokens is None:
        raise DhmdError(
            f"{where} has neither {task.recipe.modalities[modality]}_lengths nor text_bert, which "
            "say where padding begins: if padding is rows of zeros at the end, say "
            f"options.padding: trailing_zeros in {task.recipe.source}, if there is none, none"
        )
    mask = tokens[1]
    if mask.shape[1] != array.shape[1]:
        raise DhmdError(
            f"{where}: text_bert has {mask.shape[1]} steps, but {modality} {array.shape[1]}"
            + ("" if modality == "text" else f", and there are no {modality}_lengths")
        )
    return mask


def _check_sizes(task: Task, splits: Mapping[str, Split], where: str) -> None:
    """No corpus of this kind trains on its smallest part."""
    train = len(splits["train"].ids)
    for name in ("valid", "test"):
        if len(splits[name].ids) > train:
            task.problems.add(
                "swapped splits",
                f"{where}: train has {train} utterances and {name} {len(splits[name].ids)}: "
                "the splits are swapped",
            )


def _segments(
    task: Task, splits: Mapping[str, Split], notes: dict[str, object], where: str
) -> Iterator[Segment]:
    beyond = {modality: 0 for modality in splits["train"].features}
    notes["rows_beyond_the_mask"] = beyond
    notes["steps_without_values"] = 0
    without = 0
    for name, split in splits.items():
        for n, own_id in enumerate(split.ids):
            place = _place(own_id)
            if place is None:
                task.problems.add(
                    "ids", f"{where}: {name}.id {own_id[:60]!r} is not video{SEPARATOR}clip"
                )
                continue
            steps = {}
            for modality, array in split.features.items():
                real = split.real[modality][n]
                steps[modality] = array[n][real]
                beyond[modality] += int(np.count_nonzero(array[n][~real].any(axis=1)))
            if split.aligned:
                some = np.any([rows.any(axis=1) for rows in steps.values()], axis=0)
                without += int(np.count_nonzero(~some))
                notes["steps_without_values"] = without
            yield Segment(
                id=segment_id(*place),
                video=place[0],
                split=name,
                label=float(split.labels_N[n]),
                steps=steps,
                tokens=_real_tokens(split, n),
            )


def _real_tokens(split: Split, n: int) -> tuple[Array, Array] | None:
    """Ids and segment ids of one utterance, without padding."""
    if split.tokens is None:
        return None
    ids, mask, types = split.tokens
    return ids[n][mask[n]], types[n][mask[n]]


def _place(own_id: str) -> tuple[str, int] | None:
    """`video$_$clip` as video and clip; `[` would end a video's name too early."""
    video, separator, clip = own_id.rpartition(SEPARATOR)
    if not separator or not video or "[" in video or not (clip.isascii() and clip.isdigit()):
        return None
    if len(clip) > _MOST_DIGITS:
        return None
    return video, int(clip)
