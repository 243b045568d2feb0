"""Where an interrupted job keeps its place.

DVC removes a stage's outputs before it runs the stage, so the place is kept elsewhere: in a folder
named by everything that the result depends on (configuration, seeds, input, code, torch, threads).
It is locked while in use and removed when the job has written its outputs.
"""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import dhmd
from dhmd.base.atomic import whole_file
from dhmd.base.errors import DhmdError
from dhmd.base.hashing import file_sha256, json_sha256

_CODE = ("nn", "model", "training", "ablation", "cache")


class ResumeState:
    """The saved place of one job: a file a part of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, part: str) -> Path:
        return self.folder / f"{part}.safetensors"

    def epochs(self) -> int:
        """How many epochs are done of the part that was saved last; 0 before any."""
        whole = self.folder.glob("[!.]*.safetensors")  # a killed write leaves a hidden file
        parts = sorted(whole, key=lambda path: path.stat().st_mtime_ns)
        saved = self.load(parts[-1].stem) if parts else None
        return int(saved[1].get("epoch", 0)) if saved else 0

    def save(self, part: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Replace the saved place of `part`."""
        with whole_file(self._file(part)) as temporary:
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(whole, temporary, metadata={"notes": json.dumps(notes)})

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
        DhmdError: another process runs the very same job.
    """
    name = f"{label}-{json_sha256(key)[:16]}"
    folder = Path(root) / name
    folder.mkdir(parents=True, exist_ok=True)
    with open(Path(root) / f"{name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DhmdError(
                f"{label} is already running in another process (it holds {lock.name}): "
                "wait for it or stop it"
            ) from None
        yield ResumeState(folder)
        shutil.rmtree(folder)
        Path(lock.name).unlink()


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
