"""Align a corpus video by video and write the aligned features file, in constant memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.data.aligned import SegmentTable, aligned_writer, assign_splits, read_folds
from dhmd.data.alignment.job import CorpusJob
from dhmd.data.alignment.report import Folds, TableBuilder
from dhmd.data.alignment.segments import AlignedVideo, SegmentRows, align_video, read_segments
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.text.writer import SegmentSink, TextWriter

Array = np.ndarray[Any, Any]
Warn = Callable[[str], object]
Attempt = Callable[..., Any]
T = TypeVar("T")

_log = logging.getLogger(__name__)


def align_corpus(job: CorpusJob, output: Path) -> dict[str, object]:
    """Align the sequences of a recipe and write the aligned features file, whole or not at all.

    Returns:
        The data report, which is also stored in the file: counts, values cleaned per modality,
        videos that not all sequences have, empty segments and why, and `warnings` (see report.py).

    Raises:
        DhmdError: a sequence is missing or damaged; labels are out of range; a video is in no
            split or in two; a split or a modality is empty.
    """
    job, encoder = job.with_words_as_text(), job.encoder
    folds_path = _folds_path(job)
    folds = read_folds(folds_path)
    with Sequences(job.paths, job.recipe.required_files) as sequences:
        job.check_sequences(sequences)
        table = TableBuilder(job)
        names = {m: sequences.dimension_names(name) for m, name in job.modalities.items()}
        if encoder is not None:
            names["text"] = encoder.feature_names
        with aligned_writer(output, names, words=sequences.is_text(job.reference)) as writer:
            sink: SegmentSink = writer if encoder is None else TextWriter(writer, encoder)
            for video, rows, aligned in _videos(sequences, table, folds, folds_path, _call):
                write_segments(sink, aligned, table.add(video, rows, aligned))
            for error in table.errors(sequences):
                raise DhmdError(error)
            tokens = sink.finish() if isinstance(sink, TextWriter) else None
            warnings = table.warnings(sequences, folds)
            report = table.report(sequences, warnings)
            writer.finish(
                SegmentTable(
                    **table_of(job),
                    ids=tuple(table.ids),
                    videos=tuple(table.videos),
                    modalities=tuple(names),
                    feature_names=names,
                    present_NM=np.concatenate(table.present),
                    labels_N=np.concatenate(table.labels).astype(np.float32),
                    folds=assign_splits(folds, table.videos, where=str(folds_path)),
                    planted={k: np.concatenate(v) for k, v in table.planted.items()},
                    tokens=tokens,
                    recipe=job.recipe.definition(),
                    report=report,
                )
            )
    for sentence in warnings:
        _log.warning("%s: %s", job.recipe.name, sentence)
    return report


def table_of(job: CorpusJob) -> dict[str, Any]:
    """Return the fields of a `SegmentTable` that the job alone decides."""
    labels = job.recipe.labels
    return {
        "name": job.recipe.name,
        "task": labels.task,
        "low": labels.range[0],
        "high": labels.range[1],
        "class_names": labels.classes,
        "alignment": job.alignment,
        "sources": job.all_sources,
    }


def _folds_path(job: CorpusJob) -> Path:
    assert job.folds_path is not None  # that of the recipe, or of a generated corpus
    return job.folds_path


def _call(action: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
    return action(*arguments, **options)


def _videos(
    sequences: Sequences, table: TableBuilder, folds: Folds, folds_path: Path, attempt: Attempt
) -> Iterator[tuple[str, SegmentRows, AlignedVideo]]:
    """Align video by video; `attempt` calls a function, and may keep its error and return None.

    Labels are small: every mistake in them or in the folds is found before the long part. An
    incomplete video in no split is left out whatever the configuration: CMU-MOSEI's folds list only
    the videos that have all features.
    """
    job = table.job
    drop = job.align.incomplete_videos == "drop"
    listed = {video for splits in folds.values() for videos in splits.values() for video in videos}
    segments: dict[str, SegmentRows] = {}
    for video in sequences.videos(str(job.recipe.labels.sequence)):
        rows = attempt(read_segments, sequences, job.recipe, video)
        if rows is None:
            _attempt_rows(attempt, sequences, job, video)
        elif sequences.lacking(video) and (drop or video not in listed) and len(rows.labels_S):
            table.leave_out(video, len(rows.labels_S))
        elif len(rows.labels_S):
            segments[video] = rows
    if folds and segments:
        attempt(assign_splits, folds, list(segments), where=str(folds_path))
    for video, rows in progress(segments.items(), f"align {job.recipe.name}", unit="video"):
        aligned = attempt(align_video, sequences, video, rows.intervals_S2, job)
        if aligned is None:
            _attempt_rows(attempt, sequences, job, video)
        else:
            yield video, rows, aligned


def _attempt_rows(attempt: Attempt, sequences: Sequences, job: CorpusJob, video: str) -> None:
    """Read each sequence by itself, so that the defects of all are found."""
    for name in dict.fromkeys([job.reference, *job.modalities.values()]):
        attempt(sequences.rows, name, video)


def write_segments(sink: SegmentSink, aligned: AlignedVideo, keep_S: Array) -> None:
    """Append the segments of a video that stay."""
    for modality, steps in aligned.steps.items():
        stay_P = np.repeat(keep_S, steps.lengths_S)
        sink.append(modality, steps.values_Pd[stay_P], steps.lengths_S[keep_S])
    if aligned.words is not None:
        stay_P = np.repeat(keep_S, aligned.word_lengths_S)
        sink.append_words(
            [word for word, stay in zip(aligned.words, stay_P, strict=True) if stay],
            aligned.word_intervals_P2[stay_P],
            aligned.word_lengths_S[keep_S],
        )


def check_corpus(job: CorpusJob, warn: Warn = _log.warning) -> list[str]:
    """Return everything that `align_corpus` would refuse, a sentence each; nothing is written.

    All files are read to their end: for MOSEI that takes minutes. `warn` is called with what
    `align_corpus` would warn of.
    """
    problems: dict[str, None] = {}  # sentences, each once

    def attempt(action: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
        try:
            return action(*arguments, **options)
        except DhmdError as error:
            problems[str(error)] = None
            return None

    folds_path = _folds_path(job)
    folds = attempt(read_folds, folds_path) or {}
    try:
        job = job.with_words_as_text()
    except DhmdError as error:
        return [*problems, str(error)]
    with ExitStack() as stack:
        opened = [attempt(Sequences, job.paths, [name]) for name in job.recipe.required_files]
        for one in opened:
            if one is not None:
                stack.enter_context(one)
        if None in opened:
            return list(problems)
    with Sequences(job.paths, job.recipe.required_files) as sequences:
        attempt(job.check_sequences, sequences)
        table = TableBuilder(job)
        for video, rows, aligned in _videos(sequences, table, folds, folds_path, attempt):
            table.add(video, rows, aligned)
        if not problems:
            problems.update(dict.fromkeys(table.errors(sequences)))
        if folds and table.videos:
            attempt(assign_splits, folds, table.videos, where=str(folds_path))
        for sentence in table.warnings(sequences, folds):
            warn(f"{job.recipe.name}: {sentence}")
    return list(problems)
