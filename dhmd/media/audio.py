"""Compute audio features: the eGeMAPS low-level descriptors of openSMILE."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from dhmd.base.optional import import_optional
from dhmd.media.extractor import Extractor, Features
from dhmd.media.ffmpeg import RATE

Array = np.ndarray[Any, Any]

TERMS = (
    "openSMILE is free for research, education and private use; commercial use needs a licence "
    "from audEERING (https://www.audeering.com)"
)
_STEP = 0.01  # seconds between descriptors


class OpenSmile:
    """eGeMAPS v02 low-level descriptors, 100 per second (Eyben et al., IEEE TAC 2016).

    Attributes:
        names: names of the features.
        extractor: name, version and settings, for the metadata of the `.csd` file.
    """

    def __init__(self) -> None:
        opensmile = import_optional("opensmile", "media")
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02,
            feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
        )
        self.names = tuple(str(name) for name in self._smile.feature_names)
        self.extractor = Extractor(
            name="openSMILE",
            version=importlib.metadata.version("opensmile"),
            settings={"feature_set": "eGeMAPSv02", "level": "low-level descriptors", "rate": 100},
        )

    def __call__(self, sound: Array) -> Features:
        """Compute the descriptors of int16 samples, shape [N]."""
        frame = self._smile.process_signal(sound.astype(np.float32) / 32768, RATE)
        starts = np.arange(len(frame)) * _STEP
        return Features(
            values=frame.to_numpy(dtype=np.float32),
            intervals=np.stack([starts, starts + _STEP], axis=1),
        )
