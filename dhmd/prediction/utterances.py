"""Read new utterances from files and align them as the pipeline aligns its training data.

One function per kind of input returns `Utterances`; `read_csd_folder` is the one for `.csd` files.

N utterances, S segments of a video, P steps of all segments, d features.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.progress import progress
from dhmd.data.alignment import (
    AlignedVideo,
    Origin,
    Plan,
    SegmentRows,
    Sequences,
    Steps,
    TableBuilder,
    WordEncoder,
    align_video,
)

Array = np.ndarray[Any, Any]
Features = Mapping[str, Sequence[str]]  # modality -> names of its features
# Video -> intervals [S, 2] in seconds, in the file's order: row i is the segment `video[i]`.
Segments = Mapping[str, Array]

_SEGMENT_COLUMNS = ("video", "start", "end")


@dataclass(frozen=True, eq=False)
class Utterances:
    """Aligned utterances.

    Attributes:
        ids: N ids `video[i]`.
        intervals_N2: start and end in seconds.
        lengths: number of steps [N] per modality, 0 where it is absent.
        values: features [P, d] float32 per modality, not normalised.
        notes: warnings for the user, one sentence each.
    """

    ids: tuple[str, ...]
    intervals_N2: Array
    lengths: list[Array]
    values: list[Array]
    notes: tuple[str, ...]


def read_csd_folder(
    folder: Path,
    segments: Path | None,
    *,
    origin: Origin,
    dataset: str,
    alignment: Literal["word", "none"],
    features: Features,
    encoder: WordEncoder | None = None,
) -> Utterances:
    """Align the `.csd` files of a directory like the model's training data.

    A modality is absent if it has no file or its file lacks the video. Segments that the pipeline
    drops, such as those without words, are omitted.

    Args:
        folder: the directory.
        segments: a file for `read_segments`; None for one segment per video.
        origin: what the model's training data was aligned from.
        dataset: its name.
        alignment: how it was aligned.
        features: the features that the model reads.
        encoder: the word encoder that it was aligned with, if any.

    Raises:
        DhmdError: bad input, or no segment is left.
    """
    files = find_files(folder, origin, list(features))
    plan = origin.plan(dataset, alignment, list(features))
    asked = None if segments is None else read_segments(segments)
    with Sequences(files.paths, files.paths) as sequences:
        unnamed = _check(sequences, plan, files, features)
        if asked is None:
            # In word alignment only words give steps.
            giving_steps = [plan.reference] if alignment == "word" else list(files.paths)
            asked = whole_videos(sequences, giving_steps)
        aligner = _Aligner(sequences, plan, files, features, encoder)
        for video, intervals_S2 in progress(asked.items(), "align", unit="video"):
            aligner.add(video, intervals_S2)
        notes = [
            f"{folder} has no {names}: {modality} is treated as absent"
            for modality, names in files.missing.items()
        ]
        notes += [
            f"{path} has no column names, so the order of its columns is not checked"
            for path in unnamed
        ]
        notes += aligner.notes()
    return aligner.utterances(notes)


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


def find_files(folder: Path, origin: Origin, modalities: Sequence[str]) -> InputFiles:
    """Find the file of the words and of each modality, by sequence name or by name at the source.

    Raises:
        DhmdError: the directory is missing, has no words or no modality, or one sequence twice.
    """
    if not folder.is_dir():
        raise DhmdError(f"{folder} is not a directory: --input must name one with .csd files")
    unknown = [name for name in modalities if name not in origin.modalities]
    if unknown:
        raise DhmdError(f"the origin in model.json has no sequence of {unknown[0]}: train again")
    names = {origin.reference: _file_names(origin.reference, origin)}
    names |= {s: _file_names(s, origin) for s in map(origin.modalities.__getitem__, modalities)}
    paths = {}
    for sequence, candidates in names.items():
        here = [folder / name for name in candidates if (folder / name).is_file()]
        if len(here) > 1:
            raise DhmdError(
                f"{folder} has both {here[0].name} and {here[1].name}, which are the same "
                f"sequence, {sequence}: remove one of them"
            )
        if here:
            paths[sequence] = here[0]
    wanted = {sequence: " or ".join(candidates) for sequence, candidates in names.items()}
    if not paths:
        raise DhmdError(f"{folder} has no file that the model reads: {', '.join(wanted.values())}")
    if origin.reference not in paths:
        raise DhmdError(
            f"{folder} has no {wanted[origin.reference]}: add the words that all modalities "
            "are aligned to"
        )
    present = tuple(name for name in modalities if origin.modalities[name] in paths)
    missing = {m: wanted[origin.modalities[m]] for m in modalities if m not in present}
    if not present:
        choice = ", ".join(missing.values())
        raise DhmdError(f"{folder} has no modality of the model: add at least one of {choice}")
    return InputFiles(paths=paths, modalities=present, missing=missing)


def _file_names(sequence: str, origin: Origin) -> list[str]:
    """Return the names of a sequence's file; a name shared by several sequences is ambiguous."""
    own, at_source = f"{sequence}.csd", origin.files.get(sequence)
    sequences = {*origin.modalities.values(), origin.reference}
    shared = list(origin.files.values()).count(str(at_source)) > 1
    if at_source is None or shared or at_source.removesuffix(".csd") in sequences:
        return [own]
    return [own, at_source]


