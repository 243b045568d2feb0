"""The settings of alignment: section `align` of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from dhmd.config.modalities import per_modality
from dhmd.config.schema import CONFIG, FromRecipe

Steps = Annotated[Mapping[str, FromRecipe[PositiveInt]], per_modality(500, text=50)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class AlignConfig:
    """Section `align`."""

    drop_words: FromRecipe[tuple[str, ...]] = ()  # words to leave out, such as the pause `sp`
    max_steps: FromRecipe[PositiveInt] = 50  # longest segment, in words
    # Longest segment in each modality's own rows, where data.alignment is none.
    max_steps_unaligned: Steps = field(default_factory=dict)
    truncate: FromRecipe[Literal["first", "last"]] = "first"  # steps of a longer segment that stay
    # Modalities from which the mean of each video is subtracted, which identifies the speaker.
    centre_by_video: FromRecipe[tuple[str, ...]] = ()
    # Videos that a sequence lacks: kept with the modality absent, or dropped.
    incomplete_videos: FromRecipe[Literal["keep", "drop"]] = "keep"
    # Segments of no length, without words or without rows.
    empty_segments: FromRecipe[Literal["drop", "keep"]] = "drop"
