"""Record a stage's run in a small file in .dhmd/records, which DVC does not track.

The same data gives the same output bytes, so outputs do not contain the time, machine and commit of
the run. Records do; `dhmd report` finds the record of an output by its md5.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhmd.base.errors import DhmdError
from dhmd.base.files import json_sha256, write_text
from dhmd.base.machine import describe_machine
from dhmd.tracking import flatten
from dhmd.vcs import code_version
from dhmd.vcs.lock import outputs_md5

if TYPE_CHECKING:
    from stages._entry import Stage

FOLDER = Path(".dhmd", "records")

_PACKAGES = ("dhmd", "torch", "numpy", "scipy", "h5py", "matplotlib", "dvc")
_MAX_BYTES = 2 << 30  # larger outputs are not hashed

_log = logging.getLogger(__name__)


@contextmanager
def recorded(stage: Stage) -> Iterator[None]:
    """Write a record of the run below the stage's root if the block succeeds.

    If the record cannot be written there is only a warning, since the outputs are complete.
    """
    started, start = datetime.now(UTC), time.perf_counter()
    yield
    params = flatten(stage.params)
    commit, uncommitted_changes = code_version(Path.cwd())
    record: dict[str, Any] = {
        "stage": stage.name,
        "dataset": stage.dataset,
        "start": started.isoformat(timespec="seconds"),
        "wall_seconds": round(time.perf_counter() - start, 3),
        "commit": commit,
        "uncommitted_changes": uncommitted_changes,
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "params_sha256": json_sha256(params),
        "params": params,
        "machine": describe_machine(),
        "versions": {"python": platform.python_version(), **_versions()},
        "outputs": {path.as_posix(): _md5(path) for path in stage.outputs if path.exists()},
    }
    name = f"{started:%Y%m%dT%H%M%S%f}-{stage.name}-{stage.dataset}-{os.getpid()}.json"
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    try:
        write_text(stage.root / FOLDER / name, text)
    except DhmdError as error:
        _log.warning("the record of this run was not written: %s", error)


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional package that is not installed
    return versions


def _md5(path: Path) -> str | None:
    """Return the md5 that DVC writes into dvc.lock; None if hashing would take long."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return outputs_md5(path) if sum(f.stat().st_size for f in files) <= _MAX_BYTES else None
