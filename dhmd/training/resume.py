"""Where an interrupted job keeps its place.

DVC removes a stage's outputs before it runs the stage, so the place is kept elsewhere: in a folder
named by everything that the result depends on (configuration, seeds, input, code, torch, threads).
It is locked while in use and removed when the job has written its outputs. Two processes that run
the very same job at once, as experiments of one sweep do, keep a place each.

A place that nobody came back to is removed when a later job of the same root begins: 30 days after
its last epoch, or once its stage and dataset have 8 younger ones.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from torch import Tensor

import dhmd
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256, json_sha256, try_lock, whole_file
from dhmd.training.tensor_file import write_tensors

_CODE = ("nn", "model", "training", "ablation", "cache", "encoder")

_SAVED = "[!.]*.safetensors"  # not the hidden ones, which a killed write leaves
_PLACE = re.compile(r"-[0-9a-f]{16}(\.\d+)?$")
_LOCK = ".lock"  # within the folder
_MOST_AT_ONCE = 64
_MOST_KEPT = 8
_MOST_SECONDS = 30 * 86400


class ResumeState:
    """The saved place of one job: a file a part of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, part: str) -> Path:
        return self.folder / f"{part}.safetensors"

    def epochs(self) -> int:
        """How many epochs are done of the part that was saved last; 0 before any."""
        parts = sorted(self.folder.glob(_SAVED), key=lambda path: path.stat().st_mtime_ns)
        saved = self.load(parts[-1].stem) if parts else None
        return int(saved[1].get("epoch", 0)) if saved else 0

    def save(self, part: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Replace the saved place of `part`."""
        with whole_file(self._file(part)) as temporary:
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            write_tensors(temporary, whole, {"notes": json.dumps(notes)})

    def load(self, part: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The saved place of `part`, or None. A damaged one counts as none: it is only a place."""
        if not self._file(part).exists():
            return None
        try:
            with safe_open(self._file(part), framework="pt") as stored:
                notes = json.loads(stored.metadata()["notes"])
                return {name: stored.get_tensor(name) for name in stored.keys()}, notes  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return None


@contextmanager
def resume_state(root: Path, label: str, key: Mapping[str, Any]) -> Iterator[ResumeState]:
    """The state of the job that `key` describes, locked; removed when the block succeeds.

    Raises:
        DhmdError: the folder cannot be written.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root, label)
        folder, lock = _take(root, f"{label}-{json_sha256(key)[:16]}")
    except OSError as error:
        raise DhmdError(f"cannot write {root}: {first_line(error)}") from error
    try:
        yield ResumeState(folder)
        # Not before the lock's end: nobody may find the folder half removed.
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def _take(root: Path, name: str) -> tuple[Path, FileLock]:
    """The first place of the job that nobody holds, one with saved epochs before an empty one."""
    places = [root / name, *(root / f"{name}.{number}" for number in range(2, _MOST_AT_ONCE + 1))]
    for folder in sorted(places, key=lambda place: not any(place.glob(_SAVED))):
        folder.mkdir(exist_ok=True)
        lock = try_lock(folder / _LOCK)
        if lock is not None:
            return folder, lock
    raise DhmdError(
        f"{_MOST_AT_ONCE} processes run this very job already (their places are {root / name}*): "
        "wait for one of them"
    )


def _remove_abandoned(root: Path, label: str) -> None:
    places = {folder: _last_use(folder) for folder in root.iterdir() if _PLACE.search(folder.name)}
    rivals = [folder for folder in places if _PLACE.sub("", folder.name) == label]
    kept = sorted(rivals, key=lambda folder: -places[folder])[:_MOST_KEPT]
    oldest = time.time() - _MOST_SECONDS
    for folder, used in places.items():
        if used < oldest or (folder in rivals and folder not in kept):
            lock = try_lock(folder / _LOCK)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()


def _last_use(folder: Path) -> float:
    """When it was written last, in seconds since 1970; 0 for a place that is gone meanwhile."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.glob(_SAVED)))
    except FileNotFoundError:
        return 0.0


def environment_key(device: torch.device) -> dict[str, Any]:
    """What besides configuration and data decides a result's last bit."""
    package = Path(dhmd.__file__).parent
    files = sorted(path for part in _CODE for path in (package / part).glob("*.py"))
    return {
        "code": json_sha256([file_sha256(path) for path in files]),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
