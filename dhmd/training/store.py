"""The store of finished trainings: one file per ensemble member, named by a hash of its inputs.

Stages assemble their outputs from the store, so that only new variants, baselines and seeds are
trained. DVC removes the outputs of a stage before it runs the stage, so the store has a folder of
its own, `.dhmd/trainings`:

    <key>.safetensors   a finished ensemble member
    tasks/<id>/         a task in progress: its description, checkpoint, events and log

After each job, the least recently used files and tasks are removed until the store has at most
`LIMIT` bytes. Files that were used within the last day stay.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
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
from dhmd.base.files import file_sha256, json_sha256
from dhmd.data.aligned.corpus import Array
from dhmd.models.registry import code_files
from dhmd.training.checkpoint import read_tensors, write_tensors
from dhmd.training.configuration import Configuration
from dhmd.training.history import member_history
from dhmd.training.outputs import Arrays
from dhmd.training.trainer import Progress

LIMIT = 10 << 30  # bytes
DAY = 86_400.0  # seconds

# Packages that every training depends on, besides the code of its model.
_CODE_FOLDERS = ("training", "data/aligned", "data/text")


@dataclass(frozen=True)
class TrainedMember:
    """One ensemble member after training.

    Attributes:
        parameters: parameters by name, without the ensemble axis.
        arrays: outputs for every utterance of the corpus, `[N, …]` by dataset name.
        history: rows of epoch, metric and value.
    """

    parameters: dict[str, Tensor]
    arrays: dict[str, Array]
    history: list[tuple[int, str, float]]


def member_name(prefix: str, seed: int) -> str:
    """Return the name of a member in events, logs and history: `seed-1`, or `mult/seed-1`."""
    return f"{prefix}/seed-{seed}" if prefix else f"seed-{seed}"


def trained_members(
    names: Sequence[str], parameters: Mapping[str, Tensor], arrays: Arrays, progress: Progress
) -> dict[str, TrainedMember]:
    """Split the results of a training, `parameters` and `arrays` of shape `[E, …]`, by member.

    The outputs of diverged members become NaN; `evaluate` reports such members as an error.
    """
    parameters = {name: value.detach().cpu() for name, value in parameters.items()}
    for value in arrays.values():
        value[[epoch is not None for epoch in progress.diverged]] = np.nan
    return {
        name: TrainedMember(
            {key: value[index] for key, value in parameters.items()},
            {key: value[index] for key, value in arrays.items()},
            member_history(progress, name, index),
        )
        for index, name in enumerate(names)
    }


class Store:
    """A folder of finished trainings by key."""

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
        layouts = {}  # data type and shape by array
        for name, array in member.arrays.items():
            # Compression saves 90 % of the bytes, since most entries of the codes are 0.
            packed = bytearray(zlib.compress(array.tobytes(), 1))
            tensors[f"array/{name}"] = torch.frombuffer(packed, dtype=torch.uint8)
            layouts[name] = (array.dtype.str, array.shape)
        notes = {"arrays": layouts, "history": member.history}
        write_tensors(self._file(key), tensors, notes)

    def read(self, key: str) -> TrainedMember:
        """Return a stored member and mark it as used.

        Raises:
            DhmdError: its file is damaged or missing.
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
                "again to train this member"
            ) from error
        with suppress(OSError):  # a store may be read-only
            os.utime(path)
        return TrainedMember(parameters, arrays, history)

    def prune(self) -> None:
        """Remove the least recently used files until at most `LIMIT` bytes are left."""
        for lock in self.tasks.glob("*.lock"):  # killed processes do not remove their locks
            if not lock.with_suffix("").exists() and lock.stat().st_mtime < time.time() - DAY:
                lock.unlink(missing_ok=True)
        entries = []
        for path in (*self.folder.glob("*.safetensors"), *self.tasks.glob("*/")):
            try:
                files = [path] if path.is_file() else list(path.iterdir())
                used = max(file.stat().st_mtime for file in (path, *files))
                entries.append((used, sum(file.stat().st_size for file in files), path))
            except FileNotFoundError:
                continue  # another process removed it
        total = 0
        for used, size, path in sorted(entries, reverse=True):
            total += size
            if total > LIMIT and used < time.time() - DAY:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def training_key(
    configuration: Configuration, seed: int, device: torch.device, **inputs: object
) -> str:
    """Return the key of one member: a hash of all inputs that determine its training.

    The numbers of processes and threads, the kernels and the other members of the stack are not
    part of it, since they change the result only by rounding.

    Args:
        inputs: JSON values that identify the other inputs: the data, the pretrained weights, …
    """
    settings = configuration.as_json()
    del settings["compute"], settings["train"]["seeds"]
    key = {
        "configuration": settings,
        "seed": seed,
        "environment": environment(device, configuration.architecture),
        **inputs,
    }
    return json_sha256(key)[:32]


def environment(device: torch.device, architecture: str = "dhmd") -> dict[str, Any]:
    """Return the code, PyTorch and hardware that determine a result to the last bit (JSON)."""
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
    files = [path for name in _CODE_FOLDERS for path in sorted((package / name).glob("*.py"))]
    files += code_files(architecture)
    return json_sha256([(path.name, file_sha256(path)) for path in files])
