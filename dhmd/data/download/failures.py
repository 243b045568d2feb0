"""Why one source did not give a file; only `download` turns these into the user's sentence."""

from __future__ import annotations


class SourceFailure(Exception):  # noqa: N818 - a failure of one source is not yet an error
    """This source cannot give the file; the next source may. The message is a reason in words;
    `unreachable` says that the source gave no answer at all, whatever file was asked for."""

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


class Transient(SourceFailure):
    """As above, but the same request may succeed later: worth another attempt."""

    def __init__(
        self, reason: str, *, unreachable: bool = False, wait_s: float | None = None
    ) -> None:
        super().__init__(reason, unreachable=unreachable)
        self.wait_s = wait_s
