"""The description of an alignment (`CorpusJob`), and what a model stores of it (`Origin`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from dhmd.base.errors import DhmdError
from dhmd.config.schema import CONFIG, as_json, load_section
from dhmd.data.aligned.corpus import ENCODER_SOURCE, Alignment
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.alignment.word_alignment import EPSILON
from dhmd.data.csd import EXTRACTOR_KEY
from dhmd.data.text.writer import EncoderSource, WordEncoder
from dhmd.recipes import Format, Labels, Recipe, SequenceFile


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusJob:
    """A corpus to align or check: its files and settings.

    Attributes:
        recipe: the dataset config.
        paths: the raw file of each sequence.
        align: section `align`.
        alignment: "word" (every modality has one row per word) or "none" (text has one row per
            word, the other modalities keep the rows of their files).
        folds_path: the folds file, or None.
        sources: the sha256 of each file, part of the corpus's identity.
        encoder: computes the words' vectors instead of reading them from a file; or None.
        epsilon: the minimum overlap in seconds.
    """

    recipe: Recipe
    paths: Mapping[str, Path] = field(default_factory=dict)
    align: AlignConfig
    alignment: Alignment
    folds_path: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    encoder: WordEncoder | None = None
    epsilon: float = EPSILON

    @property
    def encoder_source(self) -> EncoderSource | None:
        """The encoder's name and sha256, or None without an encoder."""
        return None if self.encoder is None else self.encoder.source

    @property
    def all_sources(self) -> dict[str, str]:
        """The sha256 of each source, including the encoder."""
        encoder = self.encoder_source
        return {**self.sources, **({} if encoder is None else {ENCODER_SOURCE: encoder.digest})}

    @property
    def reference(self) -> str:
        """The sequence whose rows are words."""
        assert self.recipe.reference is not None  # checked in dhmd/recipes.py
        return self.recipe.reference

    @property
    def modalities(self) -> dict[str, str]:
        """The sequence of each modality, in the recipe's order of modalities."""
        return {name: self.recipe.modalities[name] for name in self.recipe.modality_names}

    def is_word_level(self, modality: str) -> bool:
        """Return whether a modality has one step per word."""
        return self.alignment == "word" or modality == "text"

    def is_encoded(self, modality: str) -> bool:
        """Return whether the text encoder computes a modality's vectors."""
        return modality == "text" and self.encoder is not None

    def step_limit(self, modality: str) -> tuple[str, int]:
        """Return the key and the value of a modality's maximum number of steps per segment."""
        if self.alignment == "word":
            return "align.max_steps", self.align.max_steps
        key = f"align.max_steps_unaligned.{modality}"
        return key, self.align.max_steps_unaligned[modality]

    def with_words_as_text(self) -> CorpusJob:
        """Return the job with the words as text modality if it has an encoder, else itself.

        Raises:
            DhmdError: there is an encoder, but the recipe has no text.
        """
        if self.encoder is None:
            return self
        if "text" not in self.recipe.modalities:
            raise DhmdError(
                f"features.text requires an encoder's vectors, but {self.recipe.source} has no"
                " text: set features.text to words"
            )
        modalities = {**self.recipe.modalities, "text": self.reference}
        return dataclasses.replace(
            self, recipe=dataclasses.replace(self.recipe, modalities=modalities)
        )

    def check_sequences(self, sequences: Sequences) -> None:
        """Check that each sequence has words or numbers as the recipe expects.

        Raises:
            DhmdError: a sequence or a setting of section `align` does not fit.
        """
        for modality in self.align.centre_by_video:
            if modality not in self.modalities:
                raise DhmdError(
                    f"align.centre_by_video names {modality!r}, but the modalities of"
                    f" {self.recipe.source} are {', '.join(self.modalities)}"
                )
        for modality, name in self.modalities.items():
            if self.is_encoded(modality):
                if not sequences.is_text(self.reference):
                    raise DhmdError(
                        f"{sequences[self.reference].path}: features.text requires an encoder's"
                        f" vectors, but the reference {self.reference!r} has no words:"
                        " set features.text to words"
                    )
                if "text" in self.align.centre_by_video:
                    raise DhmdError(
                        "align.centre_by_video names text, whose vectors come from an encoder"
                        " (features.text): remove text from the list"
                    )
            elif sequences.is_text(name):
                raise DhmdError(
                    f"{sequences[name].path}: modality {modality} requires numbers, but the"
                    f" sequence {name!r} has words"
                    + ("; set features.text to contextual" if modality == "text" else "")
                )
        if self.align.drop_words and not sequences.is_text(self.reference):
            raise DhmdError(
                f"{sequences[self.reference].path}: align.drop_words is"
                f" {list(self.align.drop_words)}, but the reference {self.reference!r} has no"
                " words; set align.drop_words to []"
            )


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Origin:
    """The preparation of a corpus's features, to prepare files for prediction in the same way.

    The data report and the model directory store it, so that a model can be used without the
    dataset config and params.yaml.

    Attributes:
        format: the recipe's format.
        modalities: the sequence (or key) with the features of each modality.
        reference: the sequence whose rows are words; None in an imported format.
        files: the name of each sequence's file at its source, without directories.
        align: section `align`.
        epsilon: the minimum overlap in seconds.
        encoder: the text encoder that computed the words' vectors, or None.
        extractors: the extractor that the file of each sequence records.
        options: the options of an imported format.
        labels: the sequence of an imported format that has only labels, or None.
    """

    format: Format = "csd"
    modalities: Mapping[str, str]
    reference: str | None = None
    files: Mapping[str, str]
    align: AlignConfig
    epsilon: PositiveFloat = EPSILON
    encoder: EncoderSource | None = None
    extractors: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: str | None = None

    def __post_init__(self) -> None:
        if self.format == "csd" and self.reference is None:
            raise ValueError("reference is null, but must name the sequence of words")

    @staticmethod
    def from_job(job: CorpusJob, sequences: Sequences) -> Origin:
        """Return the origin of a corpus of computational sequences."""
        files = job.recipe.sequences
        names = dict.fromkeys([job.reference, *job.modalities.values()])
        extractors = {name: sequences[name].metadata.get(EXTRACTOR_KEY) for name in names}
        return Origin(
            modalities=job.modalities,
            reference=job.reference,
            files={name: PurePosixPath(files[name].path).name for name in names if name in files},
            align=job.align,
            epsilon=job.epsilon,
            encoder=job.encoder_source,
            extractors={name: value for name, value in extractors.items() if value is not None},
        )

    @staticmethod
    def from_import(job: CorpusJob) -> Origin:
        """Return the origin of a corpus of an imported format."""
        recipe = job.recipe
        return Origin(
            format=recipe.format,
            modalities=recipe.modalities,
            files={name: PurePosixPath(file.path).name for name, file in recipe.sequences.items()},
            align=job.align,
            encoder=job.encoder_source,
            options=recipe.options,
            labels=recipe.labels.sequence,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the origin as a JSON object."""
        value: dict[str, Any] = as_json(self)
        return value

    @staticmethod
    def from_json(value: object, source: str) -> Origin:
        """Create an origin from the value of `as_json`; messages name the file `source`."""
        return load_section(Origin, value, where="origin", source=source)

    def recipe(
        self, dataset: str, modalities: Iterable[str], files: Mapping[str, str] | None = None
    ) -> Recipe:
        """Return a recipe for files to predict; their labels are not read.

        Args:
            dataset: the recipe's name.
            modalities: the modalities to read.
            files: the file of each sequence; None for the names of the corpus's files.

        Raises:
            DhmdError: the corpus does not have a modality.
        """
        files = self.files if files is None else files
        try:
            return Recipe(
                name=dataset,
                title=dataset,
                format=self.format,
                options=self.options,
                sequences={name: SequenceFile(path=path) for name, path in files.items()},
                modalities={name: self.modalities[name] for name in modalities},
                reference=self.reference,
                # A recipe must name a label sequence.
                labels=Labels(sequence=self.labels or self.reference, low=0.0, high=1.0),
            )
        except (KeyError, ValueError) as error:
            raise DhmdError(
                f"the model of {dataset} was not trained on these modalities and files: {error}"
            ) from error

    def job(
        self,
        dataset: str,
        alignment: Alignment,
        modalities: Sequence[str],
        encoder: WordEncoder | None = None,
    ) -> CorpusJob:
        """Return the job of aligning `.csd` files to predict.

        Raises:
            DhmdError: the corpus does not have a modality.
        """
        names = dict.fromkeys([str(self.reference), *self.modalities.values()])
        return CorpusJob(
            recipe=self.recipe(dataset, modalities, {name: f"{name}.csd" for name in names}),
            align=self.align,
            alignment=alignment,
            encoder=encoder,
            epsilon=self.epsilon,
        )
