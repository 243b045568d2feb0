"""The encoder that the settings, or a model's origin, ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import EncoderSource
from dhmd.data.contextual.contextual import Contextual
from dhmd.data.text_encoder.config import FeaturesConfig
from dhmd.data.text_encoder.loading import load_encoder

# One: the result is the same to the bit on any number of cores, a batch is small, and threads that
# wait for each other on a shared machine take many times longer.
_THREADS = 1

Device = Literal["auto", "cpu", "cuda"]


def open_contextual(
    features: FeaturesConfig, root: Path, *, device: Device = "auto", threads: int | None = None
) -> Contextual:
    """The encoder that section `features` names.

    Args:
        root: where relative folders count from.
        device, threads: as section `train` has them; null threads: one.

    Raises:
        DhmdError: the extra is not installed, or the encoder is absent or not usable.
    """
    torch.set_num_threads(threads or _THREADS)
    encoder = load_encoder(features.encoder, root, device=_place(device))
    return Contextual(encoder, trained=features.text == "finetune")


def reopen_contextual(source: EncoderSource, root: Path, *, device: Device) -> Contextual:
    """The encoder that a corpus was aligned with.

    Raises:
        DhmdError: it is absent, or another one lies in its place.
    """
    contextual = Contextual(load_encoder(source.written, root, device=_place(device)))
    if contextual.source.digest != source.digest:
        raise DhmdError(
            f"{contextual.encoder.place.folder} is another encoder than the one that the model was "
            f"trained with: the sha256 over its files is {contextual.source.digest[:16]}…, and was "
            f"{source.digest[:16]}…"
        )
    return contextual


def _place(device: Device) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise DhmdError("the device is cuda, but torch sees no GPU here; use auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
