"""The extractor of features, which is recorded in the metadata of their file and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dhmd.base.errors import DhmdError


class Features(NamedTuple):
    """Features of one media file.

    Attributes:
        values: float32 features, or words, shape [T, d].
        intervals: start and end of each row in seconds, shape [T, 2].
    """

    values: np.ndarray[Any, Any]
    intervals: np.ndarray[Any, Any]


@dataclass
class FrameCounts:
    """The number of frames, of those without a face, and of those with several faces."""

    frames: int = 0
    no_face: int = 0
    several_faces: int = 0


@dataclass(frozen=True)
class Extractor:
    """The name, version and settings of a program; all must be equal to compare features."""

    name: str
    version: str
    settings: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the value of the metadata key `extractor`."""
        return asdict(self)


def check_extractor(path: Path, actual: object, expected: object) -> None:
    """Check that features have the expected extractor, with the same version and settings.

    Args:
        path: the file of the features, for the message.
        actual: value of the metadata key `extractor`; None if it is absent.
        expected: the value of the features with which these must be comparable.

    Raises:
        DhmdError: the extractors differ.
    """
    if actual != expected:
        raise DhmdError(
            f"{path} has features of {describe_extractor(actual)}, but features of "
            f"{describe_extractor(expected)} are required: extract the features again"
        )


def describe_extractor(extractor: object) -> str:
    """Return the name, version and settings of an extractor, for messages."""
    if not isinstance(extractor, Mapping):
        return "an extractor that is not recorded"
    settings = extractor.get("settings")
    pairs = settings.items() if isinstance(settings, Mapping) else ()
    text = ", ".join(f"{key} {value}" for key, value in pairs)
    return f"{extractor.get('name')} {extractor.get('version')} ({text})"
