"""Computational sequences of new videos as a model's inputs, aligned like its training data.

Legend: S segments of a video, N utterances, P steps of all utterances of a modality, d features.
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
from dhmd.media.extractor import check_extractor, described
from dhmd.media.transcripts import Word, split_at_pauses
from dhmd.prediction.utterances import Collector, Utterances

Array = np.ndarray[Any, Any]
Features = Mapping[str, Sequence[str]]  # modality -> names of its features
# Video -> intervals [S, 2] in seconds, in the file's order: row i is the segment `video[i]`.
Segments = Mapping[str, Array]

PAUSE_WORD = "sp"  # in CMU's files

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
    """Align `.csd` files like the model's training data.

    A modality is absent if it has no file or its file lacks the video. Segments that the pipeline
    drops, such as those without words, are omitted.

    Args:
        folder: the directory of the files; None if there are only words.
        segments: a file for `read_segments`, or the segments; None divides videos at pauses.
        origin: what the model's training data, the `dataset`, was aligned from.
        encoder: the word encoder that it was aligned with, if any.
        words: the `.csd` file of the words; None if the directory has it.
    """
    files = find_files(folder, origin, list(features), words)
    job = origin.job(dataset, alignment, list(features), encoder)
    asked = read_segments(segments) if isinstance(segments, Path) else segments
    here = {name: job.modalities[name] for name in files.modalities}
    with_files = replace(job, recipe=replace(job.recipe, modalities=here))
    table, collector = TableBuilder(job, labelled=False), Collector()
    text = None if encoder is None or "text" not in here else TextWriter(collector, encoder)
    sink: SegmentSink = text or collector
    intervals, unknown, steps_cut = [np.zeros((0, 2))], [], np.zeros(2, np.int64)
    with Sequences(files.paths, files.paths) as sequences:
        unnamed = _check(sequences, job, files, features, origin)
        if asked is None:
            # In word alignment only words give steps.
            giving_steps = [job.reference] if alignment == "word" else list(files.paths)
            asked = pause_segments(
                sequences, job.reference, giving_steps, job.step_limit("text")[1]
            )
        for video, intervals_S2 in progress(asked.items(), "align", unit="video"):
            if len(sequences.lacking(video)) == len(sequences.names):
                unknown.append(video)
                continue
            aligned = align_video(sequences, video, intervals_S2, with_files)
            count = len(intervals_S2)
            steps = {
                name: aligned.steps[name] if name in here else Steps.absent(count, len(names))
                for name, names in features.items()
            }
            aligned = replace(aligned, steps=steps)
            rows = SegmentRows(intervals_S2=intervals_S2, labels_S=np.full(count, np.nan))
            keep_S = table.add(video, rows, aligned)
            write_segments(sink, aligned, keep_S)
            intervals.append(intervals_S2[keep_S])
            by_word = [steps[name].counts for name in here if job.is_word_level(name)]
            steps_cut += [by_word[0][key] for key in ("steps_cut", "steps")] if by_word else 0
        for error in table.errors(sequences):
            raise DhmdError(error)
        notes = [
            f"{folder or words} has no {names}: {modality} is treated as absent"
            for modality, names in files.missing.items()
        ]
        notes += [
            f"{path} has no column names, so the order of its columns is not checked"
            for path in unnamed
        ]
        notes += table.warnings(sequences)
    if unknown:
        notes.append(f"left out, because no file has them: {abbreviate(unknown)}")
    return Utterances.collected(
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
        paths: sequence -> file.
        modalities: the model's modalities that have a file, in the model's order.
        missing: modality -> the names that its file may have.
    """

    paths: dict[str, Path]
    modalities: tuple[str, ...]
    missing: dict[str, str]


def find_files(
    folder: Path | None, origin: Origin, modalities: Sequence[str], words: Path | None = None
) -> InputFiles:
    """Find the files of words and modalities, by sequence name or by name at the source."""
    reference = str(origin.reference)
    unknown = [name for name in modalities if name not in origin.modalities]
    if unknown:
        raise DhmdError(f"the origin in model.json has no sequence of {unknown[0]}: train again")
    names = {reference: _file_names(reference, origin)}
    names |= {s: _file_names(s, origin) for s in map(origin.modalities.__getitem__, modalities)}
    paths = {}
    for sequence, candidates in names.items():
        places = [] if folder is None else [folder / name for name in candidates]
        here = [path for path in places if path.is_file()]
        if len(here) > 1:
            raise DhmdError(
                f"{folder} has both {here[0].name} and {here[1].name}, which are the same "
                f"sequence, {sequence}: remove one of them"
            )
        if here:
            paths[sequence] = here[0]
    if words is not None:
        paths[reference] = words
    wanted = {sequence: " or ".join(candidates) for sequence, candidates in names.items()}
    if not paths:
        raise DhmdError(f"{folder} has no file that the model reads: {', '.join(wanted.values())}")
    if reference not in paths:
        raise DhmdError(
            f"{folder} has no {wanted[reference]}: add the words that all modalities are aligned to"
        )
    present = tuple(name for name in modalities if origin.modalities[name] in paths)
    missing = {m: wanted[origin.modalities[m]] for m in modalities if m not in present}
    if not present:
        choice = ", ".join(missing.values())
        if words is not None:
            raise DhmdError(
                "a transcript alone is not enough for this model, which reads text as vectors and "
                f"not as words: add a folder with {choice}, or train a model with features.text: "
                "contextual"
            )
        raise DhmdError(f"{folder} has no modality of the model: add at least one of {choice}")
    return InputFiles(paths=paths, modalities=present, missing=missing)


