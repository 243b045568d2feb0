"""From a format's own files to the aligned cache, segment by segment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.data.aligned import (
    ENCODER_SOURCE,
    SPLITS,
    AlignedWriter,
    SegmentTable,
    assign_splits,
    read_folds,
)
from dhmd.data.alignment import AlignConfig, TextWriter, WordEncoder, clean_values
from dhmd.data.formats.arrays import read_arrays
from dhmd.data.formats.mmsa import read_mmsa
from dhmd.data.formats.mustard import read_mustard
from dhmd.data.formats.problems import Problems, ProblemsFoundError
from dhmd.data.formats.reading import Reading, Segment, Task
from dhmd.data.formats.urfunny import read_urfunny
from dhmd.data.text.subwords import Subwords
from dhmd.data.text.writer import tokens_of
from dhmd.recipes import Recipe

Array = np.ndarray[Any, Any]

READERS: Mapping[str, Callable[[Task], Reading]] = {
    "mmsa": read_mmsa,
    "urfunny": read_urfunny,
    "mustard": read_mustard,
    "arrays": read_arrays,
}


class _Sink(Protocol):
    """Where rows go: the cache's writer, or nowhere when a corpus is only checked."""

    def append(self, modality: str, values: Array, lengths: Array) -> None: ...

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None: ...

    def append_subwords(self, passes: Sequence[Subwords], length: int) -> None: ...


class _Nowhere:
    def append(self, modality: str, values: Array, lengths: Array) -> None:
        """Forget the rows."""

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None:
        """Forget the words."""

    def append_subwords(self, passes: Sequence[Subwords], length: int) -> None:
        """Forget the sub-words."""


@dataclass
class _Plain(_Nowhere):
    """The cache's writer, of a corpus whose text has vectors."""

    writer: AlignedWriter

    def append(self, modality: str, values: Array, lengths: Array) -> None:
        """Write the rows."""
        self.writer.append(modality, values, lengths)

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None:
        """Write the words."""
        self.writer.append_words(words, intervals, lengths)


@dataclass(eq=False)
class _Gathered:
    """One value a segment, and what the report counts."""

    ids: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    present: list[list[bool]] = field(default_factory=list)
    tokens: list[Sequence[Subwords]] = field(default_factory=list)
    empty: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(
        default_factory=lambda: {"labels_clipped": 0, "steps_truncated": 0, "words_dropped": 0}
    )
    per_modality: dict[str, dict[str, int]] = field(default_factory=dict)


def import_corpus(
    recipe: Recipe,
    raw: Path,
    align: AlignConfig,
    *,
    alignment: Literal["word", "none"],
    sources: Mapping[str, str],
    output: Path,
    folds_path: Path | None = None,
    encoder: WordEncoder | None = None,
) -> dict[str, object]:
    """Import a corpus of an imported format and write the cache, whole or not at all.

    Args:
        recipe: of format mmsa, urfunny, mustard or arrays.
        raw: the folder that the download stage filled.
        align: section `align`.
        alignment: "word" needs files whose modalities are aligned.
        sources: file -> sha256, part of the corpus's identity.
        output: the cache.
        folds_path: the folds file that the recipe names, if it names one.
        encoder: gives words their vectors, in place of the files' own.

    Returns:
        the data report, which the cache holds too.

    Raises:
        DhmdError: the files are damaged, hostile or contradict the recipe; the first problem, and
            how to list the others.
    """
    if align.centre_by_video:
        raise DhmdError(
            f"align.centre_by_video works on computational sequences, but {recipe.source} has "
            f"format {recipe.format}: centre the features in the files themselves"
        )
    task = _task(recipe, raw, align, alignment, sources, folds_path)
    reading = READERS[recipe.format](task)
    names = dict(reading.feature_names)
    if encoder is not None:
        _check_words(task, reading)
        names["text"] = encoder.feature_names
        sources = {**sources, ENCODER_SOURCE: encoder.source.digest}
    with AlignedWriter(output, names, words=reading.has_words) as writer:
        sink = _Plain(writer) if encoder is None else TextWriter(writer, encoder)
        gathered = _gather(task, reading, sink, encoder)
        tokens = sink.finish() if isinstance(sink, TextWriter) else None
        folds = _folds(task, reading, gathered)
        task.problems.stop_if_any(recipe.name)
        report = _report(task, reading, gathered)
        labels = recipe.labels
        classes = labels.classes
        writer.finish(
            SegmentTable(
                name=recipe.name,
                task=labels.task,
                low=0.0 if labels.low is None else labels.low,
                high=float(len(classes) - 1) if labels.high is None else labels.high,
                class_names=classes,
                alignment=alignment,
                ids=tuple(gathered.ids),
                videos=tuple(gathered.videos),
                modalities=tuple(names),
                feature_names=names,
                present_NM=np.array(gathered.present, dtype=bool),
                labels_N=np.array(gathered.labels, dtype=np.float32),
                folds=folds,
                tokens=tokens_of(gathered.tokens) if reading.has_tokens else tokens,
                recipe=recipe.corpus(),
                sources=sources,
                report=report,
            )
        )
    return report


