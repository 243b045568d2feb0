"""Compute features of audio and frames with frozen encoders of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256, json_sha256
from dhmd.base.optional import import_optional, import_transformers
from dhmd.media.extractor import Extractor, Features, FrameCounts
from dhmd.media.ffmpeg import RATE

Array = np.ndarray[Any, Any]

_BATCH = 16  # frames that are encoded together
_WINDOW = 20  # seconds of audio that are encoded together
_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")


class _Encoder:
    """A model and its preprocessor. Code in the files of a model never runs.

    Args:
        source: a local folder, or the name of a model on the hub.
        preprocessor: the class of transformers that prepares the input.

    Attributes:
        names: names of the features.
        extractor: name, version and settings, for the metadata of the `.csd` file.
    """

    def __init__(self, source: str, preprocessor: str) -> None:
        transformers = import_transformers("media")
        try:
            folder = _folder(source)
            options = {"local_files_only": True, "trust_remote_code": False}
            self.prepare = getattr(transformers, preprocessor).from_pretrained(folder, **options)
            self.model = transformers.AutoModel.from_pretrained(
                folder, use_safetensors=True, **options
            ).eval()
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError) as error:
            raise DhmdError(
                f"{source} cannot be read as an encoder: {first_line(error)[:200]}"
            ) from error
        files = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
        name = Path(source).name
        self.names = tuple(f"{name}_{d}" for d in range(self.model.config.hidden_size))
        self.extractor = Extractor(
            name=name,
            version=json_sha256({path.name: file_sha256(path) for path in files}),
            settings={"layer": "last"},
        )

    def hidden(self, inputs: Any) -> Array:
        """Return the output of the last layer, shape [B, T, d]."""
        import torch

        with torch.no_grad():
            hidden_BTd: Array = self.model(**inputs).last_hidden_state.numpy()
        return hidden_BTd


class AudioEncoder(_Encoder):
    """An audio encoder, such as wav2vec 2.0, HuBERT or WavLM."""

    def __init__(self, source: str) -> None:
        super().__init__(source, "AutoFeatureExtractor")

    def __call__(self, sound: Array) -> Features:
        """Encode int16 samples, shape [N], in windows of 20 seconds."""
        values, intervals = [np.zeros((0, len(self.names)), np.float32)], [np.zeros((0, 2))]
        for start in range(0, len(sound), _WINDOW * RATE):
            window = sound[start : start + _WINDOW * RATE].astype(np.float32) / 32768
            if len(window) < RATE // 10:
                continue  # too short for such encoders
            inputs = self.prepare(window, sampling_rate=RATE, return_tensors="pt")
            rows_Td = self.hidden(inputs)[0]
            edges = (start + np.linspace(0, len(window), len(rows_Td) + 1)) / RATE
            values.append(rows_Td)
            intervals.append(np.stack([edges[:-1], edges[1:]], axis=1))
        return Features(np.concatenate(values), np.concatenate(intervals))


class ImageEncoder(_Encoder):
    """An image encoder, such as ViT or DINOv2; its features are the mean over the patches."""

    def __init__(self, source: str) -> None:
        super().__init__(source, "AutoImageProcessor")

    def __call__(self, frames: Iterable[Array], fps: float, counts: FrameCounts) -> Features:
        """Encode all frames, whether they show a face or not.

        Args:
            frames: uint8 frames, shape [H, H, 3].
            fps: number of frames per second.
            counts: counts of frames, which are updated.
        """
        values = [np.zeros((0, len(self.names)), np.float32)]
        remaining = iter(frames)
        while batch := list(islice(remaining, _BATCH)):
            inputs = self.prepare(batch, return_tensors="pt")
            values.append(self.hidden(inputs).mean(axis=1))
            counts.frames += len(batch)
        rows_Td = np.concatenate(values)
        starts = np.arange(len(rows_Td)) / fps
        return Features(rows_Td, np.stack([starts, starts + 1 / fps], axis=1))


def _folder(source: str) -> Path:
    """Return a local folder, or download the files of a model on the hub."""
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    hub = import_optional("huggingface_hub", "media")
    return Path(hub.snapshot_download(source, allow_patterns=list(_FILES)))
