"""The sequences of one corpus, opened side by side and read video by video."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.csd import ComputationalSequence, Entry, open_sequence, segment_row, video_of

Array = np.ndarray[Any, Any]


class Sequences:
    """The named sequences, open; a context manager.

    Attributes:
        names: the sequences' names.
        shared: the videos that every sequence has, sorted.
        not_shared: video -> names of the sequences that lack it.
    """

    def __init__(self, paths: Mapping[str, Path], names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._reordered: dict[tuple[str, str], int] = {}
        self._form: dict[str, tuple[bool, int]] = {}
        self._open: dict[str, ComputationalSequence] = {}
        with ExitStack() as stack:
            for name in self.names:
                self._open[name] = stack.enter_context(open_sequence(paths[name]))
                self._form[name] = _form(self._open[name])
            self._entries = entries_by_video({n: s.ids for n, s in self._open.items()})
            self._stack = stack.pop_all()
        everywhere = sorted(set().union(*self._entries.values()))
        self.not_shared = {
            video: lacking for video in everywhere if (lacking := self.lacking(video))
        }
        self.shared = tuple(video for video in everywhere if video not in self.not_shared)

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
        """Return the names of the sequences that lack a video."""
        return [name for name, entries in self._entries.items() if video not in entries]

    def is_text(self, name: str) -> bool:
        """Return whether a sequence has words."""
        return self._form[name][0]

    def width(self, name: str) -> int:
        """Return the number of columns of a sequence, which every entry must have."""
        return self._form[name][1]

    def dimension_names(self, name: str) -> tuple[str, ...]:
        """Return the sequence's dimension names if they fit its width, else `<sequence>_<i>`."""
        names, width = self._open[name].dimension_names, self.width(name)
        if names is None or len(names) != width:
            return tuple(f"{name}_{d}" for d in range(width))
        return names

    @property
    def reordered(self) -> dict[str, int]:
        """Sequence -> number of rows so far that start before the previous row."""
        counts: Counter[str] = Counter()
        for (name, _), back in self._reordered.items():
            counts[name] += back
        return dict(sorted(counts.items()))

    def where(self, name: str, video: str) -> str:
        """Return a sequence's file and video, for messages."""
        return f"{self._open[name].path}: entry {video!r}"

    def segments(self, name: str, video: str) -> Entry:
        """Read rows of a labels-like sequence in the file's order, which gives them their ids."""
        entries = self._entries[name].get(video, ())
        if list(entries) != [video]:
            found = f"split into entries such as {entries[0]!r}" if entries else "absent"
            raise DhmdError(
                f"{self._open[name].path}: video {video!r} is {found}; this sequence must have"
                " one entry per video"
            )
        return self._open[name].read(video)

    def rows(self, name: str, video: str) -> Entry:
        """Read a video's rows in time order; pieces `video[i]` are joined (source: SDK).

        A video that the sequence lacks has no rows. Real files have rows that go back in time
        (features of MOSI's opinion segments, listed in the labels' order); the SDK sorts them by
        start, and so do we, counting them.
        """
        parts = [self._open[name].read(entry) for entry in self._entries[name].get(video, ())]
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
        features = np.concatenate([part.features for part in parts])
        intervals = np.concatenate([part.intervals for part in parts])
        back = int(np.count_nonzero(np.diff(intervals[:, 0]) < 0))
        if back:
            order = np.argsort(intervals[:, 0], kind="stable")
            features, intervals = features[order], intervals[order]
            self._reordered[name, video] = back
        return Entry(features=features, intervals=intervals)


def entries_by_video(
    ids: Mapping[str, Collection[str]],
) -> dict[str, dict[str, list[str]]]:
    """Group entry ids by video: an id is a video id unless its file splits a video into pieces.

    A file splits a video X if it has pieces `X[i]` and no X itself, and either `X[0]` is among the
    pieces or another file has X (after an alignment pieces may be missing). A file that has both X
    and some `X[i]` shows that `X[i]` is a video id, in all files. So `Talk [HD]`, `Talk [HQ]` and
    `clip[2020]` are videos of their own.

    Args:
        ids: sequence -> entry ids.

    Returns:
        Sequence -> video -> its entry ids, pieces in the order of their i.
    """
    known = {name: frozenset(entries) for name, entries in ids.items()}
    anywhere = frozenset().union(*known.values())
    stems = {entry: video_of(entry) for entry in anywhere if segment_row(entry) is not None}
    not_split = {
        stem for own in known.values() for entry in own if (stem := stems.get(entry)) in own
    }
    grouped: dict[str, dict[str, list[str]]] = {}
    for name, own in known.items():
        groups: dict[str, list[str]] = {}
        for entry in sorted(own):
            stem = stems.get(entry)
            whole = stem is None or stem in not_split
            if stem is None or whole or not (f"{stem}[0]" in own or stem in anywhere):
                groups[entry] = [entry]
            else:
                groups.setdefault(stem, []).append(entry)
        for group in groups.values():
            group.sort(key=lambda entry: segment_row(entry) or 0)
        grouped[name] = groups
    return grouped


def _form(sequence: ComputationalSequence) -> tuple[bool, int]:
    """Return whether the sequence has words, and its columns, from the first entry with rows."""
    forms = map(sequence.form, sequence.ids)
    is_text, shape = next((form for form in forms if math.prod(form[1])), None) or sequence.form(
        sequence.ids[0]
    )
    # One row may have been written without its axis.
    return is_text, math.prod(shape[1:] if len(shape) > 1 else shape)


def _described(is_text: bool, width: int) -> str:
    return f"{width} column{'s' if width != 1 else ''} of {'words' if is_text else 'numbers'}"
