"""What a corpus was aligned from and how, as JSON: enough to align new files alike.

It travels in the cache's data report to the model folder, so that a model can be used where neither
recipe nor params.yaml is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass

from dhmd.base.errors import DhmdError
from dhmd.config.schema import CONFIG, as_json, load_section
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.plan import Plan
from dhmd.data.alignment.words import EncoderSource
from dhmd.recipes import Labels, Recipe, SequenceFile


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Origin:
    """The part of a plan that does not speak of labels.

    Attributes:
        modalities: modality -> sequence.
        reference: the sequence whose rows are words.
        files: sequence -> the file's name at its source, without folders.
        align: section `align`.
        epsilon: seconds.
        encoder: what gave words their vectors, None where a sequence did.
    """

    modalities: Mapping[str, str]
    reference: str
    files: Mapping[str, str]
    align: AlignConfig
    epsilon: PositiveFloat
    encoder: EncoderSource | None = None

    @staticmethod
    def of(plan: Plan) -> Origin:
        """What is to be remembered of a plan."""
        listed = plan.recipe.sequences
        names = dict.fromkeys([plan.reference, *plan.modalities.values()])
        return Origin(
            modalities=plan.modalities,
            reference=plan.reference,
            files={name: PurePosixPath(listed[name].path).name for name in names if name in listed},
            align=plan.config,
            epsilon=plan.epsilon,
            encoder=plan.encoder,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        value: dict[str, Any] = as_json(self)
        return value

    @staticmethod
    def from_json(value: object, source: str) -> Origin:
        """The reverse of `as_json`.

        Raises:
            DhmdError: not such a value; the sentence names `source` and the key.
        """
        return load_section(Origin, value, where="origin", source=source)

    def plan(
        self, dataset: str, alignment: Literal["word", "none"], modalities: Sequence[str]
    ) -> Plan:
        """The plan for new files that hold some of the modalities, and no labels.

        Raises:
            DhmdError: a modality that the corpus did not have.
        """
        names = dict.fromkeys([self.reference, *self.modalities.values()])
        try:
            recipe = Recipe(
                name=dataset,
                title=dataset,
                format="csd",
                sequences={name: SequenceFile(path=f"{name}.csd") for name in names},
                modalities={name: self.modalities[name] for name in modalities},
                reference=self.reference,
                # A recipe must name one; who aligns without labels never reads it.
                labels=Labels(sequence=self.reference, low=0.0, high=1.0),
            )
        except (KeyError, ValueError) as error:
            raise DhmdError(f"{dataset} was not aligned from such sequences: {error}") from error
        return Plan(
            recipe=recipe,
            config=self.align,
            alignment=alignment,
            epsilon=self.epsilon,
            encoder=self.encoder,
        )
