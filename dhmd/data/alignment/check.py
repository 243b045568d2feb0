"""Everything that would stop the alignment, found at once instead of one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.data.aligned import assign_splits, read_folds
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.gathered import Gathered
from dhmd.data.alignment.labels import read_segments
from dhmd.data.alignment.plan import Plan
from dhmd.data.alignment.sources import Sequences
from dhmd.data.alignment.video import align_video
from dhmd.data.alignment.words import WordEncoder, reading_words
from dhmd.recipes import Recipe

T = TypeVar("T")


class _Problems:
    """Sentences, each once, in the order in which they were met."""

    def __init__(self) -> None:
        self.sentences: dict[str, None] = {}

    def attempt(self, action: Callable[[], T]) -> T | None:
        """The action's result, or None where it failed: then its sentence is kept."""
        try:
            return action()
        except DhmdError as error:
            self.sentences[str(error)] = None
            return None


def check_corpus(
    sequence_paths: Mapping[str, Path],
    recipe: Recipe,
    align: AlignConfig,
    *,
    alignment: Literal["word", "none"],
    folds_path: Path,
    encoder: WordEncoder | None = None,
) -> list[str]:
    """Every problem that `align_corpus` would refuse, a sentence each; nothing is written.

    All files are read to their end: of MOSEI that is minutes.
    """
    problems = _Problems()
    if encoder is not None:
        words = problems.attempt(lambda: reading_words(recipe))
        if words is None:
            return list(problems.sentences)
        recipe = words
    plan = Plan(
        recipe=recipe,
        config=align,
        alignment=alignment,
        encoder=None if encoder is None else encoder.source,
    )
    folds = problems.attempt(lambda: read_folds(folds_path))
    unreadable = _Problems()
    for name in recipe.needed:
        unreadable.attempt(lambda name=name: Sequences(sequence_paths, [name]).close())  # type: ignore[misc]
    if unreadable.sentences:
        return [*problems.sentences, *unreadable.sentences]
    with Sequences(sequence_paths, recipe.needed) as sequences:
        problems.attempt(lambda: plan.check_roles(sequences))
        gathered = Gathered(plan)
        for video in progress(sequences.shared, f"check {recipe.name}", unit="video"):
            _check_video(problems, plan, sequences, gathered, video)
        if folds is not None and sequences.shared:
            assigned = gathered.videos or list(sequences.shared)
            problems.attempt(lambda: assign_splits(folds, assigned, where=str(folds_path)))
    return list(problems.sentences)


def _check_video(
    problems: _Problems, plan: Plan, sequences: Sequences, gathered: Gathered, video: str
) -> None:
    rows = problems.attempt(lambda: read_segments(sequences, plan.recipe, video))
    # Each sequence by itself, so that one that is damaged hides no other.
    names = dict.fromkeys([plan.reference, *plan.modalities.values()])
    whole = [problems.attempt(lambda name=name: sequences.rows(name, video)) for name in names]  # type: ignore[misc]
    if rows is None or not len(rows.labels_S) or any(entry is None for entry in whole):
        return
    aligned = problems.attempt(lambda: align_video(sequences, video, rows.intervals_S2, plan))
    if aligned is not None:
        gathered.add(video, rows, aligned)
