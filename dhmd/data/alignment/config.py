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
    """The settings of section `align`."""

    drop_words: FromRecipe[tuple[str, ...]] = ()  # words to drop, such as the pause `sp`
    max_steps: FromRecipe[PositiveInt] = 50  # maximum length of a segment, in words
    # Maximum length of a segment in rows of each modality, if data.alignment is none.
    max_steps_unaligned: Steps = field(default_factory=dict)
    truncate: FromRecipe[Literal["first", "last"]] = "first"  # steps that a cut segment keeps
    # Modalities from which the mean of each video, which identifies the speaker, is subtracted.
    centre_by_video: FromRecipe[tuple[str, ...]] = ()
    # Videos that a sequence lacks: keep them with the modality absent, or drop them.
    incomplete_videos: FromRecipe[Literal["keep", "drop"]] = "keep"
    # Segments of zero length, without words or without rows.
    empty_segments: FromRecipe[Literal["drop", "keep"]] = "drop"
