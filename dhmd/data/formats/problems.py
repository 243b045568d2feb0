"""All that is wrong with a corpus, gathered: a user mends a list, not one thing a run."""

from __future__ import annotations

from dhmd.base.errors import DhmdError


class ProblemsFoundError(DhmdError):
    """The first of the problems that were gathered."""


class Problems:
    """Sentences by kind: the first of a kind is kept whole, further ones are counted."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def add(self, kind: str, sentence: str) -> None:
        """Note one problem; `kind` groups those that are one mistake made many times."""
        self._first.setdefault(kind, sentence)
        self._count[kind] = self._count.get(kind, 0) + 1

    def sentences(self) -> list[str]:
        """One sentence a kind, saying how many there are of it."""
        return [
            sentence if self._count[kind] == 1 else f"{sentence} ({self._count[kind]} such)"
            for kind, sentence in self._first.items()
        ]

    def stop_if_any(self, dataset: str) -> None:
        """Raise the first problem, naming the command that lists the others.

        Raises:
            ProblemsFoundError: there is a problem.
        """
        sentences = self.sentences()
        if sentences:
            more = len(sentences) - 1
            rest = f"; {more} more: `dhmd data check {dataset}` lists them" if more else ""
            raise ProblemsFoundError(sentences[0] + rest)