def check_corpus(
    recipe: Recipe,
    raw: Path,
    align: AlignConfig,
    *,
    alignment: Literal["word", "none"],
    folds_path: Path | None = None,
    encoder: WordEncoder | None = None,
) -> list[str]:
    """Everything that `import_corpus` would refuse, one sentence a kind; nothing is written."""
    task = _task(recipe, raw, align, alignment, {}, folds_path)
    try:
        reading = READERS[recipe.format](task)
        if encoder is not None:
            _check_words(task, reading)
        _folds(task, reading, _gather(task, reading, _Nowhere(), encoder))
    except ProblemsFoundError:
        return task.problems.sentences()
    except DhmdError as error:
        return [*task.problems.sentences(), str(error)]
    return task.problems.sentences()


def _task(
    recipe: Recipe,
    raw: Path,
    align: AlignConfig,
    alignment: Literal["word", "none"],
    sources: Mapping[str, str],
    folds_path: Path | None,
) -> Task:
    if recipe.format not in READERS:
        raise DhmdError(
            f"{recipe.source}: format {recipe.format} is not imported, there are "
            f"{', '.join(READERS)}"
        )
    if recipe.folds is not None and folds_path is None:
        raise DhmdError(f"{recipe.source}: folds.file is {recipe.folds.file}, but was not given")
    return Task(
        recipe=recipe,
        raw=raw,
        align=align,
        alignment=alignment,
        sources=sources,
        folds_path=folds_path,
        problems=Problems(),
    )


def _check_words(task: Task, reading: Reading) -> None:
    """An encoder needs something to read."""
    name = task.recipe.name
    if "text" not in reading.feature_names:
        raise DhmdError(
            f"features.text asks for an encoder's vectors, but {name} has no text: set it to words"
        )
    if not (reading.has_words or reading.has_tokens):
        raise DhmdError(
            f"features.text asks for an encoder's vectors, but the files of {name} hold neither "
            "words nor text_bert for it to read: set it to words"
        )


def _gather(task: Task, reading: Reading, sink: _Sink, encoder: WordEncoder | None) -> _Gathered:
    gathered = _Gathered(
        per_modality={
            modality: {"values_cleaned": 0, "segments_absent": 0}
            for modality in reading.feature_names
        }
    )
    if task.align.drop_words and not reading.has_words:
        raise DhmdError(
            f"align.drop_words is {list(task.align.drop_words)}, but the files of "
            f"{task.recipe.name} hold no words: set it to []"
        )
    seen: set[str] = set()
    for segment in progress(reading.segments, f"import {task.recipe.name}", unit="segment"):
        if segment.id in seen:
            task.problems.add("id twice", f"{task.recipe.name}: the id {segment.id!r} comes twice")
            continue
        seen.add(segment.id)
        label = _label(task, segment, gathered)
        if task.align.drop_words:
            segment = _without_dropped_words(task, segment, gathered)
        steps = {
            modality: _cut(task, modality, segment, gathered) for modality in reading.feature_names
        }
        present = [
            bool(len(values) if encoder is not None and modality == "text" else values.any())
            for modality, values in steps.items()
        ]
        if not any(present):
            gathered.empty[segment.id] = "no row of any modality"
            if task.align.empty_segments == "drop":
                continue
        for (modality, values), there in zip(steps.items(), present, strict=True):
            gathered.per_modality[modality]["segments_absent"] += not there
            sink.append(modality, values, np.array([len(values)]))
        if reading.has_words:
            _append_words(task, segment, sink)
        if segment.tokens is not None:
            passes = _subwords(task, segment, encoder)
            gathered.tokens.append(passes)
            if encoder is not None and not reading.has_words:
                sink.append_subwords(passes, len(steps["text"]))
        gathered.ids.append(segment.id)
        gathered.videos.append(segment.video)
        gathered.splits.append(segment.split)
        gathered.labels.append(label)
        gathered.present.append(present)
    if not gathered.ids:
        task.problems.stop_if_any(task.recipe.name)
        raise DhmdError(f"{task.recipe.name}: no segment is left to import")
    return gathered


def _without_dropped_words(task: Task, segment: Segment, gathered: _Gathered) -> Segment:
    """The segment without the words to be dropped, and their rows in what is aligned to words."""
    keep = ~np.isin(np.array(segment.words, dtype=object), task.align.drop_words)
    gathered.counts["words_dropped"] += int(np.count_nonzero(~keep))
    by_word = tuple(segment.steps) if task.alignment == "word" else ("text",)
    return replace(
        segment,
        words=tuple(word for word, stays in zip(segment.words, keep, strict=True) if stays),
        steps=segment.steps | {modality: segment.steps[modality][keep] for modality in by_word},
    )