def read_segments(path: Path) -> Segments:
    """Read segments from CSV with the columns video, start and end, or from the rows of a `.csd`.

    Raises:
        DhmdError: the file is missing or a row is invalid; the message names it.
    """
    if not path.is_file():
        raise DhmdError(f"{path} is no file: --segments must name a CSV or a .csd file")
    if path.suffix.lower() == ".csd":
        with Sequences({"segments": path}, ["segments"]) as sequences:
            return {v: sequences.segments("segments", v).intervals for v in sequences.shared}
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise DhmdError(f"{path} is not readable as CSV: {first_line(error)}") from error
    header = [name.strip() for name in rows[0]] if rows else []
    for name in _SEGMENT_COLUMNS:
        if name not in header:
            columns = ", ".join(_SEGMENT_COLUMNS)
            raise DhmdError(f"{path} has no column {name}: its first line must name {columns}")
    found: dict[str, list[list[float]]] = {}
    for number, row in enumerate(rows[1:], start=2):
        where = f"{path}, line {number}"
        if not row:
            continue
        if len(row) != len(header):
            raise DhmdError(f"{where} has {len(row)} cells, but the header has {len(header)}")
        cells = {name: row[header.index(name)].strip() for name in _SEGMENT_COLUMNS}
        if not cells["video"]:
            raise DhmdError(f"{where} names no video")
        start, end = (_seconds(cells[name], f"{where}: {name}") for name in ("start", "end"))
        if end < start:
            raise DhmdError(
                f"{where}: the segment ends at {cells['end']}, before it starts at {cells['start']}"
            )
        found.setdefault(cells["video"], []).append([start, end])
    if not found:
        raise DhmdError(f"{path} has no segment: add one per line below the header")
    return {video: np.array(intervals) for video, intervals in found.items()}


