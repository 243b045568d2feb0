"""What a stage's run was: a small file in .dhmd/records, out of DVC's sight.

Outputs are the same bytes on the same data, so they cannot say when, where and from which commit
they were made; these records do, and `dhmd report` finds the one of an output by its md5.
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
from typing import Any, Protocol

from dhmd.base.atomic import write_text
from dhmd.base.errors import DhmdError
from dhmd.base.hashing import json_sha256
from dhmd.tracking.facts import flatten, git, machine, outputs_md5

FOLDER = Path(".dhmd", "records")

_PACKAGES = ("dhmd", "torch", "numpy", "scipy", "h5py", "matplotlib", "dvc")
# Raw corpora of many GB are not read again only for their hash.
_MOST_BYTES = 2 << 30

_log = logging.getLogger(__name__)


class Run(Protocol):
    """What is recorded of a stage: names, where to, from what, and what came out."""

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
    """Write a record below the run's root once the work inside has succeeded, and only then.

    A record that cannot be written is a warning: the stage's outputs are there all the same.
    """
    started = datetime.now(UTC)
    clock = time.perf_counter()
    yield
    seconds = time.perf_counter() - clock
    flat = flatten(run.params)
    record: dict[str, Any] = {
        "stage": run.name,
        "dataset": run.dataset,
        "start": started.isoformat(timespec="seconds"),
        "wall_seconds": round(seconds, 3),
        **_code(),
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "params_sha256": json_sha256(flat),
        "params": flat,
        "machine": machine(),
        "versions": _versions(),
        "outputs": {path.as_posix(): _md5(path) for path in run.outputs if path.exists()},
    }
    name = f"{started:%Y%m%dT%H%M%S%f}-{run.name}-{run.dataset}-{os.getpid()}.json"
    try:
        write_text(
            run.root / FOLDER / name, json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        )
    except DhmdError as error:
        _log.warning("the run's record is lost: %s", error)


def _code() -> dict[str, str | bool | None]:
    """The commit that ran, and whether files differed from it."""
    commit = (git(Path.cwd(), "rev-parse", "HEAD") or "").strip() or None
    if commit is None:
        return {"commit": None, "uncommitted_changes": None}
    changes = git(Path.cwd(), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "uncommitted_changes": changes != ""}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # not installed: no version to tell
    return versions


def _md5(path: Path) -> str | None:
    """As DVC writes it into dvc.lock; None where it would take long."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    if sum(file.stat().st_size for file in files) > _MOST_BYTES:
        return None
    return outputs_md5(path)
