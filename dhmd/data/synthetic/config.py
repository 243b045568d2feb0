"""Section `generator` of a dataset config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Regime = Literal["noisy", "clean", "no_cue"]


def _count(default: int, help: str, *, least: int = 1) -> Any:
    return field(default=default, metadata={"min": least, "help": help})


def _share(default: float, help: str) -> Any:
    return field(default=default, metadata={"min": 0.0, "max": 1.0, "help": help})


def _rate(default: float, help: str) -> Any:
    return field(default=default, metadata={"min": 2.0, "help": help})


@dataclass(frozen=True, kw_only=True)
class StrengthConfig:
    """Correlation of what a reliable modality shows with the latent behind it."""

    text: float = _share(0.95, "text")
    audio: float = _share(0.85, "audio")
    vision: float = _share(0.8, "vision")


@dataclass(frozen=True, kw_only=True)
class MisleadingConfig:
    """Share of the utterances in which a modality misleads."""

    text: float = _share(0.08, "text")
    audio: float = _share(0.3, "audio")
    vision: float = _share(0.3, "vision")


@dataclass(frozen=True, kw_only=True)
class ExclusiveConfig:
    """Share of the truth's variance that only this modality carries."""

    text: float = _share(0.22, "text")
    audio: float = _share(0.16, "audio")
    vision: float = _share(0.16, "vision")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """One synthetic corpus. Equal configurations give equal bytes.

    Raises:
        ValueError: the fields contradict each other; the sentence names them.
    """

    regime: Regime = field(
        default="noisy",
        metadata={"help": "clean: no annotator noise; no_cue: noisy, reliability invisible"},
    )
    seed: int = _count(0, "which corpus of this kind", least=0)
    n_train: int = _count(600, "utterances to train on")
    n_valid: int = _count(200, "utterances to select on")
    n_test: int = _count(320, "utterances to test on")
    segments_min: int = _count(3, "utterances per video at least")
    segments_max: int = _count(9, "utterances per video at most")
    words_min: int = _count(4, "words per utterance at least", least=4)
    words_max: int = _count(14, "words per utterance at most", least=4)
    text_dims: int = _count(20, "length of a word vector", least=8)
    audio_dims: int = _count(36, "length of an audio frame", least=8)
    vision_dims: int = _count(28, "length of a vision frame", least=8)
    audio_rate: float = _rate(5.0, "audio frames per second")
    vision_rate: float = _rate(3.0, "vision frames per second")
    noise: float = field(
        default=1.3, metadata={"min": 0.0, "help": "annotator noise sd (unused in clean)"}
    )
    topic: float = _share(0.06, "share of the truth's variance that the topic carries")
    strength: StrengthConfig = field(default_factory=StrengthConfig)
    misleading: MisleadingConfig = field(default_factory=MisleadingConfig)
    exclusive: ExclusiveConfig = field(default_factory=ExclusiveConfig)

    def __post_init__(self) -> None:
        for low, high in (("segments_min", "segments_max"), ("words_min", "words_max")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} is {getattr(self, low)}, above {high} {getattr(self, high)}; lower it"
                )
        if self.tone < 0:
            raise ValueError(
                f"topic and exclusive add up to {1 - self.tone:.3g}, but they are shares of one "
                "variance; keep the sum at 1 or less"
            )

    @property
    def tone(self) -> float:
        """Share of the truth's variance that the shared tone carries: what the others leave."""
        own = self.exclusive
        rest = 1.0 - self.topic - own.text - own.audio - own.vision
        return 0.0 if abs(rest) < 1e-9 else rest