def _file_names(sequence: str, origin: Origin) -> list[str]:
    """Return the names of a sequence's file; a name shared by several sequences is ambiguous."""
    own, at_source = f"{sequence}.csd", origin.files.get(sequence)
    sequences = {*origin.modalities.values(), str(origin.reference)}
    shared = list(origin.files.values()).count(str(at_source)) > 1
    if at_source is None or shared or at_source.removesuffix(".csd") in sequences:
        return [own]
    return [own, at_source]


def read_segments(path: Path) -> Segments:
    """Read segments: CSV with the columns video, start and end, or the rows of a `.csd` file."""
    if not path.is_file():
        raise DhmdError(f"{path} is no file: --segments must name a CSV or a .csd file")
    if path.suffix.lower() == ".csd":
        with Sequences({"segments": path}, ["segments"]) as sequences:
            return {v: sequences.segments("segments", v).intervals for v in sequences.shared}
    found: dict[str, list[list[float]]] = {}
    for number, row in read_csv(path, _SEGMENT_COLUMNS).items():
        video, *times = (row[name].strip() for name in _SEGMENT_COLUMNS)
        where = f"{path}, line {number}"
        if not video:
            raise DhmdError(f"{where} names no video")
        start, end = (
            finite_number(cell, f"{where}: {name}")
            for cell, name in zip(times, ("start", "end"), strict=True)
        )
        if end < start:
            raise DhmdError(
                f"{where}: the segment ends at {times[1]}, before it starts at {times[0]}"
            )
        found.setdefault(video, []).append([start, end])
    if not found:
        raise DhmdError(f"{path} has no segment: add one per line below the header")
    return {video: np.array(intervals) for video, intervals in found.items()}


def pause_segments(sequences: Sequences, reference: str, names: list[str], most: int) -> Segments:
    """Divide videos at pauses between words: gaps of more than half a second, `sp` among them.

    A segment of more than `most` words is divided again at its longest pause. A video without words
    is one segment, from its first to its last row in the sequences `names`; one without rows has a
    segment of no length, which is empty like any other.
    """
    found = {}
    for video in sorted({*sequences.shared, *sequences.not_shared}):
        lacking = sequences.not_shared.get(video, [])
        if reference not in lacking:
            entry = sequences.rows(reference, video)
            is_text = entry.features.dtype == object
            spoken = [
                Word("", start, end)
                for word, (start, end) in zip(entry.features[:, 0], entry.intervals, strict=True)
                if end > start and not (is_text and word == PAUSE_WORD)
            ]
            groups = [part for group in split_at_pauses(spoken) for part in _divided(group, most)]
            if groups:
                found[video] = np.array([(some[0].start, some[-1].end) for some in groups])
                continue
        rows = [sequences.rows(name, video).intervals for name in names if name not in lacking]
        times = np.concatenate([np.zeros((0, 2)), *rows])
        ends = [times[:, 0].min(), times[:, 1].max()] if len(times) else [0.0, 0.0]
        found[video] = np.array([ends])
    return found


def _divided(words: list[Word], most: int) -> list[list[Word]]:
    """Divide words at the longest pause, of equal ones at the middle, until at most `most` stay."""
    if len(words) <= most:
        return [words]
    middle = len(words) / 2
    pauses = [
        (b.start - a.end, -abs(at - middle), at) for at, (a, b) in enumerate(pairwise(words), 1)
    ]
    at = max(pauses)[2]
    return [*_divided(words[:at], most), *_divided(words[at:], most)]


def _check(
    sequences: Sequences, job: CorpusJob, files: InputFiles, features: Features, origin: Origin
) -> list[Path]:
    """Check that the files have the model's features; return the files without column names."""
    needs_words = job.align.drop_words or job.is_encoded("text")
    if needs_words and not sequences.is_text(job.reference):
        raise DhmdError(f"{files.paths[job.reference]} has numbers where the model expects words")
    unnamed = []
    for modality in files.modalities:
        if job.is_encoded(modality):
            continue
        name, wanted = job.modalities[modality], tuple(features[modality])
        path = files.paths[name]
        if sequences.is_text(name):
            raise DhmdError(f"{path} has words where the model expects numbers for {modality}")
        _check_extractor(path, sequences[name].metadata.get(EXTRACTOR_KEY), origin, name)
        width = sequences.width(name)
        if width != len(wanted):
            raise DhmdError(
                f"{path} has {width} columns, but the model was trained on {len(wanted)} of "
                f"{modality}"
            )
        found = sequences.dimension_names(name)
        if found == wanted:
            continue
        numbered = tuple(f"{name}_{d}" for d in range(width))
        if found == numbered:
            unnamed.append(path)
        elif wanted != numbered:
            at = next(d for d in range(width) if found[d] != wanted[d])
            raise DhmdError(
                f"{path} has {found[at]!r} as column {at}, where the model was trained on "
                f"{wanted[at]!r}"
            )
    return unnamed


def _check_extractor(path: Path, found: object, origin: Origin, sequence: str) -> None:
    """Refuse features that were made otherwise than those of the training data."""
    expected = origin.extractors.get(sequence)
    if expected is None and found is not None:
        raise DhmdError(
            f"{path} has features that {described(found)} made, but the model was trained on "
            f"{origin.files.get(sequence, sequence)}, whose extractor is not recorded. Models of "
            "published features such as COVAREP and FACET cannot be applied to new videos: train "
            "on features of dhmd extract"
        )
    check_extractor(path, found, expected)
