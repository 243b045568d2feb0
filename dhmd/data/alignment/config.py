"""What `params.yaml` may say of alignment: section `align`.

A field with `recipe` in its metadata may be null in params.yaml: then the recipe's value counts,
and where the recipe is silent the default here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

MODALITIES = ("text", "audio", "vision")


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
    max_steps: int = _steps(50, "words a segment at most")
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
    empty_segments: Literal["drop", "keep"] = field(
        default="drop",
        metadata={"recipe": True, "help": "segments of no length, without words or without rows"},
    )

    def __post_init__(self) -> None:
        unknown = [name for name in self.centre_by_video if name not in MODALITIES]
        if unknown:
            raise ValueError(
                f"centre_by_video names {unknown[0]!r}, which is not one of {', '.join(MODALITIES)}"
            )
