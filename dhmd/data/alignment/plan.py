"""How one corpus is to be aligned: recipe and configuration together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dhmd.base.errors import DhmdError
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.sources import Sequences
from dhmd.data.alignment.words import EncoderSource
from dhmd.recipes import Recipe

EPSILON = 1e-5  # seconds; a shorter overlap is none (source: SDK; its copy on PyPI has 1e-3)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every video is aligned by.

    Attributes:
        recipe: what is text, audio, vision, reference, labels, planted.
        config: section `align`.
        alignment: "word" (every modality has a row a word) or "none" (text has a row a word, the
            others keep their own rows).
        epsilon: seconds.
        encoder: what gives words their vectors, where no sequence does.
    """

    recipe: Recipe
    config: AlignConfig
    alignment: Literal["word", "none"]
    epsilon: float = EPSILON
    encoder: EncoderSource | None = None

    @property
    def reference(self) -> str:
        """The sequence whose rows are words."""
        assert self.recipe.reference is not None  # dhmd/recipes checks it
        return self.recipe.reference

    @property
    def modalities(self) -> dict[str, str]:
        """Modality -> sequence, in the order text, audio, vision."""
        return {name: self.recipe.modalities[name] for name in self.recipe.modality_names}

    @property
    def label_range(self) -> tuple[float, float]:
        """Lowest and highest label; of classes their indices."""
        labels = self.recipe.labels
        if labels.task == "classification":
            return 0.0, float(len(labels.classes) - 1)
        assert labels.low is not None  # dhmd/recipes checks it
        assert labels.high is not None
        return labels.low, labels.high

    def by_word(self, modality: str) -> bool:
        """Whether a modality's steps are words."""
        return self.alignment == "word" or modality == "text"

    def encodes(self, modality: str) -> bool:
        """Whether a modality's vectors come from the encoder."""
        return modality == "text" and self.encoder is not None

    def max_steps(self, modality: str) -> int:
        """How many steps of a segment stay."""
        if self.alignment == "word":
            return self.config.max_steps
        return self.config.max_steps_unaligned[modality]

    def check_roles(self, sequences: Sequences) -> None:
        """The sequences can play the roles that the recipe gives them.

        Raises:
            DhmdError: words where numbers belong or the reverse, or no video in common.
        """
        for modality, name in self.modalities.items():
            if self.encodes(modality):
                self._check_words(sequences)
            elif sequences.is_text(name):
                raise DhmdError(
                    f"{sequences[name].path}: modality {modality} needs numbers, but the sequence"
                    f" {name!r} holds words"
                    + ("; set features.text to contextual" if modality == "text" else "")
                )
        if self.config.drop_words and not sequences.is_text(self.reference):
            raise DhmdError(
                f"{sequences[self.reference].path}: align.drop_words is"
                f" {list(self.config.drop_words)}, but the reference {self.reference!r} holds no"
                " words; set it to []"
            )
        if not sequences.shared:
            raise DhmdError(
                f"no video is shared by all sequences of {self.recipe.name}"
                f" ({', '.join(self.recipe.needed)})"
            )

    def _check_words(self, sequences: Sequences) -> None:
        """An encoder needs words, and gives vectors that know no speaker's level."""
        if not sequences.is_text(self.reference):
            raise DhmdError(
                f"{sequences[self.reference].path}: features.text asks for an encoder's vectors,"
                f" but the reference {self.reference!r} holds no words: set it to words"
            )
        if "text" in self.config.centre_by_video:
            raise DhmdError(
                "align.centre_by_video names text, whose vectors come from an encoder"
                " (features.text): leave it out"
            )
