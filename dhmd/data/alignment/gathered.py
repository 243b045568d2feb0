"""What grows while videos are aligned: one value a segment, and the data report's counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dhmd.data.alignment.labels import SegmentRows
from dhmd.data.alignment.origin import Origin
from dhmd.data.alignment.plan import Plan
from dhmd.data.alignment.sources import Sequences
from dhmd.data.alignment.video import AlignedVideo
from dhmd.data.csd import segment_id

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class Gathered:
    """The segments so far.

    Attributes:
        ids, videos, labels, present, planted: of the segments that stay.
        empty: segment -> why it is empty, whether it stays or not.
    """

    plan: Plan
    ids: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    labels: list[Array] = field(default_factory=list)
    present: list[Array] = field(default_factory=list)
    planted: dict[str, list[Array]] = field(default_factory=dict)
    empty: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _modalities: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, video: str, rows: SegmentRows, aligned: AlignedVideo) -> Array:
        """Take in a video.

        Returns:
            `[S]` bool, the segments that stay: all, or all that are not empty.
        """
        present_SM = np.stack([steps.present for steps in aligned.steps.values()], axis=1)
        keep_S = np.ones(len(rows.labels_S), dtype=bool)
        for s, (start, end) in enumerate(rows.intervals_S2):
            if end - start < self.plan.epsilon:
                reason = "no length"
            elif self.plan.alignment == "word" and not aligned.word_lengths_S[s]:
                reason = "no words"
            elif not present_SM[s].any():
                reason = "no rows"
            else:
                continue
            self.empty[segment_id(video, s)] = reason
            keep_S[s] = self.plan.config.empty_segments == "keep"
        kept = np.flatnonzero(keep_S)
        self.ids.extend(segment_id(video, int(s)) for s in kept)
        self.videos.extend([video] * len(kept))
        self.labels.append(rows.labels_S[kept])
        self.present.append(present_SM[kept])
        for name, values_S in rows.planted.items():
            self.planted.setdefault(name, []).append(values_S[kept])
        for name, number in {**aligned.counts, "labels_clipped": rows.clipped}.items():
            self._counts[name] = self._counts.get(name, 0) + number
        for m, (modality, steps) in enumerate(aligned.steps.items()):
            absent = int(np.count_nonzero(~present_SM[kept, m]))
            for name, number in (("values_cleaned", steps.bad_values), ("segments_absent", absent)):
                counts = self._modalities.setdefault(modality, {})
                counts[name] = counts.get(name, 0) + number
        return keep_S

    def report(self, sequences: Sequences) -> dict[str, object]:
        """The data report, as JSON values."""
        return {
            "alignment": self.plan.alignment,
            "epsilon": self.plan.epsilon,
            "origin": Origin.of(self.plan).as_json(),
            "videos": len(set(self.videos)),
            "segments": len(self.ids),
            "counts": dict(sorted(self._counts.items())),
            "modalities": self._modalities,
            "rows_sorted": dict(sorted(sequences.reordered.items())),
            "videos_not_shared": sequences.not_shared,
            "empty_segments": self.empty,
        }
