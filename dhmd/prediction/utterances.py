"""From a folder of sequences to what a model reads, by the pipeline's own alignment.

N segments that stay, S segments of a video, d features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dhmd.base.errors import DhmdError
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
from dhmd.prediction.files import InputFiles, find_files
from dhmd.prediction.notes import such_as
from dhmd.prediction.segments import read_segments, whole_videos

Array = np.ndarray[Any, Any]
Features = Mapping[str, Sequence[str]]  # modality -> names of its features


@dataclass(frozen=True, eq=False)
class Utterances:
    """Aligned segments.

    Attributes:
        ids: N ids `video[i]`.
        intervals_N2: seconds.
        lengths: a modality each, `[N]` steps, 0 where it is absent.
        values: a modality each, `[ΣT, d]` float32, not normalised.
        notes: what a user should know, a sentence each.
    """

    ids: tuple[str, ...]
    intervals_N2: Array
    lengths: list[Array]
    values: list[Array]
    notes: tuple[str, ...]


def align_folder(
    folder: Path,
    segments: Path | None,
    *,
    origin: Origin,
    dataset: str,
    alignment: Literal["word", "none"],
    features: Features,
    encoder: WordEncoder | None = None,
) -> Utterances:
    """Align a folder's sequences as the model's corpus was.

    A modality without a file, or without the video, is absent there. Segments that the pipeline
    would drop (for want of words, say) are left out.

    Args:
        folder: the `.csd` files.
        segments: a file as `read_segments` takes it, or None for one segment a video.
        origin, dataset, alignment: what the model's corpus was aligned from, and how.
        features: what the model reads.
        encoder: the one that the corpus was aligned with, where there was one.

    Raises:
        DhmdError: bad input, or no segment left.
    """
    files = find_files(folder, origin, list(features))
    plan = origin.plan(dataset, alignment, list(features))
    asked = None if segments is None else read_segments(segments)
    with Sequences(files.paths, files.paths) as sequences:
        unnamed = _check(sequences, plan, files, features)
        if asked is None:
            # In word alignment nothing but words gives steps.
            giving_steps = [plan.reference] if alignment == "word" else list(files.paths)
            asked = whole_videos(sequences, giving_steps)
        aligner = _Aligner(sequences, plan, files, features, encoder)
        for video, intervals_S2 in progress(asked.items(), "align", unit="video"):
            aligner.add(video, intervals_S2)
        notes = [
            f"{folder} has no {names}: {modality} counts as absent"
            for modality, names in files.missing.items()
        ]
        notes += [
            f"{path} does not name its columns: their order is not checked" for path in unnamed
        ]
        notes += aligner.notes()
    return aligner.utterances(notes)


def _check(sequences: Sequences, plan: Plan, files: InputFiles, features: Features) -> list[Path]:
    """Refuse other features than the model's; the files whose columns have no names to compare."""
    needs_words = plan.config.drop_words or plan.encodes("text")
    if needs_words and not sequences.is_text(plan.reference):
        raise DhmdError(
            f"{files.paths[plan.reference]} holds numbers where the model expects words"
        )
    unnamed = []
    for modality in files.modalities:
        if plan.encodes(modality):
            continue
        name, wanted = plan.modalities[modality], tuple(features[modality])
        path = files.paths[name]
        if sequences.is_text(name):
            raise DhmdError(f"{path} holds words where the model expects numbers for {modality}")
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
        """Text's steps with the encoder's vectors."""
        assert self.encoder is not None
        assert aligned.words is not None  # _check sees to it
        lengths_S = aligned.word_lengths_S.tolist()
        ends_S = np.cumsum(lengths_S)
        passes = [
            self.encoder.split(aligned.words[end - length : end], f"a segment of {length} words")
            for end, length in zip(ends_S, lengths_S, strict=True)
        ]
        values = np.concatenate(self.encoder.encode(passes, lengths_S))
        return replace(aligned.steps["text"], values_Pd=values)

    def notes(self) -> list[str]:
        """Return what differs from the request, a sentence each.

        Raises:
            DhmdError: a modality meets no segment, or times are in another unit.
        """
        for error in self.table.errors(self.sequences):
            raise DhmdError(error)
        notes = self.table.warnings(self.sequences)
        if self.unknown:
            notes.append(f"left out, because no file has them: {such_as(self.unknown, 'video')}")
        return notes

    def utterances(self, notes: Sequence[str]) -> Utterances:
        """All of it.

        Raises:
            DhmdError: there is nothing.
        """
        if not self.table.ids:
            why = "; ".join(notes) or "no segment was asked for"
            raise DhmdError(f"nothing is left to predict: {why}")
        return Utterances(
            ids=tuple(self.table.ids),
            intervals_N2=np.concatenate(self.intervals),
            lengths=[np.concatenate(lengths) for lengths in self.lengths.values()],
            values=[np.concatenate(values) for values in self.values.values()],
            notes=tuple(notes),
        )
