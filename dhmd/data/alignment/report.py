"""The table of aligned segments, the data report, and its warnings.

`TableBuilder.warnings` has one sentence on each loss of segments, rows or values. `dhmd data
check`, the align stage and `dhmd predict` print these sentences, and the report in the aligned
features file stores them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from dhmd.data.alignment.job import CorpusJob, Origin
from dhmd.data.alignment.segments import AlignedVideo, SegmentRows
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.alignment.word_alignment import MAX_MAGNITUDE, are_instants
from dhmd.data.csd import Array, segment_id, video_of

Folds = Mapping[str, Mapping[str, Sequence[str]]]  # fold: split: videos

# Minimum share of lost rows or segments that causes a warning.
REPORTED_SHARE = 1 / 20
# If the median times of two sequences differ by more than this factor, their units differ.
_UNIT_FACTOR = 20.0


def cleaned_sentence(modality: str, cleaned: int, values: int) -> str:
    """Return the warning that some values are not finite or too large."""
    return (
        f"{modality}: {_share(cleaned, values)} values are not finite or beyond"
        f" ±{MAX_MAGNITUDE:g}, and count as missing"
    )


def cut_sentence(what: str, num_cut: int, num_steps: int, key: str, limit: int) -> str:
    """Return the warning that some segments are longer than the setting `key` allows."""
    return f"{_share(num_cut, num_steps)} steps of {what} are cut off: {key} is {limit}"


def abbreviate(names: Collection[str]) -> str:
    """Return the first three names as text: `a, b, c …`."""
    return ", ".join([*names][:3]) + (" …" if len(names) > 3 else "")


def _share(part: int, whole: int) -> str:
    share = part / max(whole, 1)
    return f"{part:,} of {whole:,} ({'under 0.1%' if 0 < share < 0.001 else f'{share:.1%}'})"


class _Times:
    """The range of a sequence's times in seconds, and their ratio to other times.

    Attributes:
        first, last: the first start and the last end of all videos.
        segment_ratios, word_ratios: per video, the median time of the rows divided by that of the
            segments or the words.
        lengths: per video, the median length of a row.
    """

    def __init__(self) -> None:
        self.first, self.last = np.inf, -np.inf
        self.segment_ratios: list[float] = []
        self.word_ratios: list[float] = []
        self.lengths: list[float] = []

    def add(self, rows_R2: Array, segments_S2: Array, words_W2: Array, epsilon: float) -> None:
        if not len(rows_R2) or not len(segments_S2):
            return
        start_R, end_R = rows_R2.T
        self.first, self.last = min(self.first, start_R.min()), max(self.last, end_R.max())
        median = float(np.median(rows_R2))
        for ratios, times in ((self.segment_ratios, segments_S2), (self.word_ratios, words_W2)):
            if median > 0 and len(times) and (other := float(np.median(times))) > 0:
                ratios.append(median / other)
        instants = are_instants(rows_R2, epsilon) and len(rows_R2) > 1
        length_R = np.diff(np.sort(start_R)) if instants else end_R - start_R
        self.lengths.append(float(np.median(length_R)))

    def __str__(self) -> str:
        return f"from {self.first:g} s to {self.last:g} s"


class TableBuilder:
    """A builder of the table of segments and of the data report.

    Args:
        job: the settings of the alignment.
        labelled: whether the segments have labels; False for prediction.

    Attributes:
        ids, videos, labels, present, planted: columns of the table, without dropped segments.
        empty: why each empty segment is empty; includes dropped segments.
        left_out: videos that are dropped because a sequence lacks them.
    """

    def __init__(self, job: CorpusJob, *, labelled: bool = True) -> None:
        self.job = job
        self._labelled = labelled
        self._segments_text = "requested segments"
        if labelled:
            self._segments_text = f"segments of {job.recipe.labels.sequence}"
        self.ids: list[str] = []
        self.videos: list[str] = []
        self.labels: list[Array] = []
        self.present: list[Array] = []
        self.planted: dict[str, list[Array]] = {}
        self.empty: dict[str, str] = {}
        self.left_out: list[str] = []
        self._counts: Counter[str] = Counter()
        self._modalities: dict[str, Counter[str]] = {name: Counter() for name in job.modalities}
        self._segments: dict[str, int] = {}  # number of label rows of each video
        # For "words" and each modality, the number of segments with at least one word or row.
        self._overlapping: Counter[str] = Counter()
        self._times: dict[str, _Times] = {}
        self._segment_times = _Times()

    def add(self, video: str, rows: SegmentRows, aligned: AlignedVideo) -> Array:
        """Add a video's segments.

        Returns:
            `[S]` bool, False for the segments that are dropped because they are empty.
        """
        present_SM = np.stack([steps.present for steps in aligned.steps.values()], axis=1)
        keep_S = np.ones(len(rows.labels_S), dtype=bool)
        for s, (start, end) in enumerate(rows.intervals_S2):
            if end - start < self.job.epsilon:
                reason = "no length"
            elif self.job.alignment == "word" and not aligned.word_lengths_S[s]:
                reason = "no words"
            elif not present_SM[s].any():
                reason = "no rows"
            else:
                continue
            self.empty[segment_id(video, s)] = reason
            keep_S[s] = self.job.align.empty_segments == "keep"
        kept = np.flatnonzero(keep_S)
        self.ids.extend(segment_id(video, int(s)) for s in kept)
        self.videos.extend([video] * len(kept))
        self.labels.append(rows.labels_S[kept])
        self.present.append(present_SM[kept])
        for name, values_S in rows.planted.items():
            self.planted.setdefault(name, []).append(values_S[kept])
        self._segments[video] = len(keep_S)
        self._counts.update({**aligned.counts, "labels_clipped": rows.clipped})
        self._overlapping["words"] += int(np.count_nonzero(aligned.word_lengths_S))
        for m, (modality, steps) in enumerate(aligned.steps.items()):
            self._overlapping[modality] += int(np.count_nonzero(present_SM[:, m]))
            absent = int(np.count_nonzero(~present_SM[kept, m]))
            self._modalities[modality].update({**steps.counts, "segments_absent": absent})
        words_W2, segments_S2, epsilon = aligned.reference_W2, rows.intervals_S2, self.job.epsilon
        self._segment_times.add(segments_S2, segments_S2, words_W2, epsilon)
        times = {self.job.reference: words_W2}
        for modality, steps in aligned.steps.items():
            if steps.intervals_R2 is not None:
                times[self.job.modalities[modality]] = steps.intervals_R2
        for name, rows_R2 in times.items():
            self._times.setdefault(name, _Times()).add(rows_R2, segments_S2, words_W2, epsilon)
        return keep_S

    def leave_out(self, video: str, num_segments: int) -> None:
        """Count a video that is dropped because a sequence lacks it."""
        self.left_out.append(video)
        self._segments[video] = num_segments

    def errors(self, sequences: Sequences) -> list[str]:
        """Return the errors: no segment is left, a modality is empty, or time units differ."""
        job, name = self.job, self.job.recipe.name
        words, total = self._counts["words"], sum(self._segments.values())
        if not total:
            return [f"{name}: there are no {self._segments_text}"] if self._labelled else []
        if len(self.left_out) == len(self._segments):
            lacking = dict.fromkeys(n for v in self.left_out for n in sequences.lacking(v))
            return [
                f"{name}: no video is left to align: each labelled video is missing from"
                f" {' or '.join(lacking)}"
            ]
        if 0 < words == self._counts["words_short"]:
            return [
                f"{sequences[job.reference].path}: no word has a length (start = end), so nothing"
                " can be aligned to the words: correct the ends of the words"
            ]
        if Counter(self.empty.values())["no length"] == total:
            return [f"{name}: none of the {self._segments_text} has a length (start = end)"]
        errors = [self._unit_sentence(sequences, n) for n in self._times if self._unit_differs(n)]
        if errors:
            return errors
        needs_words = job.alignment == "word" or "text" in job.modalities
        if needs_words and not self._overlapping["words"]:
            return [self._no_overlap_sentence(sequences, "words", job.reference)]
        errors = [
            self._no_overlap_sentence(sequences, modality, sequence)
            for modality, sequence in job.modalities.items()
            # Files to predict may lack a modality, but if it has rows, they must overlap a segment.
            if not self._overlapping[modality] and (self._labelled or self._has_rows(sequence))
        ]
        if not errors and not self.ids and self._labelled:
            reasons = _reasons(self.empty.values())
            errors.append(f"{name}: every segment is empty ({reasons}), nothing is left to align")
        return errors

    def _has_rows(self, name: str) -> bool:
        return name in self._times and bool(self._times[name].lengths)

    def _unit_differs(self, name: str) -> bool:
        """Return whether the unit of a sequence's times differs from that of the segments.

        A recording may continue long after its last segment, so late rows are not enough: they
        must also be later than the words, and longer.
        """
        times = self._times[name]
        if not times.segment_ratios:
            return False
        ratio = float(np.median(times.segment_ratios))
        if name == self.job.reference:
            other = self._segment_times
        else:
            other = self._times[self.job.reference]
            ratio = min(ratio, float(np.median(times.word_ratios or [ratio])))
        longer = bool(np.median(times.lengths) > np.median(other.lengths or [0.0]))
        return (ratio > _UNIT_FACTOR and longer) or ratio < 1 / _UNIT_FACTOR

    def _unit_sentence(self, sequences: Sequences, name: str) -> str:
        ratio = float(np.median(self._times[name].segment_ratios))
        unit = "milliseconds" if 300 < max(ratio, 1 / ratio) < 3000 else "another unit"
        suspect = f"intervals of {name}" if ratio > 1 else self._segments_text
        return (
            f"{self._ranges(sequences, name)}: are the {suspect} in {unit}? All must be in seconds"
        )

    def _no_overlap_sentence(self, sequences: Sequences, what: str, name: str) -> str:
        count = f"{sum(self._segments.values()):,} segments"
        if not self._has_rows(name):
            return (
                f"{sequences[name].path}: none of the {count} has any {what}, because no labelled"
                f" video has rows in it (its videos are {abbreviate(sequences.videos(name))}, the"
                f" labelled ones {abbreviate(self._segments)})"
            )
        return (
            f"{self._ranges(sequences, name)}, and none of the {count} has any {what}: are the"
            f" intervals of {name} in seconds, from the beginning of the video?"
        )

    def _ranges(self, sequences: Sequences, name: str) -> str:
        return (
            f"{sequences[name].path}: its times run {self._times[name]}, the {self._segments_text}"
            f" {self._segment_times}"
        )

    def warnings(self, sequences: Sequences, folds: Folds | None = None) -> list[str]:
        """Return one sentence on each loss of segments, rows or values.

        Args:
            sequences: the open sequences.
            folds: the videos of each split of each fold; None if the segments have no splits.
        """
        warnings = self._incomplete_videos(sequences)
        for fold, splits in (folds or {}).items():
            name = f" of fold {fold}" if len(folds or {}) > 1 else ""
            for split, videos in splits.items():
                warnings += self._split_losses(f"{split}{name}", videos, always=split == "test")
        config = self.job.align
        if not self._labelled and self.empty and config.empty_segments == "drop":
            share = _share(len(self.empty), sum(self._segments.values()))
            examples = abbreviate([f"{segment}: {why}" for segment, why in self.empty.items()])
            warnings.append(f"{share} segments are empty and left out ({examples})")
        reference = sequences[self.job.reference].path
        warnings += _without_length(f"{reference}: words", self._counts, "words_short", "words")
        cut: dict[str, str] = {}  # only one sentence on words, which several modalities share
        for modality, counts in self._modalities.items():
            absent, name = counts["segments_absent"], self.job.modalities[modality]
            if name in sequences.names:
                path = sequences[name].path
                warnings += _without_length(f"{path}: rows", counts, "rows_without_length", "rows")
            if absent * 2 >= len(self.ids) and self._has_rows(name):
                warnings.append(
                    f"{self._ranges(sequences, name)}: {modality} is absent from"
                    f" {_share(absent, len(self.ids))} segments"
                )
            if counts["values_cleaned"]:
                cleaned = counts["values_cleaned"]
                warnings.append(cleaned_sentence(modality, cleaned, counts["values"]))
            if counts["steps_cut"] > counts["steps"] * (REPORTED_SHARE if self._labelled else 0):
                what = "words" if self.job.is_word_level(modality) else modality
                key, limit = self.job.step_limit(modality)
                sentence = cut_sentence(what, counts["steps_cut"], counts["steps"], key, limit)
                cut.setdefault(what, sentence)
        return [*warnings, *cut.values()]

    def _incomplete_videos(self, sequences: Sequences) -> list[str]:
        """Return sentences on the videos that a sequence lacks."""
        sentences = []
        roles = {self.job.reference: "words"} | {n: m for m, n in self.job.modalities.items()}
        for name, role in roles.items():
            lacking = [video for video in self._segments if name in sequences.lacking(video)]
            kept = [video for video in lacking if video not in self.left_out]
            dropped = [video for video in lacking if video in self.left_out]
            total = f"of {len(self._segments):,} videos"
            if kept:
                sentences.append(
                    f"{len(kept):,} {total} are not in {name} ({abbreviate(kept)}): they are kept,"
                    f" and their {role} {'are' if role == 'words' else 'is'} absent"
                )
            if dropped:
                sentences.append(
                    f"{len(dropped):,} {total} are left out, because they are not in {name}"
                    f" ({abbreviate(dropped)})"
                )
        return sentences

    def _split_losses(self, split: str, videos: Iterable[str], *, always: bool) -> list[str]:
        """Return sentences on lost segments and videos; small losses only if `always` is true."""
        sentences = []
        in_split = dict.fromkeys(videos)
        minimum = 0 if always else REPORTED_SHARE
        unlabelled = [video for video in in_split if video not in self._segments]
        if len(unlabelled) > len(in_split) * minimum:
            sentences.append(
                f"{split}: {_share(len(unlabelled), len(in_split))} videos have no labels and are"
                f" not in the corpus ({abbreviate(unlabelled)})"
            )
        before = sum(count for video, count in self._segments.items() if video in in_split)
        after = sum(video in in_split for video in self.videos)
        if before - after > before * minimum:
            reasons = [_reasons(why for s, why in self.empty.items() if video_of(s) in in_split)]
            incomplete = sum(self._segments[video] for video in self.left_out if video in in_split)
            reasons += [f"{incomplete:,} of incomplete videos"] if incomplete else []
            sentences.append(
                f"{split}: {_share(before - after, before)} segments are left out"
                f" ({', '.join(filter(None, reasons))}), {after:,} remain"
            )
        return sentences

    def report(self, sequences: Sequences, warnings: Sequence[str]) -> dict[str, object]:
        """Return the data report as JSON values."""
        return {
            "alignment": self.job.alignment,
            "epsilon": self.job.epsilon,
            "origin": Origin.from_job(self.job, sequences).as_json(),
            "videos": len(set(self.videos)),
            "segments": len(self.ids),
            "counts": dict(sorted(self._counts.items())),
            "modalities": {name: dict(counts) for name, counts in self._modalities.items()},
            "rows_sorted": sequences.reordered,
            "videos_not_shared": sequences.not_shared,
            "empty_segments": self.empty,
            "warnings": list(warnings),
        }


def _without_length(what: str, counts: Mapping[str, int], short: str, rows: str) -> list[str]:
    if counts[short] <= counts[rows] * REPORTED_SHARE:
        return []
    return [
        f"{what} without length (start = end) are left out: {_share(counts[short], counts[rows])}"
    ]


def _reasons(reasons: Iterable[str]) -> str:
    """Return the counts of each reason as text: `3 no words, 1 no length`."""
    return ", ".join(f"{count:,} {why}" for why, count in Counter(reasons).most_common())
