"""The settings of a generated corpus: section `generator` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from dhmd.config.modalities import per_modality
from dhmd.config.schema import CONFIG, Share

Regime = Literal["noisy", "clean", "no_cue"]

_Shares = Mapping[Literal["text", "audio", "vision"], Share]
_Words = Annotated[int, Field(ge=4)]
_Dims = Annotated[int, Field(ge=8)]
_PerSecond = Annotated[float, Field(ge=2)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class GeneratorConfig:
    """The settings of a generated corpus. Equal settings give equal bytes.

    Raises:
        ValueError: two fields contradict each other.
    """

    # clean: no annotator noise; no_cue: noisy, and the features do not reveal the reliability.
    regime: Regime = "noisy"
    seed: NonNegativeInt = 0
    n_train: PositiveInt = 600  # utterances per split
    n_valid: PositiveInt = 200
    n_test: PositiveInt = 320
    segments_min: PositiveInt = 3  # utterances per video
    segments_max: PositiveInt = 9
    words_min: _Words = 4  # words per utterance
    words_max: _Words = 14
    text_dims: _Dims = 20  # values per word vector or frame
    audio_dims: _Dims = 36
    vision_dims: _Dims = 28
    audio_rate: _PerSecond = 5.0  # frames per second
    vision_rate: _PerSecond = 3.0
    noise: NonNegativeFloat = 1.3  # standard deviation of the annotator noise; unused in clean
    topic: Share = 0.06  # share of the ground truth's variance that the topic explains
    # Share of utterances whose words mean the opposite, which only a cue in the voice reveals.
    interaction: Share = 0.0
    # Correlation between a modality's features and its latent signal if it is reliable.
    strength: Annotated[_Shares, per_modality(0.8, text=0.95, audio=0.85)] = field(
        default_factory=dict
    )
    # Share of utterances in which a modality is misleading.
    misleading: Annotated[_Shares, per_modality(0.3, text=0.08)] = field(default_factory=dict)
    # Share of the ground truth's variance that only one modality shows.
    exclusive: Annotated[_Shares, per_modality(0.16, text=0.22)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for low, high in (("segments_min", "segments_max"), ("words_min", "words_max")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} is {getattr(self, low)}, above {high} {getattr(self, high)}; "
                    f"lower {low}"
                )
        if self.tone < 0:
            raise ValueError(
                f"topic and exclusive add up to {1 - self.tone:.3g}, but they are shares of one "
                "variance; keep the sum at 1 or less"
            )

    @property
    def tone(self) -> float:
        """The share of the ground truth's variance that the shared tone explains: the remainder."""
        shares = self.exclusive
        remainder = 1.0 - self.topic - shares["text"] - shares["audio"] - shares["vision"]
        return 0.0 if abs(remainder) < 1e-9 else remainder