def _seconds(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DhmdError(f"{where} is {cell!r}, but must be a number of seconds")
    return value


def whole_videos(sequences: Sequences, names: list[str]) -> Segments:
    """Return one segment per video, from its first to its last row in the sequences `names`.

    A video without rows has a segment of no length, which is empty like any other.

    Raises:
        DhmdError: a damaged entry.
    """
    found = {}
    for video in sorted({*sequences.shared, *sequences.not_shared}):
        lacking = sequences.not_shared.get(video, [])
        rows = [sequences.rows(name, video).intervals for name in names if name not in lacking]
        times = np.concatenate([np.zeros((0, 2)), *rows])
        ends = [times[:, 0].min(), times[:, 1].max()] if len(times) else [0.0, 0.0]
        found[video] = np.array([ends])
    return found


def _check(sequences: Sequences, plan: Plan, files: InputFiles, features: Features) -> list[Path]:
    """Check that the files have the model's features; return the files without column names."""
    needs_words = plan.config.drop_words or plan.encodes("text")
    if needs_words and not sequences.is_text(plan.reference):
        raise DhmdError(f"{files.paths[plan.reference]} has numbers where the model expects words")
    unnamed = []
    for modality in files.modalities:
        if plan.encodes(modality):
            continue
        name, wanted = plan.modalities[modality], tuple(features[modality])
        path = files.paths[name]
        if sequences.is_text(name):
            raise DhmdError(f"{path} has words where the model expects numbers for {modality}")
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


class _Aligner:
    """Aligns the requested segments video by video."""

    def __init__(
        self,
        sequences: Sequences,
        plan: Plan,
        files: InputFiles,
        features: Features,
        encoder: WordEncoder | None,
    ) -> None:
        self.encoder = encoder
        self.sequences, self.plan, self.features = sequences, plan, features
        self.here = {name: plan.modalities[name] for name in files.modalities}
        self.table = TableBuilder(plan, labelled=False)
        self.intervals: list[Array] = []
        self.lengths: dict[str, list[Array]] = {name: [] for name in features}
        self.values: dict[str, list[Array]] = {name: [] for name in features}
        self.unknown: list[str] = []

    def add(self, video: str, intervals_S2: Array) -> None:
        """Align a video's segments; a video that no sequence has is left out."""
        count = len(intervals_S2)
        if len(self.sequences.lacking(video)) == len(self.sequences.names):
            self.unknown.append(video)
            return
        with_files = replace(self.plan.recipe, modalities=self.here)
        plan = replace(self.plan, recipe=with_files)
        aligned = align_video(self.sequences, video, intervals_S2, plan)
        steps = {
            name: aligned.steps[name] if name in self.here else Steps.absent(count, len(names))
            for name, names in self.features.items()
        }
        if self.encoder is not None and "text" in self.here:
            steps["text"] = self._encoded(aligned)
        rows = SegmentRows(intervals_S2=intervals_S2, labels_S=np.full(count, np.nan))
        keep_S = self.table.add(video, rows, replace(aligned, steps=steps))
        self.intervals.append(intervals_S2[keep_S])
        for name, own in steps.items():
            stay_S = keep_S & own.present
            self.lengths[name].append(np.where(stay_S, own.lengths_S, 0)[keep_S])
            self.values[name].append(own.values_Pd[np.repeat(stay_S, own.lengths_S)])

    def _encoded(self, aligned: AlignedVideo) -> Steps:
        """Return the steps of text with the encoder's vectors."""
        assert self.encoder is not None
        assert aligned.words is not None  # _check requires words
        lengths_S = aligned.word_lengths_S.tolist()
        ends_S = np.cumsum(lengths_S)
        passes = [
            self.encoder.split(aligned.words[end - length : end], f"a segment of {length} words")
            for end, length in zip(ends_S, lengths_S, strict=True)
        ]
        values = np.concatenate(self.encoder.encode(passes, lengths_S))
        return replace(aligned.steps["text"], values_Pd=values)

    def notes(self) -> list[str]:
        """Return what differs from the request, one sentence each.

        Raises:
            DhmdError: a modality meets no segment, or times are in another unit.
        """
        for error in self.table.errors(self.sequences):
            raise DhmdError(error)
        notes = self.table.warnings(self.sequences)
        if any("cut off" in note for note in notes):
            which = self.plan.config.truncate
            notes.append(
                f"of a long segment the model reads the {which} steps; give shorter ones with"
                " --segments"
            )
        if self.unknown:
            notes.append(f"left out, because no file has them: {such_as(self.unknown, 'video')}")
        return notes

    def utterances(self, notes: Sequence[str]) -> Utterances:
        """Return all aligned utterances.

        Raises:
            DhmdError: there is none.
        """
        if not self.table.ids:
            why = "; ".join(notes) or "no segment was requested"
            raise DhmdError(f"no segment is left to predict: {why}")
        return Utterances(
            ids=tuple(self.table.ids),
            intervals_N2=np.concatenate(self.intervals),
            lengths=[np.concatenate(lengths) for lengths in self.lengths.values()],
            values=[np.concatenate(values) for values in self.values.values()],
            notes=tuple(notes),
        )


def such_as(names: Sequence[str], noun: str, most: int = 3) -> str:
    """Return e.g. `5 videos: a, b, c …`."""
    plural = "s" if len(names) != 1 else ""
    more = " …" if len(names) > most else ""
    return f"{len(names)} {noun}{plural}: {', '.join(names[:most])}{more}"
