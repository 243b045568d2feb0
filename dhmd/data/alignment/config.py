"""Section `align` of `params.yaml`.

A field with `recipe` in its metadata may be null in params.yaml: then the recipe's value counts,
and where the recipe is silent the default here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def _steps(default: int, help: str) -> Any:
    return field(default=default, metadata={"recipe": True, "min": 1, "help": help})


@dataclass(frozen=True, kw_only=True)
class UnalignedSteps:
    """Longest segment of each modality, in its own rows, where data.alignment is none."""

    text: int = _steps(50, "words")
    audio: int = _steps(500, "rows of the acoustic sequence")
    vision: int = _steps(500, "rows of the visual sequence")


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """Section `align`."""

    drop_words: tuple[str, ...] = field(
        default=(), metadata={"recipe": True, "help": "words to leave out, such as the pause `sp`"}
    )
    max_steps: int = _steps(50, "words per segment at most")
    max_steps_unaligned: UnalignedSteps = field(default_factory=UnalignedSteps)
    truncate: Literal["first", "last"] = field(
        default="first", metadata={"recipe": True, "help": "which steps of a longer segment stay"}
    )
    centre_by_video: tuple[str, ...] = field(
        default=(),
        metadata={
            "recipe": True,
            "help": "modalities whose features lose each video's mean, and with it the speaker",
        },
    )
    incomplete_videos: Literal["keep", "drop"] = field(
        default="keep",
        metadata={
            "recipe": True,
            "help": "videos that a sequence lacks: keep (the modality is absent) or drop",
        },
    )
    empty_segments: Literal["drop", "keep"] = field(
        default="drop",
        metadata={"recipe": True, "help": "segments of no length, without words or without rows"},
    )

    def longest(self, modality: str, alignment: Literal["word", "none"]) -> int:
        """Return how many steps of a segment stay."""
        if alignment == "word":
            return self.max_steps
        return int(getattr(self.max_steps_unaligned, modality, UnalignedSteps.audio))
