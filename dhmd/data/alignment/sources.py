"""The sequences of one corpus, open side by side and read video by video."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.csd import ComputationalSequence, Entry, open_sequence, segment_row, video_of

Array = np.ndarray[Any, Any]


class Sequences:
    """The named sequences, open; a context manager.

    Attributes:
        shared: the videos that every sequence has, sorted.
        not_shared: video -> names of the sequences that lack it.
        reordered: sequence -> rows read so far that start before the row above them.
    """

    def __init__(self, paths: Mapping[str, Path], names: Iterable[str]) -> None:
        self.reordered: dict[str, int] = {}
        self._entries: dict[str, dict[str, list[str]]] = {}
        self._form: dict[str, tuple[bool, int]] = {}
        self._open: dict[str, ComputationalSequence] = {}
        with ExitStack() as stack:
            for name in dict.fromkeys(names):
                if name not in paths:
                    raise DhmdError(
                        f"sequence {name!r} of the recipe is missing from the raw files"
                        f" (there are {', '.join(sorted(paths)) or 'none'}); download it first"
                    )
                self._open[name] = stack.enter_context(open_sequence(paths[name]))
                self._entries[name] = _by_video(self._open[name].ids)
                self._form[name] = _form(self._open[name])
            self._stack = stack.pop_all()
        everywhere = sorted(set().union(*self._entries.values()))
        lacking = {
            video: [name for name, entries in self._entries.items() if video not in entries]
            for video in everywhere
        }
        self.shared = tuple(video for video in everywhere if not lacking[video])
        self.not_shared = {video: names for video, names in lacking.items() if names}

    def __enter__(self) -> Sequences:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    def __getitem__(self, name: str) -> ComputationalSequence:
        return self._open[name]

    def is_text(self, name: str) -> bool:
        """Whether a sequence holds words."""
        return self._form[name][0]

    def width(self, name: str) -> int:
        """Columns of a sequence, which every entry must have."""
        return self._form[name][1]

    def where(self, name: str, video: str) -> str:
        """A sequence's video, for messages."""
        return f"{self._open[name].path}: entry {video!r}"

    def segments(self, name: str, video: str) -> Entry:
        """Rows of a labels-like sequence, in the file's order, which gives them their ids.

        Raises:
            DhmdError: the video is not one entry.
        """
        if self._entries[name][video] != [video]:
            raise DhmdError(
                f"{self._open[name].path}: video {video!r} is split into entries"
                f" such as {self._entries[name][video][0]!r}; labels are one entry a video"
            )
        return self._open[name].read(video)

    def rows(self, name: str, video: str) -> Entry:
        """Rows of a video in time's order; entries `video[i]` are joined (source: SDK).

        Real files have rows that go back in time (features of MOSI's opinion segments, listed in
        the labels' order); the SDK sorts them by start, and so do we, counting them.

        Raises:
            DhmdError: a defect of an entry, or one that does not fit the sequence's others.
        """
        parts = [self._open[name].read(entry_id) for entry_id in self._entries[name][video]]
        is_text, width = self._form[name]
        for part in parts:
            form = (part.features.dtype == object, part.features.shape[1])
            if len(part.features) and form != (is_text, width):
                raise DhmdError(
                    f"{self.where(name, video)} has {_described(*form)}, but the sequence's first"
                    f" entry has {_described(is_text, width)}"
                )
        parts = [part for part in parts if len(part.features)]
        if not parts:
            features = np.zeros((0, width), dtype=object if is_text else np.float64)
            return Entry(features=features, intervals=np.zeros((0, 2)))
        features, intervals = parts[0].features, parts[0].intervals
        if len(parts) > 1:
            features = np.concatenate([part.features for part in parts])
            intervals = np.concatenate([part.intervals for part in parts])
        back = int(np.count_nonzero(np.diff(intervals[:, 0]) < 0))
        if back:
            order = np.argsort(intervals[:, 0], kind="stable")
            features, intervals = features[order], intervals[order]
            self.reordered[name] = self.reordered.get(name, 0) + back
        return Entry(features=features, intervals=intervals)


def _by_video(ids: Iterable[str]) -> dict[str, list[str]]:
    """Video -> its entries, by the i of `video[i]`, so that 10 follows 9."""
    entries: dict[str, list[str]] = {}
    for entry_id in ids:
        entries.setdefault(video_of(entry_id), []).append(entry_id)
    for group in entries.values():
        group.sort(key=lambda entry_id: segment_row(entry_id) or 0)
    return entries


def _form(sequence: ComputationalSequence) -> tuple[bool, int]:
    """Words or not, and how many columns: as the first entry has them that has rows."""
    filled = (entry_id for entry_id in sequence.ids if math.prod(sequence.shape(entry_id)))
    first = next(filled, sequence.ids[0])
    shape = sequence.shape(first)
    # One row may have been written without its axis.
    return sequence.is_text(first), math.prod(shape[1:] if len(shape) > 1 else shape)


def _described(is_text: bool, width: int) -> str:
    return f"{width} column{'s' if width != 1 else ''} of {'words' if is_text else 'numbers'}"
