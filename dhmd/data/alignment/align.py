"""A whole corpus, video by video, into the aligned features file: memory does not grow with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.data.aligned import ENCODER_SOURCE, AlignedWriter, SegmentTable, assign_splits, read_folds
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.plan import Plan
from dhmd.data.alignment.report import Folds, TableBuilder
from dhmd.data.alignment.segments import AlignedVideo, SegmentRows, align_video, read_segments
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.alignment.word_alignment import EPSILON
from dhmd.data.text.writer import TextWriter, WordEncoder
from dhmd.recipes import Recipe

Array = np.ndarray[Any, Any]
Warn = Callable[[str], object]
T = TypeVar("T")

_log = logging.getLogger(__name__)


def align_corpus(
    sequence_paths: Mapping[str, Path],
    recipe: Recipe,
    align: AlignConfig,
    *,
    alignment: Literal["word", "none"],
    sources: Mapping[str, str],
    folds_path: Path,
    output: Path,
    epsilon: float = EPSILON,
    encoder: WordEncoder | None = None,
    warn: Warn = _log.warning,
) -> dict[str, object]:
    """Align the sequences of a recipe and write the aligned features file, whole or not at all.

    Args:
        sequence_paths: sequence name -> `.csd` file.
        recipe: which sequence is each modality, the reference, the labels, the ground truth.
        align: section `align`.
        alignment: "word", or "none" for each modality at its own rate.
        sources: file -> sha256, part of the corpus's identity.
        folds_path: the folds file that the recipe names.
        output: the aligned features file.
        epsilon: seconds.
        encoder: computes the words' vectors, in place of the recipe's.
        warn: called with each warning.

    Returns:
        The data report, which is also stored in the file: counts, values cleaned per modality,
        videos that not all sequences have, empty segments and why, and `warnings` (see report.py).

    Raises:
        DhmdError: a sequence is missing or damaged; labels are out of range; a video is in no
            split or in two; a split or a modality is empty.
    """
    plan = _plan(recipe, align, alignment, epsilon, encoder)
    if encoder is not None:
        sources = {**sources, ENCODER_SOURCE: encoder.source.digest}
    folds = read_folds(folds_path)
    with Sequences(sequence_paths, plan.recipe.needed) as sequences:
        plan.check_sequences(sequences)
        table = TableBuilder(plan)
        # Labels are small: every mistake in them or in the folds is found before the long part.
        segments = {
            video: rows
            for video in _labelled(sequences, plan)
            if len((rows := read_segments(sequences, plan.recipe, video)).labels_S)
        }
        videos = _chosen(sequences, plan, segments, folds, table)
        if not videos:
            raise DhmdError(table.errors(sequences)[0])
        assign_splits(folds, videos, where=str(folds_path))
        names = {m: sequences.dimension_names(name) for m, name in plan.modalities.items()}
        if encoder is not None:
            names["text"] = encoder.feature_names
        with AlignedWriter(output, names, words=sequences.is_text(plan.reference)) as writer:
            sink = writer if encoder is None else TextWriter(writer, encoder)
            for video in progress(videos, f"align {recipe.name}", unit="video"):
                aligned = align_video(sequences, video, segments[video].intervals_S2, plan)
                _write(sink, aligned, table.add(video, segments[video], aligned))
            for error in table.errors(sequences):
                raise DhmdError(error)
            tokens = sink.finish() if isinstance(sink, TextWriter) else None
            warnings = table.warnings(sequences, folds)
            report = table.report(sequences, warnings)
            low, high = plan.label_range
            writer.finish(
                SegmentTable(
                    name=recipe.name,
                    task=recipe.labels.task,
                    low=low,
                    high=high,
                    class_names=recipe.labels.classes,
                    alignment=alignment,
                    ids=tuple(table.ids),
                    videos=tuple(table.videos),
                    modalities=tuple(names),
                    feature_names=names,
                    present_NM=np.concatenate(table.present),
                    labels_N=np.concatenate(table.labels).astype(np.float32),
                    folds=assign_splits(folds, table.videos, where=str(folds_path)),
                    planted={k: np.concatenate(v) for k, v in table.planted.items()},
                    tokens=tokens,
                    recipe=plan.recipe.corpus(),
                    sources=sources,
                    report=report,
                )
            )
    for sentence in warnings:
        warn(f"{recipe.name}: {sentence}")
    return report


def _plan(
    recipe: Recipe,
    align: AlignConfig,
    alignment: Literal["word", "none"],
    epsilon: float,
    encoder: WordEncoder | None,
) -> Plan:
    source = None if encoder is None else encoder.source
    plan = Plan(recipe=recipe, config=align, alignment=alignment, epsilon=epsilon, encoder=source)
    return plan if encoder is None else plan.with_words_as_text()


def _labelled(sequences: Sequences, plan: Plan) -> tuple[str, ...]:
    """Return the videos that have labels, sorted."""
    return sequences.videos(str(plan.recipe.labels.sequence))


def _chosen(
    sequences: Sequences,
    plan: Plan,
    segments: Mapping[str, SegmentRows],
    folds: Folds,
    table: TableBuilder,
) -> list[str]:
    """Return the videos to align; `table` counts those that are left out as incomplete.

    An incomplete video in no split is always left out: CMU-MOSEI's folds list only the videos that
    have all features.
    """
    split = {video for splits in folds.values() for videos in splits.values() for video in videos}
    drop = plan.config.incomplete_videos == "drop"
    chosen = []
    for video, rows in segments.items():
        if sequences.lacking(video) and (drop or video not in split):
            table.leave_out(video, len(rows.labels_S))
        else:
            chosen.append(video)
    return chosen


def _write(writer: AlignedWriter | TextWriter, aligned: AlignedVideo, keep_S: Array) -> None:
    """Append the segments of a video that stay."""
    for modality, steps in aligned.steps.items():
        stay_P = np.repeat(keep_S, steps.lengths_S)
        writer.append(modality, steps.values_Pd[stay_P], steps.lengths_S[keep_S])
    if aligned.words is not None:
        stay_P = np.repeat(keep_S, aligned.word_lengths_S)
        writer.append_words(
            [word for word, stay in zip(aligned.words, stay_P, strict=True) if stay],
            aligned.word_intervals_P2[stay_P],
            aligned.word_lengths_S[keep_S],
        )


class _Problems:
    """Sentences, each once, in the order in which they were met."""

    def __init__(self) -> None:
        self.sentences: dict[str, None] = {}

    def attempt(self, action: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
        """Return the action's result, or None where it failed: then its sentence is kept."""
        try:
            return action(*arguments, **options)
        except DhmdError as error:
            self.sentences[str(error)] = None
            return None


