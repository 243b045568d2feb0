"""Align a corpus video by video, and write the aligned features file in constant memory."""

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
from dhmd.data.aligned.corpus import Array
from dhmd.data.alignment.job import CorpusJob
from dhmd.data.alignment.report import Folds, TableBuilder
from dhmd.data.alignment.segments import AlignedVideo, SegmentRows, align_video, read_label_rows
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.text.writer import SegmentSink, TextWriter

Warn = Callable[[str], object]
Attempt = Callable[..., Any]
T = TypeVar("T")

_log = logging.getLogger(__name__)


def align_corpus(job: CorpusJob, output: Path) -> dict[str, object]:
    """Align the sequences of a recipe and write the aligned features file atomically.

    Returns:
        The data report, which is also stored in the file: counts, cleaned values per modality,
        videos that a sequence lacks, empty segments with reasons, and `warnings` (see report.py).

    Raises:
        DhmdError: a sequence is missing or damaged; a label is out of range; a video is in no
            split or in two; a split or a modality is empty.
    """
    job, encoder = job.with_words_as_text(), job.encoder
    folds_path = _folds_path(job)
    folds = read_folds(folds_path)
    with Sequences(job.paths, job.recipe.required_sequences) as sequences:
        job.check_sequences(sequences)
        table = TableBuilder(job)
        names = {m: sequences.dimension_names(name) for m, name in job.modalities.items()}
        if encoder is not None:
            names["text"] = encoder.feature_names
        with aligned_writer(output, names, words=sequences.is_text(job.reference)) as writer:
            sink: SegmentSink = writer if encoder is None else TextWriter(writer, encoder)
            for video, rows, aligned in _aligned_videos(sequences, table, folds, folds_path, _call):
                write_segments(sink, aligned, table.add(video, rows, aligned))
            for error in table.errors(sequences):
                raise DhmdError(error)
            tokens = sink.finish() if isinstance(sink, TextWriter) else None
            warnings = table.warnings(sequences, folds)
            report = table.report(sequences, warnings)
            writer.finish(
                SegmentTable(
                    **table_fields(job),
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


def table_fields(job: CorpusJob) -> dict[str, Any]:
    """Return the fields of a `SegmentTable` that are known before the segments are read."""
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
    assert job.folds_path is not None  # a corpus of sequences always has a folds file
    return job.folds_path


def _call(action: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
    return action(*arguments, **options)


def _aligned_videos(
    sequences: Sequences, table: TableBuilder, folds: Folds, folds_path: Path, attempt: Attempt
) -> Iterator[tuple[str, SegmentRows, AlignedVideo]]:
    """Yield each video with its label rows and its aligned segments.

    All labels and folds are checked before the first video is aligned. An incomplete video that is
    in no split is always dropped, because CMU-MOSEI's folds list only complete videos.

    Args:
        sequences: the open sequences.
        table: counts the videos that are dropped.
        folds: the videos of each split of each fold.
        folds_path: the folds file, for messages.
        attempt: calls a function with arguments; may record a DhmdError and return None.
    """
    job = table.job
    drop = job.align.incomplete_videos == "drop"
    in_folds = {v for splits in folds.values() for videos in splits.values() for v in videos}
    segments: dict[str, SegmentRows] = {}
    for video in sequences.videos(str(job.recipe.labels.sequence)):
        rows = attempt(read_label_rows, sequences, job.recipe, video)
        if rows is None:
            _read_all_sequences(attempt, sequences, job, video)
        elif sequences.lacking(video) and (drop or video not in in_folds) and len(rows.labels_S):
            table.leave_out(video, len(rows.labels_S))
        elif len(rows.labels_S):
            segments[video] = rows
    if folds and segments:
        attempt(assign_splits, folds, list(segments), where=str(folds_path))
    for video, rows in progress(segments.items(), f"align {job.recipe.name}", unit="video"):
        aligned = attempt(align_video, sequences, video, rows.intervals_S2, job)
        if aligned is None:
            _read_all_sequences(attempt, sequences, job, video)
        else:
            yield video, rows, aligned


def _read_all_sequences(attempt: Attempt, sequences: Sequences, job: CorpusJob, video: str) -> None:
    """Read each sequence of a video separately, to find the defects of all of them."""
    for name in dict.fromkeys([job.reference, *job.modalities.values()]):
        attempt(sequences.rows, name, video)


def write_segments(sink: SegmentSink, aligned: AlignedVideo, keep_S: Array) -> None:
    """Append those segments of a video to a sink for which `keep_S` is true."""
    for modality, steps in aligned.steps.items():
        keep_P = np.repeat(keep_S, steps.lengths_S)
        sink.append(modality, steps.values_Pd[keep_P], steps.lengths_S[keep_S])
    if aligned.words is not None:
        keep_P = np.repeat(keep_S, aligned.word_lengths_S)
        sink.append_words(
            [word for word, keep in zip(aligned.words, keep_P, strict=True) if keep],
            aligned.word_intervals_P2[keep_P],
            aligned.word_lengths_S[keep_S],
        )


def check_corpus(job: CorpusJob, warn: Warn = _log.warning) -> list[str]:
    """Return all errors that `align_corpus` could raise, one sentence each; nothing is written.

    All files are read completely, which takes minutes for MOSEI. `warn` is called with each
    warning of `align_corpus`.
    """
    problems: dict[str, None] = {}  # distinct sentences in order

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
        opened = [attempt(Sequences, job.paths, [name]) for name in job.recipe.required_sequences]
        for sequence in opened:
            if sequence is not None:
                stack.enter_context(sequence)
        if None in opened:
            return list(problems)
    with Sequences(job.paths, job.recipe.required_sequences) as sequences:
        attempt(job.check_sequences, sequences)
        table = TableBuilder(job)
        for video, rows, aligned in _aligned_videos(sequences, table, folds, folds_path, attempt):
            table.add(video, rows, aligned)
        if not problems:
            problems.update(dict.fromkeys(table.errors(sequences)))
        if folds and table.videos:
            attempt(assign_splits, folds, table.videos, where=str(folds_path))
        for sentence in table.warnings(sequences, folds):
            warn(f"{job.recipe.name}: {sentence}")
    return list(problems)
