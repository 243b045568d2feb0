"""Features of sound and frames by encoders of the Hugging Face hub, frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
_WINDOW = 20  # seconds of sound that are encoded together
_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")


class _Encoder:
    """A model with its preprocessor; code that a model brings along never runs.

    Args:
        written: a local folder, or a name on the hub.
        preprocessor: the class of transformers that prepares the input.
    """

    def __init__(self, written: str, preprocessor: str) -> None:
        library = import_transformers("media")
        try:
            folder = _folder(written)
            options = {"local_files_only": True, "trust_remote_code": False}
            self.prepare = getattr(library, preprocessor).from_pretrained(folder, **options)
            self.model = library.AutoModel.from_pretrained(
                folder, use_safetensors=True, **options
            ).eval()
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError) as error:
            raise DhmdError(
                f"{written} is not an encoder that can be read: {first_line(error)[:200]}"
            ) from error
        files = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
        name = Path(written).name
        self.names = tuple(f"{name}_{d}" for d in range(self.model.config.hidden_size))
        self.extractor = Extractor(
            name=name,
            version=json_sha256({path.name: file_sha256(path) for path in files}),
            settings={"layer": "last"},
        )

    def hidden(self, inputs: Any) -> Array:
        """Return the last layer, `[B, T, d]`."""
        import torch

        with torch.no_grad():
            found: Array = self.model(**inputs).last_hidden_state.numpy()
        return found


class AudioEncoder(_Encoder):
    """An encoder of sound, such as wav2vec 2.0, HuBERT or WavLM."""

    def __init__(self, written: str) -> None:
        super().__init__(written, "AutoFeatureExtractor")

    def __call__(self, sound: Array) -> Features:
        """Encode `[N]` int16 samples, in windows of 20 seconds."""
        values, intervals = [np.zeros((0, len(self.names)), np.float32)], [np.zeros((0, 2))]
        for start in range(0, len(sound), _WINDOW * RATE):
            piece = sound[start : start + _WINDOW * RATE].astype(np.float32) / 32768
            if len(piece) < RATE // 10:
                continue  # shorter than what such encoders read at once
            inputs = self.prepare(piece, sampling_rate=RATE, return_tensors="pt")
            rows_Td = self.hidden(inputs)[0]
            edges = (start + np.linspace(0, len(piece), len(rows_Td) + 1)) / RATE
            values.append(rows_Td)
            intervals.append(np.stack([edges[:-1], edges[1:]], axis=1))
        return Features(np.concatenate(values), np.concatenate(intervals))


class ImageEncoder(_Encoder):
    """An encoder of images, such as ViT or DINOv2: the mean of a frame's patches."""

    def __init__(self, written: str) -> None:
        super().__init__(written, "AutoImageProcessor")

    def __call__(self, frames: Iterable[Array], fps: float, counts: FrameCounts) -> Features:
        """Encode `[H, H, 3]` uint8 frames, whether they show a face or not."""
        values = [np.zeros((0, len(self.names)), np.float32)]
        for batch in _batches(iter(frames)):
            inputs = self.prepare(batch, return_tensors="pt")
            values.append(self.hidden(inputs).mean(axis=1))
            counts.frames += len(batch)
        rows_Td = np.concatenate(values)
        starts = np.arange(len(rows_Td)) / fps
        return Features(rows_Td, np.stack([starts, starts + 1 / fps], axis=1))


def _folder(written: str) -> Path:
    if Path(written).expanduser().is_dir():
        return Path(written).expanduser()
    hub = import_optional("huggingface_hub", "media")
    return Path(hub.snapshot_download(written, allow_patterns=list(_FILES)))


def _batches(frames: Iterator[Array]) -> Iterator[list[Array]]:
    while batch := list(islice(frames, _BATCH)):
        yield batch
