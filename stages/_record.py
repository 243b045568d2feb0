"""The record of one run of a stage: a small file in .dhmd/records, which DVC ignores.

Outputs have the same bytes on the same data, so they cannot tell when, where and from which commit
they were made. The records do, and `dhmd report` finds the record of an output by its md5.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from dhmd.base.errors import DhmdError
from dhmd.base.files import json_sha256, write_text
from dhmd.base.machine import machine
from dhmd.tracking import flatten
from dhmd.vcs import code_version, outputs_md5

FOLDER = Path(".dhmd", "records")

_PACKAGES = ("dhmd", "torch", "numpy", "scipy", "h5py", "matplotlib", "dvc")
_MOST_BYTES = 2 << 30  # a raw corpus of many GB is not read again for its hash

_log = logging.getLogger(__name__)


class Run(Protocol):
    """What is recorded of a stage."""

    @property
    def name(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def root(self) -> Path: ...
    @property
    def params(self) -> Mapping[str, object]: ...
    @property
    def outputs(self) -> tuple[Path, ...]: ...


@contextmanager
def recorded(run: Run) -> Iterator[None]:
    """Write a record below the run's root if the block succeeds.

    A record that cannot be written is a warning: the stage's outputs are complete.
    """
    started = datetime.now(UTC)
    clock = time.perf_counter()
    yield
    seconds = time.perf_counter() - clock
    flat = flatten(run.params)
    commit, uncommitted_changes = code_version(Path.cwd())
    record = {
        "stage": run.name,
        "dataset": run.dataset,
        "start": started.isoformat(timespec="seconds"),
        "wall_seconds": round(seconds, 3),
        "commit": commit,
        "uncommitted_changes": uncommitted_changes,
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "params_sha256": json_sha256(flat),
        "params": flat,
        "machine": machine(),
        "versions": _versions(),
        "outputs": {path.as_posix(): _md5(path) for path in run.outputs if path.exists()},
    }
    name = f"{started:%Y%m%dT%H%M%S%f}-{run.name}-{run.dataset}-{os.getpid()}.json"
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    try:
        write_text(run.root / FOLDER / name, text)
    except DhmdError as error:
        _log.warning("the run's record is lost: %s", error)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _md5(path: Path) -> str | None:
    """Return the md5 that DVC writes into dvc.lock; None for more than 2 GiB."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    if sum(file.stat().st_size for file in files) > _MOST_BYTES:
        return None
    return outputs_md5(path)
