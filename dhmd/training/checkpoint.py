"""Files of tensors: weights, and checkpoints of trainings in progress."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dhmd.base.files import atomic_file

CHECKPOINT = "checkpoint.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: object = None) -> None:
    """Write or replace a safetensors file with `notes`, any JSON value, as its metadata.

    Raises:
        DhmdError: the disk is full or the folder cannot be written.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = None if notes is None else {"notes": json.dumps(notes)}
    # Files of safetensors' own `save_file` would be readable only by their owner.
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(stored, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors and the notes of a file that `write_tensors` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged or has no notes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads(file.metadata()["notes"])
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Any] | None:
    """Return the tensors and the notes of a checkpoint; None if there is none or it is damaged."""
    try:
        return read_tensors(path)
    except (OSError, ValueError):
        return None
