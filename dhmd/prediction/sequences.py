"""Align computational sequences of new videos like the training data of a model.

Axes: S segments of a video, N utterances, d features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.base.text import finite_number, read_csv
from dhmd.data.alignment import (
    CorpusJob,
    Origin,
    SegmentRows,
    SegmentSink,
    Sequences,
    Steps,
    TableBuilder,
    TextWriter,
    WordEncoder,
    align_video,
    write_segments,
)
from dhmd.data.alignment.report import abbreviate
from dhmd.data.csd import EXTRACTOR_KEY
from dhmd.media.extractor import check_extractor, describe_extractor
from dhmd.media.transcripts import Word, split_at_pauses
from dhmd.prediction.utterances import Collector, Utterances

Array = np.ndarray[Any, Any]
Features = Mapping[str, Sequence[str]]  # the names of each modality's features
# The intervals [S, 2] of each video in seconds, in the file's order: row i is segment `video[i]`.
Segments = Mapping[str, Array]

PAUSE_WORD = "sp"  # marks a pause in CMU's files

_SEGMENT_COLUMNS = ("video", "start", "end")


def read_sequences(
    folder: Path | None,
    segments: Path | Segments | None,
    *,
    origin: Origin,
    dataset: str,
    alignment: Literal["word", "none"],
    features: Features,
    encoder: WordEncoder | None = None,
    words: Path | None = None,
) -> Utterances:
    """Align `.csd` files like the training data of a model.

    A modality is absent if it has no file or its file lacks the video. Segments that the pipeline
    drops, such as those without words, are left out.

    Args:
        folder: the directory of the files; None if there are only words.
        segments: a file for `read_segments`, or the segments; None divides videos at pauses.
        origin: the source files and settings of the training data.
        dataset: the dataset of the training data.
        alignment: its alignment.
        features: its features.
        encoder: its word encoder, if any.
        words: the `.csd` file of the words; None if the directory has it.

    Raises:
        DhmdError: a file is damaged or does not fit the model, or no segment is left.
    """
    files = find_files(folder, origin, list(features), words)
    job = origin.job(dataset, alignment, list(features), encoder)
    intervals_by_video = read_segments(segments) if isinstance(segments, Path) else segments
    available = {name: job.modalities[name] for name in files.modalities}
    available_job = replace(job, recipe=replace(job.recipe, modalities=available))
    table, collector = TableBuilder(job, labelled=False), Collector()
    text = None if encoder is None or "text" not in available else TextWriter(collector, encoder)
    sink: SegmentSink = text or collector
    intervals, unknown, steps_cut = [np.zeros((0, 2))], [], np.zeros(2, np.int64)
    with Sequences(files.paths, files.paths) as sequences:
        unnamed = _check(sequences, job, files, features, origin)
        if intervals_by_video is None:
            # In word alignment, only words define steps.
            names = [job.reference] if alignment == "word" else list(files.paths)
            max_words = job.step_limit("text")[1]
            intervals_by_video = pause_segments(sequences, job.reference, names, max_words)
        for video, intervals_S2 in progress(intervals_by_video.items(), "align", unit="video"):
            if len(sequences.lacking(video)) == len(sequences.names):
                unknown.append(video)
                continue
            aligned = align_video(sequences, video, intervals_S2, available_job)
            count = len(intervals_S2)
            steps = {
                name: aligned.steps[name]
                if name in available
                else Steps.absent(count, len(columns))
                for name, columns in features.items()
            }
            aligned = replace(aligned, steps=steps)
            rows = SegmentRows(intervals_S2=intervals_S2, labels_S=np.full(count, np.nan))
            keep_S = table.add(video, rows, aligned)
            write_segments(sink, aligned, keep_S)
            intervals.append(intervals_S2[keep_S])
            by_word = [steps[name].counts for name in available if job.is_word_level(name)]
            steps_cut += [by_word[0][key] for key in ("steps_cut", "steps")] if by_word else 0
        for error in table.errors(sequences):
            raise DhmdError(error)
        notes = [
            f"{folder or words} has no {file_names}: {modality} is treated as absent"
            for modality, file_names in files.missing.items()
        ]
        notes += [
            f"{path} has no column names, so the order of its columns is not checked"
            for path in unnamed
        ]
        notes += table.warnings(sequences)
    if unknown:
        notes.append(f"left out, because no file has them: {abbreviate(unknown)}")
    return Utterances.from_collector(
        table.ids,
        np.concatenate(intervals),
        collector,
        list(features),
        np.concatenate([np.zeros((0, len(features)), bool), *table.present]),
        has_words=sequences.is_text(job.reference),
        tokens=None if text is None else text.finish(),
        cut=(int(steps_cut[0]), int(steps_cut[1])),
        notes=notes,
    )


@dataclass(frozen=True, kw_only=True)
class InputFiles:
    """The `.csd` files of a directory.

    Attributes:
        paths: the file of each sequence.
        modalities: the model's modalities that have a file, in the model's order.
        missing: the accepted file names of each modality without a file.
    """

    paths: dict[str, Path]
    modalities: tuple[str, ...]
    missing: dict[str, str]


def find_files(
    folder: Path | None, origin: Origin, modalities: Sequence[str], words: Path | None = None
) -> InputFiles:
    """Find the files of words and modalities, by sequence name or by name at the source.

    Args:
        folder: the directory of the files, if any.
        origin: the source files of the training data.
        modalities: the modalities of the model.
        words: the file of the words; None if the directory has it.

    Raises:
        DhmdError: the words or all modalities are missing, or a sequence has two files.
    """
    reference = str(origin.reference)
    unknown = [name for name in modalities if name not in origin.modalities]
    if unknown:
        raise DhmdError(
            f"the origin in model.json has no sequence of {unknown[0]}: train the model again"
        )
    names = {
        sequence: _file_names(sequence, origin)
        for sequence in (reference, *(origin.modalities[name] for name in modalities))
    }
    paths = {}
    for sequence, candidates in names.items():
        existing = [
            folder / name for name in candidates if folder is not None and (folder / name).is_file()
        ]
        if len(existing) > 1:
            raise DhmdError(
                f"{folder} has both {existing[0].name} and {existing[1].name}, which are the same "
                f"sequence, {sequence}: remove one of them"
            )
        if existing:
            paths[sequence] = existing[0]
    if words is not None:
        paths[reference] = words
    expected = {sequence: " or ".join(candidates) for sequence, candidates in names.items()}
    if not paths:
        files = ", ".join(expected.values())
        raise DhmdError(f"{folder} has no file that the model reads: {files}")
    if reference not in paths:
        raise DhmdError(
            f"{folder} has no {expected[reference]}: add the words to which all modalities are "
            "aligned"
        )
    present = tuple(name for name in modalities if origin.modalities[name] in paths)
    missing = {m: expected[origin.modalities[m]] for m in modalities if m not in present}
    if not present:
        files = ", ".join(missing.values())
        if words is not None:
            raise DhmdError(
                "a transcript alone is not enough for this model, which reads text as vectors and "
                f"not as words: add a folder with {files}, or train a model with features.text: "
                "contextual"
            )
        raise DhmdError(f"{folder} has no modality of the model: add at least one of {files}")
    return InputFiles(paths=paths, modalities=present, missing=missing)


def _file_names(sequence: str, origin: Origin) -> list[str]:
    """Return the accepted file names of a sequence.

    They are `<sequence>.csd`, and the name at the source if no other sequence uses it.
    """
    name, source_name = f"{sequence}.csd", origin.files.get(sequence)
    sequences = {*origin.modalities.values(), str(origin.reference)}
    shared = list(origin.files.values()).count(str(source_name)) > 1
    if source_name is None or shared or source_name.removesuffix(".csd") in sequences:
        return [name]
    return [name, source_name]


def read_segments(path: Path) -> Segments:
    """Read segments from a CSV file (columns video, start, end) or the rows of a `.csd` file."""
    if not path.is_file():
        raise DhmdError(f"{path} is not a file: --segments must name a CSV or a .csd file")
    if path.suffix.lower() == ".csd":
        with Sequences({"segments": path}, ["segments"]) as sequences:
            return {v: sequences.segments("segments", v).intervals for v in sequences.shared}
    segments: dict[str, list[list[float]]] = {}
    for number, row in read_csv(path, _SEGMENT_COLUMNS).items():
        video, *times = (row[name].strip() for name in _SEGMENT_COLUMNS)
        where = f"{path}, line {number}"
        if not video:
            raise DhmdError(f"{where} has an empty cell in the column video")
        start, end = (
            finite_number(cell, f"{where}: {name}")
            for cell, name in zip(times, ("start", "end"), strict=True)
        )
        if end < start:
            raise DhmdError(
                f"{where}: the segment ends at {times[1]}, before it starts at {times[0]}"
            )
        segments.setdefault(video, []).append([start, end])
    if not segments:
        raise DhmdError(f"{path} has no segment: add one per line below the header")
    return {video: np.array(intervals) for video, intervals in segments.items()}


def pause_segments(
    sequences: Sequences, reference: str, names: list[str], max_words: int
) -> Segments:
    """Divide videos at pauses between words, gaps of more than half a second or the word `sp`.

    A segment of more than `max_words` words is divided again at its longest pause.

    Args:
        sequences: the computational sequences of the videos.
        reference: the sequence of the words.
        names: the sequences whose first and last row limit a video without words, which is one
            segment; its duration is 0 if they have no rows.
        max_words: maximum number of words of a segment.
    """
    segments = {}
    for video in sorted({*sequences.shared, *sequences.not_shared}):
        lacking = sequences.not_shared.get(video, [])
        if reference not in lacking:
            entry = sequences.rows(reference, video)
            is_text = entry.features.dtype == object
            spoken_words = [
                Word("", start, end)
                for word, (start, end) in zip(entry.features[:, 0], entry.intervals, strict=True)
                if end > start and not (is_text and word == PAUSE_WORD)
            ]
            groups = [
                part
                for group in split_at_pauses(spoken_words)
                for part in _divide(group, max_words)
            ]
            if groups:
                segments[video] = np.array([(group[0].start, group[-1].end) for group in groups])
                continue
        rows = [sequences.rows(name, video).intervals for name in names if name not in lacking]
        times = np.concatenate([np.zeros((0, 2)), *rows])
        interval = [times[:, 0].min(), times[:, 1].max()] if len(times) else [0.0, 0.0]
        segments[video] = np.array([interval])
    return segments


def _divide(words: list[Word], max_words: int) -> list[list[Word]]:
    """Divide words into parts of at most `max_words`, each time at the longest pause.

    Of equally long pauses, the one next to the middle is taken.
    """
    if len(words) <= max_words:
        return [words]
    middle = len(words) / 2
    pauses = [
        (second.start - first.end, -abs(index - middle), index)
        for index, (first, second) in enumerate(pairwise(words), 1)
    ]
    index = max(pauses)[2]
    return [*_divide(words[:index], max_words), *_divide(words[index:], max_words)]


def _check(
    sequences: Sequences, job: CorpusJob, files: InputFiles, features: Features, origin: Origin
) -> list[Path]:
    """Check that the files have the features of the model; return files without column names."""
    needs_words = job.align.drop_words or job.is_encoded("text")
    if needs_words and not sequences.is_text(job.reference):
        raise DhmdError(f"{files.paths[job.reference]} has numbers where the model expects words")
    unnamed = []
    for modality in files.modalities:
        if job.is_encoded(modality):
            continue
        name, expected = job.modalities[modality], tuple(features[modality])
        path = files.paths[name]
        if sequences.is_text(name):
            raise DhmdError(f"{path} has words where the model expects numbers for {modality}")
        _check_extractor(path, sequences[name].metadata.get(EXTRACTOR_KEY), origin, name)
        width = sequences.width(name)
        if width != len(expected):
            raise DhmdError(
                f"{path} has {width} columns, but the model was trained on {len(expected)} columns "
                f"of {modality}"
            )
        columns = sequences.dimension_names(name)
        if columns == expected:
            continue
        numbered = tuple(f"{name}_{d}" for d in range(width))
        if columns == numbered:
            unnamed.append(path)
        elif expected != numbered:
            index = next(d for d in range(width) if columns[d] != expected[d])
            raise DhmdError(
                f"{path} has {columns[index]!r} as column {index}, but the model was trained on "
                f"{expected[index]!r}"
            )
    return unnamed


def _check_extractor(path: Path, extractor: object, origin: Origin, sequence: str) -> None:
    """Check that the extractor of a file, None if not recorded, is that of the training data."""
    expected = origin.extractors.get(sequence)
    if expected is None and extractor is not None:
        raise DhmdError(
            f"{path} has features of {describe_extractor(extractor)}, but the model was trained on "
            f"{origin.files.get(sequence, sequence)}, whose extractor is not recorded. Models of "
            "published features such as COVAREP and FACET cannot be applied to new videos: train "
            "on features of dhmd extract"
        )
    check_extractor(path, extractor, expected)
