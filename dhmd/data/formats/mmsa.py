"""Read MMSA's and MulT's feature pickles: for each split, a dict of padded arrays `[N, T, d]`.

MMSA's files mark padding by lengths, or else by the mask in `text_bert`. `options.padding` is
required only if a file has neither or the side of the padding is ambiguous.
MulT's files (`mosi_data.pkl`, `mosei_senti_data.pkl`, `iemocap_data.pkl`) do not mark padding: they
need `zeros`, which removes rows of zeros at both ends. Their labels are `labels`, `[N, 1, 1]`, or
`[N, 4, 2]` in IEMOCAP; their ids are `[N, 3]` (video, start and end), or absent.

Axes: N utterances, T steps, d features, K tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import SPLITS
from dhmd.data.csd import Array, segment_id
from dhmd.data.formats.conversion import as_dict, as_labels, as_numbers, as_texts, is_video_id
from dhmd.data.formats.interface import ImportJob, ParsedCorpus, Segment, numbered_names
from dhmd.data.formats.pickles import load_pickle

SEPARATOR = "$_$"
SEQUENCE = "pickle"
PADDINGS = ("marked", "start", "end", "none", "zeros", "trailing_zeros")
LABELS = {
    "regression": "regression_labels",
    "classification": "classification_labels",
    "multilabel": "labels",
}

_CLIP = re.compile(r"[^0-9]*([0-9]{1,18})[^0-9]*")
_TOLERANCE = 1 / 20  # maximum share of utterances, or rows, that contradict the padding

# The sha256 of published files by name (source: MMSA's README).
_KNOWN = {
    "MMSA MOSI unaligned_50": "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524",
    "MMSA MOSI aligned_50": "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9",
    "MMSA MOSEI unaligned_50": "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f",
    "MMSA MOSEI aligned_50": "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791",
    "MMSA SIMS unaligned_39": "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f",
    "ICT-MMMO aligned_20": "e188466f104ad789e060762ecf42c3c8210fce4b55430289707b70fcbdac3f6e",
}


def known_file(sha256: str) -> str | None:
    """Return the name of the published file with this sha256, or None."""
    return next((f"{name}.pkl" for name, known in _KNOWN.items() if known == sha256), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Split:
    """The checked content of one split.

    Attributes:
        where: the file and split, for messages.
        ids: N ids `video$_$clip`.
        features: `[N, T, d]` per modality.
        nonzero: bool `[N, T]` per modality, False for rows of zeros.
        lengths: `[N]` per modality that has lengths.
        labels_N: float64.
        tokens: token ids, attention mask and token type ids, `[N, K]` each, or None.
    """

    where: str
    ids: tuple[str, ...]
    features: Mapping[str, Array]
    nonzero: Mapping[str, Array]
    lengths: Mapping[str, Array]
    labels_N: Array
    tokens: tuple[Array, Array, Array] | None

    @property
    def aligned(self) -> bool:
        """Whether all modalities have the same steps."""
        return len({x_NTd.shape[1] for x_NTd in self.features.values()}) == 1 and not self.lengths


def read_mmsa(job: ImportJob) -> ParsedCorpus:
    """Read the recipe's sequence `pickle`.

    `modalities` has the key of each modality (`text`, `audio`, `vision`), `labels.column` that of
    the labels (0: `regression_labels` or `classification_labels`, depending on the task).
    """
    (padding,) = job.options(padding=PADDINGS)
    path = job.file(SEQUENCE)
    where = str(path)
    parts = split_parts(load_pickle(path), where, job.labelled)
    if not any("id" in part for part in parts.values()):
        job.problems.warn("the file has no ids: each utterance is treated as a separate video")
        for name, part in parts.items():
            part["id"] = [f"{name}_{n}{SEPARATOR}0" for n in range(_count(part))]
    splits = {name: _split(part, job, f"{where}: {name}") for name, part in parts.items()}
    train = splits.get("train") or next(iter(splits.values()))
    for name in ("valid", "test"):
        if job.labelled and len(splits[name].ids) > len(train.ids):
            job.problems.warn(
                f"train has {len(train.ids)} utterances and {name} {len(splits[name].ids)}: make "
                "sure that the splits are not swapped"
            )
    widths = {modality: x_NTd.shape[2] for modality, x_NTd in train.features.items()}
    sides = {
        modality: _padding_side(modality, splits.values(), padding, job, where)
        for modality in train.lengths
    }
    notes: dict[str, object] = {"padding": sides} if sides else {}
    known = known_file(job.sources.get(path.name, ""))
    if known is not None:
        notes["file"] = known
    masks = {
        name: {m: _step_mask(m, split, padding, sides, job) for m in split.features}
        for name, split in splits.items()
    }
    if job.alignment == "word" and not all(split.aligned for split in splits.values()):
        raise DhmdError(
            f"{where} is unaligned, each modality has its own steps: set data.alignment to none"
        )
    _compare_with_values(splits, masks, notes, job)
    return ParsedCorpus(
        feature_names={m: numbered_names(m, width) for m, width in widths.items()},
        segments=_segments(job, splits, masks),
        has_tokens=all(split.tokens is not None for split in splits.values()),
        notes=notes,
    )


def split_parts(content: object, where: str, labelled: bool = True) -> dict[str, dict[str, Any]]:
    """Return the content of each split; files without labels may have fewer splits, or none."""
    top = as_dict(content, where=where)
    if not labelled and "id" in top:
        return {"test": top}
    if not labelled and any(split in top for split in SPLITS):
        present = [split for split in SPLITS if split in top]
        return {split: as_dict(top[split], where=f"{where}: {split}") for split in present}
    if any(split not in top for split in SPLITS):
        keys = ", ".join(repr(key)[:40] for key in list(top)[:8]) or "none"
        raise DhmdError(
            f"{where} is not an MMSA feature file: its top-level keys are {keys}, "
            "but must be train, valid and test"
        )
    return {split: as_dict(top[split], where=f"{where}: {split}") for split in SPLITS}


def _split(part: Mapping[str, Any], job: ImportJob, where: str) -> _Split:
    def value(key: str) -> Any:
        if key not in part:
            keys = ", ".join(str(name)[:40] for name in list(part)[:16])
            raise DhmdError(f"{where} has no {key!r}; it has {keys or 'nothing'}")
        return part[key]

    recipe = job.recipe
    ids = _utterance_ids(value("id"), f"{where}.id")
    keys = {modality: recipe.modalities[modality] for modality in recipe.modality_names}
    features = {m: as_numbers(value(k), axes=3, where=f"{where}.{k}") for m, k in keys.items()}
    lengths = {
        m: as_numbers(part[f"{k}_lengths"], axes=1, where=f"{where}.{k}_lengths")
        for m, k in keys.items()
        if f"{k}_lengths" in part
    }
    tokens = _tokens(part["text_bert"], f"{where}.text_bert") if "text_bert" in part else None
    rows = {keys[m]: x_NTd for m, x_NTd in features.items()}
    rows |= {f"{keys[m]}_lengths": lengths_N for m, lengths_N in lengths.items()}
    if tokens is not None:
        rows["text_bert"] = tokens[0]
    for key, array in rows.items():
        if len(array) != len(ids):
            raise DhmdError(f"{where} has {len(ids)} ids, but {len(array)} rows of {key}")
        if key.endswith("_lengths") and not (array >= 0).all():
            raise DhmdError(f"{where}.{key} has negative lengths")
    column = recipe.labels.column
    key = column if isinstance(column, str) else LABELS[recipe.labels.task]
    labels_N = np.full(len(ids), np.nan)
    if job.labelled:
        labels = as_numbers(value(key), axes=None, where=f"{where}.{key}")
        is_matrix = recipe.labels.task != "multilabel" and labels.ndim == 2
        if is_matrix and isinstance(column, int) and column < labels.shape[1]:
            if column == 0 and labels.shape[1] > 1:
                job.problems.warn(
                    f"{key} has {labels.shape[1]} columns, of which labels.column of "
                    f"{recipe.source} takes the first"
                )
            labels = labels[:, column]
        labels_N = as_labels(labels, count=len(ids), where=f"{where}.{key}", spec=recipe.labels)
    return _Split(
        where=where,
        ids=ids,
        features=features,
        nonzero={m: np.asarray(x_NTd.any(axis=2)) for m, x_NTd in features.items()},
        lengths=lengths,
        labels_N=labels_N,
        tokens=tokens,
    )


def _count(part: Mapping[str, Any]) -> int:
    """Return the number of utterances of a split without ids: the length of its first array."""
    return next((len(value) for value in part.values() if isinstance(value, list | np.ndarray)), 0)


def _utterance_ids(value: Any, where: str) -> tuple[str, ...]:
    """Return the utterance ids `video$_$clip` of a split.

    MulT's files have a video, a start and an end instead; their clips are numbered.
    """
    rows = value
    if isinstance(value, np.ndarray) and value.ndim == 2:
        rows = value.tolist()
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], list | tuple):
        return as_texts(value, where=where)
    clips: Counter[str] = Counter()
    ids = []
    for video in as_texts([row[0] for row in rows], where=where):
        ids.append(f"{video}{SEPARATOR}{clips[video]}")
        clips[video] += 1
    return tuple(ids)


def _tokens(value: object, where: str) -> tuple[Array, Array, Array]:
    """Split `text_bert` `[N, 3, K]` into token ids, attention mask and token type ids."""
    array = as_numbers(value, axes=3, where=where)
    if array.shape[1] != 3:
        raise DhmdError(f"{where} has shape {list(array.shape)}, but must have shape [N, 3, K]")
    ids, mask, types = array[:, 0], array[:, 1], array[:, 2]
    if not np.isin(mask, (0, 1)).all():
        raise DhmdError(f"{where}[:, 1] is not an attention mask of 0 and 1")
    if not (np.isfinite(ids) & (ids >= 0) & (ids == np.floor(ids))).all():
        raise DhmdError(f"{where}[:, 0] has values that are not token ids (non-negative integers)")
    if not np.isin(types, (0, 1)).all():
        raise DhmdError(f"{where}[:, 2] has token type ids other than 0 and 1")
    return ids.astype(np.int64), mask.astype(bool), types.astype(np.int64)


def _padding_side(
    modality: str, splits: Iterable[_Split], padding: str, job: ImportJob, where: str
) -> str:
    """Return the side on which a modality with lengths is padded, "start" or "end".

    Each utterance votes for the side on which all rows beyond its length are zeros; if that is true
    of both sides, it has no vote.

    Raises:
        DhmdError: the side is ambiguous, and `options.padding` does not name it.
    """
    if padding in ("start", "end"):
        return padding
    votes: Counter[str] = Counter(start=0, end=0, neither=0)
    for split in splits:
        nonzero_NT = split.nonzero[modality]
        steps = nonzero_NT.shape[1]
        lengths_N1 = np.minimum(split.lengths[modality], steps)[:, None]
        index_T = np.arange(steps)
        end_N = ~(nonzero_NT & (index_T >= lengths_N1)).any(axis=1)
        start_N = ~(nonzero_NT & (index_T < steps - lengths_N1)).any(axis=1)
        votes.update(
            start=int((start_N & ~end_N).sum()),
            end=int((end_N & ~start_N).sum()),
            neither=int((~end_N & ~start_N).sum()),
        )
    side = "start" if votes["start"] > votes["end"] else "end"
    if votes.total() - votes[side] > _TOLERANCE * votes.total():
        raise DhmdError(
            f"{where}: the padding of {modality} is ambiguous: according to its lengths and rows of"
            f" zeros, {votes['start']} utterances are padded at the start, {votes['end']} at the "
            f"end and {votes['neither']} at neither; {_padding_hint(job, 'start or end')}"
        )
    if side == "start":
        job.problems.warn(
            f"{modality} is padded at the start ({votes['start']} of {votes.total()} padded "
            "utterances), so the last rows of each utterance are used"
        )
    return side


def _padding_hint(job: ImportJob, values: str) -> str:
    return (
        f"choose with `dhmd import mmsa … --padding` {values} "
        f"(options.padding of {job.recipe.source})"
    )


def _step_mask(
    modality: str, split: _Split, padding: str, sides: Mapping[str, str], job: ImportJob
) -> Array:
    """Return a mask, bool `[N, T]`, that is False where a modality is padded."""
    x_NTd = split.features[modality]
    steps = x_NTd.shape[1]
    if modality in split.lengths:
        # If a file was cut to a number of steps, its lengths may be those before the cut.
        lengths_N1 = np.minimum(split.lengths[modality], steps)[:, None]
        index_T = np.arange(steps)
        index_T = steps - 1 - index_T if sides[modality] == "start" else index_T
        return np.asarray(index_T < lengths_N1)
    if padding == "none":
        return np.ones(x_NTd.shape[:2], dtype=bool)
    mask_NT = None if split.tokens is None else split.tokens[1]
    if mask_NT is not None and mask_NT.shape[1] == steps and padding != "trailing_zeros":
        return mask_NT
    if padding != "marked":
        shared = list(split.nonzero.values()) if split.aligned else [split.nonzero[modality]]
        real_NT: Array = np.any(shared, axis=0)
        # A step is real if it, or any step farther from the padding, is not zero.
        after_NT = np.maximum.accumulate(real_NT, axis=1)
        until_NT = np.flip(np.maximum.accumulate(np.flip(real_NT, axis=1), axis=1), axis=1)
        if padding == "zeros":
            return after_NT & until_NT
        return after_NT if padding == "start" else until_NT
    lengths = f"{job.recipe.modalities[modality]}_lengths"
    problem = f"has neither {lengths} nor text_bert, which mark padding"
    if mask_NT is not None:
        problem = f"has text_bert of {mask_NT.shape[1]} steps, but {modality} of {steps}"
        problem += "" if modality == "text" else f", and no {lengths}"
    raise DhmdError(
        f"{split.where} {problem}: if rows of zeros are padding, or if there is no padding, "
        f"{_padding_hint(job, 'start, end, zeros (either side) or none')}"
    )


def _compare_with_values(
    splits: Mapping[str, _Split],
    masks: Mapping[str, Mapping[str, Array]],
    notes: dict[str, object],
    job: ImportJob,
) -> None:
    """Count nonzero rows that are treated as padding, and real steps that are all zeros."""
    beyond: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name, split in splits.items():
        for modality, nonzero_NT in split.nonzero.items():
            total[modality] += int(np.count_nonzero(nonzero_NT))
            beyond[modality] += int(np.count_nonzero(nonzero_NT & ~masks[name][modality]))
    for modality, outside in beyond.items():
        if outside > _TOLERANCE * total[modality]:
            job.problems.warn(
                f"{outside} of {total[modality]} rows of {modality} with nonzero values are outside"
                " of the steps that the file marks as real, and are left out"
            )
    notes["rows_beyond_the_mask"] = dict(beyond)
    notes["steps_without_values"] = sum(
        int(
            np.count_nonzero(
                np.all([masks[name][m] & ~v for m, v in split.nonzero.items()], axis=0)
            )
        )
        for name, split in splits.items()
        if split.aligned
    )


def _segments(
    job: ImportJob, splits: Mapping[str, _Split], masks: Mapping[str, Mapping[str, Array]]
) -> Iterator[Segment]:
    for name, split in splits.items():
        for n, utterance_id in enumerate(split.ids):
            # The clip has exactly one number: `0`, `0007`, `utt12`.
            video, _, clip = utterance_id.rpartition(SEPARATOR)
            match = _CLIP.fullmatch(clip)
            if match is None or not is_video_id(video):
                job.problems.add(
                    "ids", f"{split.where}.id {utterance_id[:60]!r} is not video{SEPARATOR}clip"
                )
                continue
            tokens = None
            if split.tokens is not None:
                ids, mask, types = split.tokens
                tokens = ids[n][mask[n]], types[n][mask[n]]
            yield Segment(
                id=segment_id(video, int(match[1])),
                video=video,
                split=name,
                label=float(split.labels_N[n]),
                steps={m: x_NTd[n][masks[name][m][n]] for m, x_NTd in split.features.items()},
                tokens=tokens,
            )