def check_corpus(
    sequence_paths: Mapping[str, Path],
    recipe: Recipe,
    align: AlignConfig,
    *,
    alignment: Literal["word", "none"],
    folds_path: Path,
    encoder: WordEncoder | None = None,
    warn: Warn = _log.warning,
) -> list[str]:
    """Return everything that `align_corpus` would refuse, a sentence each; nothing is written.

    All files are read to their end: for MOSEI that takes minutes. `warn` is called with what
    `align_corpus` would warn of.
    """
    problems = _Problems()
    plan = problems.attempt(_plan, recipe, align, alignment, EPSILON, encoder)
    folds = problems.attempt(read_folds, folds_path)
    if plan is None:
        return list(problems.sentences)
    opened = [problems.attempt(Sequences, sequence_paths, [name]) for name in plan.recipe.needed]
    for one in opened:
        if one is not None:
            one.close()
    if None in opened:
        return list(problems.sentences)
    with Sequences(sequence_paths, plan.recipe.needed) as sequences:
        problems.attempt(plan.check_sequences, sequences)
        table = TableBuilder(plan)
        segments = {}
        for video in _labelled(sequences, plan):
            rows = problems.attempt(read_segments, sequences, plan.recipe, video)
            if rows is None:  # its other sequences may have defects too
                _check_rows(problems, sequences, plan, video)
            elif len(rows.labels_S):
                segments[video] = rows
        videos = _chosen(sequences, plan, segments, folds or {}, table)
        for video in progress(videos, f"check {recipe.name}", unit="video"):
            intervals_S2 = segments[video].intervals_S2
            aligned = problems.attempt(align_video, sequences, video, intervals_S2, plan)
            if aligned is None:
                _check_rows(problems, sequences, plan, video)
            else:
                table.add(video, segments[video], aligned)
        if not problems.sentences:
            problems.sentences.update(dict.fromkeys(table.errors(sequences)))
        if folds is not None and videos:
            assigned = table.videos or videos
            problems.attempt(assign_splits, folds, assigned, where=str(folds_path))
        for sentence in table.warnings(sequences, folds):
            warn(f"{recipe.name}: {sentence}")
        return list(problems.sentences)


def _check_rows(problems: _Problems, sequences: Sequences, plan: Plan, video: str) -> None:
    """Read each sequence by itself, so that the defects of all are found."""
    for name in dict.fromkeys([plan.reference, *plan.modalities.values()]):
        problems.attempt(sequences.rows, name, video)
