"""What computed the features of a file: recorded in its metadata, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dhmd.base.errors import DhmdError


class Features(NamedTuple):
    """Features of one file: values `[T, d]` float32, intervals `[T, 2]` seconds."""

    values: np.ndarray[Any, Any]
    intervals: np.ndarray[Any, Any]


@dataclass
class FrameCounts:
    """How many frames were seen, how many of them show no face, and how many several."""

    frames: int = 0
    no_face: int = 0
    several_faces: int = 0


@dataclass(frozen=True)
class Extractor:
    """The program, its version and its settings; features are comparable only if all agree."""

    name: str
    version: str
    settings: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the value of the metadata key `extractor`."""
        return asdict(self)


def check_extractor(path: Path, found: object, expected: object) -> None:
    """Refuse features that another extractor made, or the same one with other settings.

    Args:
        path: the file with the features, for the message.
        found, expected: values of the metadata key `extractor`; None where there is none.
    """
    if found != expected:
        raise DhmdError(
            f"{path} has features of {describe_extractor(found)}, but features of "
            f"{describe_extractor(expected)} are needed: extract them again"
        )


def describe_extractor(extractor: object) -> str:
    """Return the name, version and settings of an extractor, for messages."""
    if not isinstance(extractor, Mapping):
        return "an extractor that is not recorded"
    settings = extractor.get("settings")
    listed = settings.items() if isinstance(settings, Mapping) else ()
    inside = ", ".join(f"{key} {value}" for key, value in listed)
    return f"{extractor.get('name')} {extractor.get('version')} ({inside})"
