"""Is `dvc.lock` current with code and params? Answered in a clone that holds no data.

`dvc status` calls everything stale whose data is absent. So: an absent file counts only where Git
should hold it, and whether a stage ran on what the stage before it made is read off the lock file,
which has the hashes of both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import parse_yaml
from dhmd.gate.revision import git

LOCK = "dvc.lock"
ABSENT = ("deleted", "not in cache")


@dataclass(frozen=True)
class LockState:
    """stale: stage → what changed since it ran; downstream: stages that a stale one feeds."""

    stale: dict[str, tuple[str, ...]]
    downstream: tuple[str, ...]


def check_lock(root: Path) -> LockState:
    """Compare dvc.lock with the files in `root`.

    Raises:
        DhmdError: no dvc, or a dvc.yaml or dvc.lock that it cannot read.
    """
    status = _dvc_status(root)
    locked = _locked_stages(root)
    absent = {
        path
        for changes in status.values()
        for change in changes
        for path, what in _changed_paths(change)
        if what in ABSENT
    }
    excused = _ignored_by_git(root, absent)
    stale: dict[str, tuple[str, ...]] = {}
    for stage, changes in status.items():
        if stage not in locked:
            stale[stage] = ("never run",)
        elif said := tuple(_said(changes, excused)):
            stale[stage] = said
    for stage, broken in _broken_links(locked).items():
        stale[stage] = (*stale.get(stage, ()), *broken)
    return LockState(stale, _downstream(locked, stale))


def _dvc_status(root: Path) -> dict[str, list[Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        value = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        message = " ".join((done.stderr or done.stdout).split())
        raise DhmdError(f"dvc status failed, so {LOCK} cannot be checked: {message}")
    # Data tracked outside dvc.yaml (by `dvc add`) has no stage to be stale.
    return {name: changes for name, changes in value.items() if not name.endswith(".dvc")}


def _locked_stages(root: Path) -> dict[str, Mapping[str, Any]]:
    path = root / LOCK
    if not path.is_file():
        return {}
    value = parse_yaml(path.read_text(encoding="utf-8"), LOCK)
    stages = value.get("stages") if isinstance(value, dict) else None
    return stages if isinstance(stages, dict) else {}


def _changed_paths(change: object) -> Iterable[tuple[str, object]]:
    """(path, what) of one entry, such as {"changed deps": {path: "modified"}}."""
    if isinstance(change, dict):
        for paths in change.values():
            if isinstance(paths, dict):
                yield from paths.items()


def _said(changes: Iterable[object], excused: set[str]) -> Iterable[str]:
    for change in changes:
        if not isinstance(change, dict):
            yield str(change)
            continue
        for path, what in _changed_paths(change):
            if what in ABSENT and path in excused:
                continue
            if isinstance(what, dict):
                yield from (f"{path}: {key} {state}" for key, state in what.items())
            else:
                yield f"{path} {what}"


def _ignored_by_git(root: Path, paths: set[str]) -> set[str]:
    """Those that a clone need not have: Git ignores them, DVC's cache holds them."""
    if not paths:
        return set()
    listing = "\0".join(sorted(paths)).encode()
    done = git(root, "check-ignore", "--stdin", "-z", stdin=listing)
    return set(done.stdout.decode("utf-8").split("\0")) - {""}


def _broken_links(locked: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Stages that ran on another version of a file than the one that its stage made last."""
    made = {
        out["path"]: (stage, out.get("md5"))
        for stage, entry in locked.items()
        for out in entry.get("outs", ())
    }
    found: dict[str, list[str]] = {}
    for stage, entry in locked.items():
        for dependency in entry.get("deps", ()):
            maker, digest = made.get(dependency["path"], (None, None))
            if maker is not None and digest != dependency.get("md5"):
                found.setdefault(stage, []).append(
                    f"{dependency['path']} is not what {maker} made last"
                )
    return found


def _downstream(
    locked: Mapping[str, Mapping[str, Any]], stale: Mapping[str, object]
) -> tuple[str, ...]:
    made = {out["path"]: stage for stage, entry in locked.items() for out in entry.get("outs", ())}
    reached = set(stale)
    while True:
        more = {
            stage
            for stage, entry in locked.items()
            if stage not in reached
            and any(made.get(d["path"]) in reached for d in entry.get("deps", ()))
        }
        if not more:
            return tuple(stage for stage in locked if stage in reached and stage not in stale)
        reached |= more
