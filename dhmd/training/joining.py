"""One event an epoch, though the members train in several processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from dhmd.training.observer import Observer

Rows = Mapping[str, Mapping[str, float]]


class EpochJoin:
    """Tells the observer of an epoch once every part that still trains has done it.

    So the order of events does not depend on which process was quicker. A part that was resumed
    later than another begins with a later epoch; the other's earlier ones are told alone.

    Args:
        names: of all members, in the order of an event's rows.
        parts: how many processes' work is joined.
    """

    def __init__(self, observer: Observer, names: Sequence[str], parts: int) -> None:
        self._observer = observer
        self._place = {name: index for index, name in enumerate(names)}
        self._waiting: list[deque[tuple[int, Rows]]] = [deque() for _ in range(parts)]
        self._ended = [False] * parts

    def epoch(self, part: int, epoch: int, rows: Rows) -> None:
        """A part has done an epoch."""
        self._waiting[part].append((epoch, rows))
        self._tell()

    def ended(self, part: int) -> None:
        """A part will send no more."""
        self._ended[part] = True
        self._tell()

    def interrupted(self) -> None:
        """Tell what is known already: it is saved, and a resumed training does not repeat it."""
        self._ended = [True] * len(self._ended)
        self._tell()

    def _tell(self) -> None:
        while any(self._waiting) and all(
            waiting or ended for waiting, ended in zip(self._waiting, self._ended, strict=True)
        ):
            first = min(waiting[0][0] for waiting in self._waiting if waiting)
            rows: dict[str, Mapping[str, float]] = {}
            for waiting in self._waiting:
                if waiting and waiting[0][0] == first:
                    rows |= waiting.popleft()[1]
            self._observer.epoch(
                first, {name: rows[name] for name in sorted(rows, key=self._place.__getitem__)}
            )
