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
from dhmd.data.alignment import Origin, WordEncoder
from dhmd.data.alignment.gathered import Gathered
from dhmd.data.alignment.labels import SegmentRows, dimension_names
from dhmd.data.alignment.plan import Plan
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.alignment.video import AlignedVideo, Steps, align_video
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
        found = dimension_names(sequences, name, width)
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
    """Takes in video by video what was asked for."""

    def __init__(
        self,
        sequences: Sequences,
        plan: Plan,
        files: InputFiles,
        features: Features,
        encoder: WordEncoder | None,
    ) -> None:
        self.encoder = encoder
        self.sequences, self.plan, self.files, self.features = sequences, plan, files, features
        self.shared = frozenset(sequences.shared)
        self.gathered = Gathered(plan)
        self.intervals: list[Array] = []
        self.lengths: dict[str, list[Array]] = {name: [] for name in features}
        self.values: dict[str, list[Array]] = {name: [] for name in features}
        self.left_out: dict[str, list[str]] = {"words": [], "any modality": []}
        self.lacking: dict[str, list[str]] = {name: [] for name in files.modalities}

    def add(self, video: str, intervals_S2: Array) -> None:
        """Align a video's segments; one that its sequences do not have is noted and left out."""
        plan, count = self.plan, len(intervals_S2)
        lacking = self.sequences.not_shared.get(video, ())
        if (not lacking and video not in self.shared) or plan.reference in lacking:
            self.left_out["words"].append(video)
            return
        here = {
            name: plan.modalities[name]
            for name in self.files.modalities
            if plan.modalities[name] not in lacking
        }
        if not here:
            self.left_out["any modality"].append(video)
            return
        for name in self.files.modalities:
            if name not in here:
                self.lacking[name].append(video)
        restricted = replace(plan, recipe=replace(plan.recipe, modalities=here))
        aligned = align_video(self.sequences, video, intervals_S2, restricted)
        steps = {
            name: aligned.steps[name] if name in here else _absent(count, len(names))
            for name, names in self.features.items()
        }
        if self.encoder is not None and "text" in here:
            steps["text"] = self._encoded(aligned)
        rows = SegmentRows(
            intervals_S2=intervals_S2, labels_S=np.full(count, np.nan), planted={}, clipped=0
        )
        keep_S = self.gathered.add(video, rows, replace(aligned, steps=steps))
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
        """What is not as asked for, a sentence each."""
        notes = []
        for what, videos in self.left_out.items():
            if videos:
                notes.append(f"left out for want of {what}: {such_as(videos, 'video')}")
        for modality, videos in self.lacking.items():
            if videos:
                notes.append(f"{modality} counts as absent in {such_as(videos, 'video')}")
        if self.gathered.empty and self.plan.config.empty_segments == "drop":
            reasons = [f"{segment} ({why})" for segment, why in self.gathered.empty.items()]
            notes.append(f"left out as empty: {such_as(reasons, 'segment')}")
        report: Any = self.gathered.report(self.sequences)
        cut = report["counts"].get("steps_truncated", 0)
        if cut:
            notes.append(
                f"{cut} steps were cut off: of a long segment the model reads its "
                f"{self.plan.config.truncate} steps; shorter ones can be given with --segments"
            )
        for modality, counts in report["modalities"].items():
            if counts["values_cleaned"]:
                notes.append(
                    f"{counts['values_cleaned']} values of {modality} are no finite numbers and "
                    "count as missing"
                )
        return notes

    def utterances(self, notes: Sequence[str]) -> Utterances:
        """All of it.

        Raises:
            DhmdError: there is nothing.
        """
        if not self.gathered.ids:
            why = "; ".join(notes) or "no segment was asked for"
            raise DhmdError(f"nothing is left to predict: {why}")
        return Utterances(
            ids=tuple(self.gathered.ids),
            intervals_N2=np.concatenate(self.intervals),
            lengths=[np.concatenate(lengths) for lengths in self.lengths.values()],
            values=[np.concatenate(values) for values in self.values.values()],
            notes=tuple(notes),
        )


def _absent(segments: int, width: int) -> Steps:
    return Steps(
        values_Pd=np.zeros((0, width), dtype=np.float32),
        lengths_S=np.zeros(segments, dtype=np.int64),
        real_P=np.zeros(0, dtype=bool),
        bad_values=0,
    )
