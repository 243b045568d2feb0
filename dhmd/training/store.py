"""The store of finished trainings: one file per ensemble member, named by a hash of its inputs.

Stages assemble their outputs from the store, so that only new variants, baselines and seeds are
trained. DVC removes a stage's outputs before it runs the stage, so the store is in another folder,
`.dhmd/trainings`:

    <key>.safetensors   a finished ensemble member
    tasks/<id>/         a task in progress: its description, checkpoint, events and log

After each job the least recently used files and tasks are removed until the store has at most
`LIMIT` bytes. Files that were used within the last day are kept.
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


def member_name(prefix: str, seed: int) -> str:
    """Return the name of a member in events, logs and history: `seed-1`, or `mult/seed-1`."""
    return f"{prefix}/seed-{seed}" if prefix else f"seed-{seed}"


def trained_members(
    names: Sequence[str], parameters: Mapping[str, Tensor], arrays: Arrays, progress: Progress
) -> dict[str, TrainedMember]:
    """Split the results of a training by member: `parameters` and `arrays` are `[E, …]`.

    The outputs of diverged members become NaN, which `evaluate` refuses by name.
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
            # Most entries of the dictionary codes are 0: compression saves 90 % of the bytes.
            packed = bytearray(zlib.compress(array.tobytes(), 1))
            tensors[f"array/{name}"] = torch.frombuffer(packed, dtype=torch.uint8)
            kinds[name] = (array.dtype.str, array.shape)
        notes = {"arrays": kinds, "history": member.history}
        write_tensors(self._file(key), tensors, notes)

    def read(self, key: str) -> TrainedMember:
        """Return a stored member and mark it as used.

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
                "again to train this member"
            ) from error
        with suppress(OSError):  # the store may be read-only
            os.utime(path)
        return TrainedMember(parameters, arrays, history)

    def prune(self) -> None:
        """Remove the least recently used files until at most `LIMIT` bytes are left."""
        for lock in self.tasks.glob("*.lock"):  # left by killed processes
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
    """Return the key of one member: a hash of all inputs that determine its training.

    The number of processes and threads and the other members of the stack are not included, since
    they change the result only by rounding.

    Args:
        inputs: JSON values that identify the data, the pretrained weights, and so on.
    """
    described = configuration.as_json()
    del described["compute"], described["train"]["seeds"]
    key = {
        "configuration": described,
        "seed": seed,
        "environment": environment(device, configuration.architecture),
        **inputs,
    }
    return json_sha256(key)[:32]


def environment(device: torch.device, architecture: str = "dhmd") -> dict[str, Any]:
    """Return code, library and hardware, which determine the last bits, as JSON values."""
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
