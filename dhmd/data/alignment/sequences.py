"""The sequences of one corpus, opened together and read video by video."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.csd import ComputationalSequence, Entry, open_sequence, segment_row, video_of


class Sequences:
    """The open sequences of a corpus; a context manager.

    Args:
        paths: the `.csd` file of each sequence.
        names: the sequences to open.

    Attributes:
        names: the names of the open sequences.
        shared: the videos that all sequences have, sorted.
        not_shared: for each other video, the sequences that lack it.
    """

    def __init__(self, paths: Mapping[str, Path], names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._reordered: dict[tuple[str, str], int] = {}
        self._columns: dict[str, tuple[bool, int]] = {}  # (has words, number of columns)
        self._open: dict[str, ComputationalSequence] = {}
        with ExitStack() as stack:
            for name in self.names:
                self._open[name] = stack.enter_context(open_sequence(paths[name]))
                self._columns[name] = _columns(self._open[name])
            self._entries = entries_by_video({n: s.ids for n, s in self._open.items()})
            self._stack = stack.pop_all()
        videos = sorted(set().union(*self._entries.values()))
        self.not_shared = {video: lacking for video in videos if (lacking := self.lacking(video))}
        self.shared = tuple(video for video in videos if video not in self.not_shared)

    def __enter__(self) -> Sequences:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> ComputationalSequence:
        return self._open[name]

    def videos(self, name: str) -> tuple[str, ...]:
        """Return the videos of a sequence, sorted."""
        return tuple(sorted(self._entries[name]))

    def lacking(self, video: str) -> list[str]:
        """Return the sequences that lack a video."""
        return [name for name, entries in self._entries.items() if video not in entries]

    def is_text(self, name: str) -> bool:
        """Return whether a sequence has words."""
        return self._columns[name][0]

    def width(self, name: str) -> int:
        """Return the number of columns of a sequence, which all its entries share."""
        return self._columns[name][1]

    def dimension_names(self, name: str) -> tuple[str, ...]:
        """Return the sequence's dimension names if they fit its width, else `<sequence>_<i>`."""
        names, width = self._open[name].dimension_names, self.width(name)
        if names is None or len(names) != width:
            return tuple(f"{name}_{d}" for d in range(width))
        return names

    @property
    def reordered(self) -> dict[str, int]:
        """For each sequence, how many of the rows read so far start before the previous row."""
        counts: Counter[str] = Counter()
        for (name, _), count in self._reordered.items():
            counts[name] += count
        return dict(sorted(counts.items()))

    def where(self, name: str, video: str) -> str:
        """Return a sequence's file and video as the start of a message."""
        return f"{self._open[name].path}: entry {video!r}"

    def segments(self, name: str, video: str) -> Entry:
        """Read a video's rows of a label sequence in the file's order, which determines their ids.

        Raises:
            DhmdError: the video is absent, or split into several entries.
        """
        entries = self._entries[name].get(video, ())
        if list(entries) != [video]:
            state = f"split into entries such as {entries[0]!r}" if entries else "absent"
            raise DhmdError(
                f"{self._open[name].path}: video {video!r} is {state}; this sequence must have"
                " one entry per video"
            )
        return self._open[name].read(video)

    def rows(self, name: str, video: str) -> Entry:
        """Read a video's rows sorted by start; pieces `video[i]` are concatenated (source: SDK).

        A video that the sequence lacks has no rows. Some published files are not sorted, such as
        the features of MOSI's opinion segments, which are in the labels' order. `reordered` counts
        their rows.
        """
        parts = [self._open[name].read(entry) for entry in self._entries[name].get(video, ())]
        is_text, width = self._columns[name]
        for part in parts:
            columns = (part.features.dtype == object, part.features.shape[1])
            if len(part.features) and columns != (is_text, width):
                raise DhmdError(
                    f"{self.where(name, video)} has {_describe(*columns)}, but the sequence's"
                    f" first entry has {_describe(is_text, width)}"
                )
        parts = [part for part in parts if len(part.features)]
        if not parts:
            features = np.zeros((0, width), dtype=object if is_text else np.float64)
            return Entry(features=features, intervals=np.zeros((0, 2)))
        features = np.concatenate([part.features for part in parts])
        intervals = np.concatenate([part.intervals for part in parts])
        backward = int(np.count_nonzero(np.diff(intervals[:, 0]) < 0))
        if backward:
            order = np.argsort(intervals[:, 0], kind="stable")
            features, intervals = features[order], intervals[order]
            self._reordered[name, video] = backward
        return Entry(features=features, intervals=intervals)


def entries_by_video(
    ids: Mapping[str, Collection[str]],
) -> dict[str, dict[str, list[str]]]:
    """Group entry ids by video: an entry id is a video id, or a piece `video[i]` of a video.

    Entries `X[i]` are pieces of a video X if their file has no entry X, and either has an entry
    `X[0]` or another file has an entry X (an alignment may have dropped `X[0]`). If any file has
    both X and `X[i]`, then `X[i]` is a video id in all files. So `Talk [HD]`, `Talk [HQ]` and
    `clip[2020]` are videos.

    Args:
        ids: the entry ids of each sequence.

    Returns:
        The entry ids of each video of each sequence, pieces sorted by i.
    """
    entries_by_file = {name: frozenset(entries) for name, entries in ids.items()}
    all_entries = frozenset().union(*entries_by_file.values())
    stems = {entry: video_of(entry) for entry in all_entries if segment_row(entry) is not None}
    not_split = {
        stem
        for entries in entries_by_file.values()
        for entry in entries
        if (stem := stems.get(entry)) in entries
    }
    grouped: dict[str, dict[str, list[str]]] = {}
    for name, entries in entries_by_file.items():
        groups: dict[str, list[str]] = {}
        for entry in sorted(entries):
            stem = stems.get(entry)
            if stem is None or stem in not_split:
                groups[entry] = [entry]
            elif f"{stem}[0]" in entries or stem in all_entries:
                groups.setdefault(stem, []).append(entry)
            else:
                groups[entry] = [entry]
        for group in groups.values():
            group.sort(key=lambda entry: segment_row(entry) or 0)
        grouped[name] = groups
    return grouped


def _columns(sequence: ComputationalSequence) -> tuple[bool, int]:
    """Return whether a sequence has words, and its width, from its first entry with rows."""
    for entry_id in sequence.ids:
        is_text, shape = sequence.inspect(entry_id)
        if math.prod(shape):
            break
    # A file may store a single row without the first axis.
    return is_text, math.prod(shape[1:] if len(shape) > 1 else shape)


def _describe(is_text: bool, width: int) -> str:
    return f"{width} column{'s' if width != 1 else ''} of {'words' if is_text else 'numbers'}"