def _label(task: Task, segment: Segment, gathered: _Gathered) -> float:
    """The label, clipped within the recipe's tolerance."""
    spec, value = task.recipe.labels, float(segment.label)
    where = (
        f"{task.recipe.name}: the label of {segment.id!r} is {value:g}, but {task.recipe.source}"
    )
    if spec.task == "classification":
        if value not in range(len(spec.classes)):
            task.problems.add("label", f"{where} has the classes 0 to {len(spec.classes) - 1}")
            return 0.0
        return value
    assert spec.low is not None  # recipes/ checks it
    assert spec.high is not None
    # Labels are float32 in the files: allow for what that rounds away.
    slack = spec.tolerance + 1e-6 * max(abs(spec.low), abs(spec.high))
    if not spec.low - slack <= value <= spec.high + slack:
        allowed = f"{spec.low:g} to {spec.high:g}"
        allowed += f" (± {spec.tolerance:g})" if spec.tolerance else ""
        task.problems.add("label", f"{where} allows {allowed}")
        return spec.low
    clipped = min(max(value, spec.low), spec.high)
    gathered.counts["labels_clipped"] += abs(clipped - value) > 1e-6
    return clipped


def _cut(task: Task, modality: str, segment: Segment, gathered: _Gathered) -> Array:
    """Clean values in float32, no more steps than allowed."""
    values = segment.steps[modality]
    kept = _kept(task, modality, len(values))
    gathered.counts["steps_truncated"] += len(values) - len(range(*kept.indices(len(values))))
    cleaned = clean_values(values[kept])
    gathered.per_modality[modality]["values_cleaned"] += cleaned.count
    return np.asarray(cleaned.values_Td, dtype=np.float32)


def _kept(task: Task, modality: str, length: int) -> slice:
    if task.alignment == "word":
        limit = task.align.max_steps
    else:
        limit = task.align.max_steps_unaligned[modality]
    if task.align.truncate == "last":
        return slice(max(0, length - limit), length)
    return slice(0, min(limit, length))


def _append_words(task: Task, segment: Segment, sink: _Sink) -> None:
    words = segment.words[_kept(task, "text", len(segment.words))]
    # Times that are not known are NaN; zero would be a lie.
    sink.append_words(words, np.full((len(words), 2), np.nan), np.array([len(words)]))


def _folds(task: Task, reading: Reading, gathered: _Gathered) -> dict[str, Array]:
    """Every fold as one split a segment; the recipe's own folds file comes first."""
    recipe, problems = task.recipe, task.problems
    own = np.array(gathered.splits, dtype="U5")
    _check_own_splits(task, gathered)
    folds: dict[str, Array] = {}
    try:
        if task.folds_path is not None:
            listed = read_folds(task.folds_path)
            folds = assign_splits(listed, gathered.videos, where=str(task.folds_path))
            first = next(iter(listed))
            for video, there, here in zip(gathered.videos, folds[first], own, strict=True):
                if there != here:
                    problems.add(
                        "swapped splits",
                        f"{recipe.name}: video {video!r} is in {here} of the files, but in {there} "
                        f"of {task.folds_path}: are the files' splits swapped?",
                    )
        else:
            if reading.own_fold is not None:
                folds[reading.own_fold] = own
            more = assign_splits(reading.folds, gathered.videos, where=recipe.name)
            folds = {name: (folds | more)[name] for name in (*reading.folds, *folds)}
    except DhmdError as error:
        problems.add("folds", str(error))
    return folds


def _check_own_splits(task: Task, gathered: _Gathered) -> None:
    split_of: dict[str, str] = {}
    for video, split in zip(gathered.videos, gathered.splits, strict=True):
        other = split_of.setdefault(video, split)
        if other != split:
            task.problems.add(
                "shared video",
                f"{task.recipe.name}: video {video!r} is in both {other} and {split}; splits never "
                "share a video",
            )
    for split in SPLITS:
        if split not in gathered.splits:
            task.problems.add(f"empty {split}", f"{task.recipe.name}: split {split} is empty")


def _subwords(task: Task, segment: Segment, encoder: WordEncoder | None) -> Sequence[Subwords]:
    """The file's tokens, each a step of text as far as the step stays.

    Raises:
        DhmdError: an encoder is to read them, and they are not its own, or not text's steps.
    """
    assert segment.tokens is not None
    ids, types = segment.tokens
    # A recipe may leave text out, and the tokens go along all the same.
    count = len(segment.steps.get("text", ids))
    kept = range(count)[_kept(task, "text", count)]
    places = np.arange(len(ids), dtype=np.int64)
    stays = (places >= kept.start) & (places < kept.stop)
    steps = np.where(stays, places - kept.start, -1)
    if encoder is None:
        return [Subwords(ids, types, steps)]
    where = f"{task.recipe.name}: {segment.id}"
    if len(ids) != count:
        raise DhmdError(
            f"{where} has {len(ids)} tokens in text_bert, but {count} steps of text: an encoder's "
            "vectors cannot take their place, set features.text to words"
        )
    return encoder.given(ids, types, steps, where)


def _report(task: Task, reading: Reading, gathered: _Gathered) -> dict[str, object]:
    return {
        "alignment": task.alignment,
        "format": task.recipe.format,
        "videos": len(set(gathered.videos)),
        "segments": len(gathered.ids),
        "splits": {split: gathered.splits.count(split) for split in SPLITS},
        "counts": dict(sorted(gathered.counts.items())),
        "modalities": gathered.per_modality,
        "empty_segments": gathered.empty,
        **reading.notes,
    }
