"""What a metrics folder was measured on: two of them compare only where this agrees."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from dhmd.base.errors import DhmdError
from dhmd.evaluation.metrics import METRICS

# How a score comes about: the metrics' definitions, selection on the validation split, the test
# split touched once after training. Raised by whoever changes one of them.
PROTOCOL = "1"


@dataclass(frozen=True)
class Identity:
    """Content of `identity.json`.

    corpus: the aligned cache's identity (recipe, fold, ids, splits, labels, sources' sha256).
    """

    dataset: str
    task: str
    corpus: str
    fold: str
    protocol: str = PROTOCOL

    def mapping(self) -> dict[str, str]:
        return asdict(self)


def identity_from(mapping: object, source: str) -> Identity:
    """The identity in a parsed `identity.json`.

    Raises:
        DhmdError: keys missing or not text, an unknown task; the sentence names `source`.
    """
    names = [field.name for field in fields(Identity)]
    if not isinstance(mapping, dict) or sorted(mapping) != sorted(names):
        raise DhmdError(f"{source} must hold exactly {', '.join(names)}; run dvc repro to write it")
    for name, value in mapping.items():
        if not isinstance(value, str) or not value:
            raise DhmdError(f"{source}: {name} is {value!r}, but must be text")
    if mapping["task"] not in METRICS:
        raise DhmdError(
            f"{source}: task is {mapping['task']!r}, but must be {' or '.join(METRICS)}"
        )
    return Identity(**mapping)
