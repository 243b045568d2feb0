"""The store of finished trainings: one file per ensemble member, found by all that determines it.

Stages assemble their outputs from the store, so that a new variant, baseline or seed trains nothing
but itself. DVC removes a stage's outputs before it runs the stage; the store lies elsewhere, in
`.dhmd/trainings`:

    <key>.safetensors   a finished ensemble member
    tasks/<id>/         a task in progress: its description, checkpoint, events and log

After each job the least recently used files and tasks are removed until the store has at most
`LIMIT` bytes. What was used within the last day stays.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dhmd
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256, json_sha256, whole_file
from dhmd.data.aligned.corpus import Array
from dhmd.models.registry import code_files
from dhmd.training.checkpoint import read_tensors, write_tensors
from dhmd.training.configuration import Configuration

LIMIT = 10 << 30  # bytes
DAY = 86_400.0  # seconds

# What every training's numbers depend on, besides the code of its model.
_CODE = ("training", "data/aligned", "data/text")


@dataclass(frozen=True)
class TrainedMember:
    """One ensemble member after training.

    Attributes:
        parameters: by name, without an ensemble axis.
        arrays: its outputs for every utterance of the corpus, `[N, …]` by dataset name.
        history: rows of epoch, metric and value.
    """

    parameters: dict[str, Tensor]
    arrays: dict[str, Array]
    history: list[tuple[int, str, float]]


class Store:
    """Finished trainings in a folder, by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tasks = folder / "tasks"

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self._file(key).is_file()

    def write(self, key: str, member: TrainedMember) -> None:
        """Store a member.

        Raises:
            DhmdError: the disk is full or the folder cannot be written.
        """
        tensors = {f"parameter/{name}": value for name, value in member.parameters.items()}
        kinds = {}
        for name, array in member.arrays.items():
            # Most entries of the dictionary codes are 0: a tenth of the bytes is left.
            packed = bytearray(zlib.compress(array.tobytes(), 1))
            tensors[f"array/{name}"] = torch.frombuffer(packed, dtype=torch.uint8)
            kinds[name] = (array.dtype.str, array.shape)
        with whole_file(self._file(key)) as temporary:
            write_tensors(temporary, tensors, {"arrays": kinds, "history": member.history})

    def read(self, key: str) -> TrainedMember:
        """Return a stored member and note that it was used.

        Raises:
            DhmdError: its file is damaged or gone.
        """
        path = self._file(key)
        try:
            tensors, notes = read_tensors(path)
            parameters = {
                name.removeprefix("parameter/"): tensor
                for name, tensor in tensors.items()
                if name.startswith("parameter/")
            }
            arrays = {
                name: np.frombuffer(
                    zlib.decompress(tensors[f"array/{name}"].numpy().tobytes()), dtype
                ).reshape(shape)
                for name, (dtype, shape) in notes["arrays"].items()
            }
            history = [(int(epoch), name, float(v)) for epoch, name, v in notes["history"]]
        except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
            with suppress(OSError):
                path.unlink()
            raise DhmdError(
                f"{path} cannot be read ({first_line(error)}) and was removed: run the stage "
                "again to train what it held"
            ) from error
        with suppress(OSError):  # a store that cannot be written can be read
            os.utime(path)
        return TrainedMember(parameters, arrays, history)

    def prune(self) -> None:
        """Remove what was not used for longest, down to `LIMIT` bytes."""
        for lock in self.tasks.glob("*.lock"):  # of killed processes
            if not lock.with_suffix("").exists() and lock.stat().st_mtime < time.time() - DAY:
                lock.unlink(missing_ok=True)
        found = []
        for path in (*self.folder.glob("*.safetensors"), *self.tasks.glob("*/")):
            try:
                files = [path] if path.is_file() else list(path.iterdir())
                used = max(file.stat().st_mtime for file in (path, *files))
                found.append((used, sum(file.stat().st_size for file in files), path))
            except FileNotFoundError:
                continue  # another process removed it
        kept = 0
        for used, size, path in sorted(found, reverse=True):
            kept += size
            if kept > LIMIT and used < time.time() - DAY:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def training_key(
    configuration: Configuration,
    seed: int,
    device: torch.device,
    **inputs: object,
) -> str:
    """Return the key of one member: a hash of all that determines the result of its training.

    The number of processes and threads and the members that train beside it are no part of it:
    they change the result by rounding alone.

    Args:
        inputs: JSON values that identify the data, the pretrained weights, and so on.
    """
    described = configuration.as_json()
    for name in ("seeds", "threads", "workers", "device", "cuda_graph"):
        described["train"].pop(name)
    key = {
        "configuration": described,
        "seed": seed,
        "environment": environment(device, configuration.architecture),
        **inputs,
    }
    return json_sha256(key)[:32]


def environment(device: torch.device, architecture: str = "dhmd") -> dict[str, Any]:
    """Return what decides a result's last bit besides configuration and data, as JSON values."""
    return {
        "code": code_sha256(architecture),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "device": device.type,
    }


@lru_cache
def code_sha256(architecture: str) -> str:
    """Return the sha256 of the source files that define a model and its training."""
    package = Path(dhmd.__file__).parent
    files = [path for name in _CODE for path in sorted((package / name).glob("*.py"))]
    files += code_files(architecture)
    return json_sha256([(path.name, file_sha256(path)) for path in files])
