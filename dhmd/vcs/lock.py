"""dvc.lock, DVC's cache and its remote.

Functions that import or start DVC state it in their docstring; the others only read files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dhmd.base.errors import DhmdError, first_line
from dhmd.vcs import METRICS_FOLDER, Revision, Workspace, commit, git

LOCK = "dvc.lock"
# Folders of the stages' outputs.
OUTPUT_FOLDERS = ("data", "pretrained", "models", "ablations", METRICS_FOLDER, "reports")

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_ABSENT = ("deleted", "not in cache")  # descriptions of an absent file by `dvc status`


@contextmanager
def repository(root: Path, failure: str) -> Iterator[Any]:
    """Open DVC's repository (imports DVC); messages of errors start with `failure`."""
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError as error:
        raise DhmdError(f"{failure}: dvc is not installed") from error
    try:
        with Repo(str(root)) as repo:
            yield repo
    except (DvcException, OSError) as error:
        raise DhmdError(f"{failure}: {first_line(error)}") from error


Entries = dict[str, dict[str, Any]]


def lock_entries(revision: Revision) -> Entries:
    """Return the entries of dvc.lock by stage (`train@demo`); {} if the file does not exist.

    Every entry has the lists `deps` and `outs`, whose items have at least a `path`.

    Raises:
        DhmdError: dvc.lock is damaged.
    """
    text = revision.read(LOCK)
    try:
        stages = ((text and yaml.load(text, Loader=_Loader)) or {}).get("stages") or {}
        entries: Entries = {
            stage: {**entry, "deps": entry.get("deps", []), "outs": entry.get("outs", [])}
            for stage, entry in stages.items()
        }
        for entry in entries.values():
            for file in (*entry["deps"], *entry["outs"]):
                file["path"].encode()
    except (yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        raise DhmdError(
            f"{LOCK} of {revision.label} is damaged: restore it with `git checkout {LOCK}`, or "
            "remove it and run dvc repro (DVC's run cache saves the work)"
        ) from error
    return entries


def locked_outputs(revision: Revision) -> dict[str, dict[str, str]]:
    """Return the md5 of each output from dvc.lock, by stage and path."""
    return {
        stage: {out["path"]: str(out.get("md5", "")) for out in entry["outs"]}
        for stage, entry in lock_entries(revision).items()
    }


@dataclass(frozen=True)
class LockState:
    """The stages that dvc.lock does not describe.

    Attributes:
        stale: the changes of each stale stage since it ran.
        downstream: stages that depend on the output of a stale stage.
    """

    stale: dict[str, tuple[str, ...]]
    downstream: tuple[str, ...]


def check_lock(root: Path) -> LockState:
    """Check with `dvc status` whether dvc.lock matches the code and params.yaml; needs no data.

    `dvc status` reports a stage as stale if its data is absent. Here an absent file counts only if
    Git tracks it. Whether a stage ran on the last version of its inputs is read from dvc.lock.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if process.returncode or not process.stdout.startswith("{"):
        message = " ".join((process.stderr or process.stdout).split())
        raise DhmdError(f"dvc status failed, so that {LOCK} cannot be checked: {message}")
    entries = lock_entries(Workspace(root))
    stale: dict[str, tuple[str, ...]] = {}
    for stage, changes in json.loads(process.stdout).items():
        reasons = ["never run"]
        if stage in entries:
            reasons = [str(change) for change in changes if not isinstance(change, dict)]
            for change in changes:
                reasons += _describe(root, change) if isinstance(change, dict) else []
        # Data tracked outside dvc.yaml (by `dvc add`) has no stage.
        if reasons and not stage.endswith(".dvc"):
            stale[stage] = tuple(reasons)
    producers = {out["path"]: stage for stage, entry in entries.items() for out in entry["outs"]}
    md5s = {out["path"]: out.get("md5") for entry in entries.values() for out in entry["outs"]}
    for stage, entry in entries.items():
        for dependency in entry["deps"]:
            path = dependency["path"]
            if path in md5s and md5s[path] != dependency.get("md5"):
                reason = f"{path} is not the last output of {producers[path]}"
                stale[stage] = (*stale.get(stage, ()), reason)
    affected = set(stale)
    while dependents := {
        stage
        for stage, entry in entries.items()
        if stage not in affected
        and any(producers.get(file["path"]) in affected for file in entry["deps"])
    }:
        affected |= dependents
    return LockState(stale, tuple(stage for stage in entries if stage in affected - set(stale)))


def _describe(root: Path, change: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Yield descriptions of a change such as {"changed deps": {path: "modified"}}."""
    for paths in change.values():
        for path, state in paths.items():
            if isinstance(state, dict):
                yield from (f"{path}: {key} {description}" for key, description in state.items())
            # A clone need not have files that Git ignores, because DVC's cache has them.
            elif state not in _ABSENT or git(root, "check-ignore", "-q", path).returncode:
                yield f"{path} {state}"


def missing_in_remote(root: Path, name: str | None = None) -> list[str]:
    """Return the output files of a revision that are not in the default remote (imports DVC).

    `dvc exp push` of an experiment that is older than the remote uploads nothing and reports
    success, because it reads the remotes from the experiment's own .dvc/config.

    Args:
        root: the repository.
        name: a revision or a DVC experiment; None for the workspace.

    Returns:
        Paths, sorted.

    Raises:
        DhmdError: DVC is not installed, or there is no default remote, or it does not answer.
    """
    revision = None if name is None else commit(root, name)
    with repository(root, "the DVC remote cannot be compared") as repo:
        with nullcontext() if revision is None else repo.switch(revision.sha):
            used = repo.index.used_objs()
        missing = set()
        for odb, objects in used.items():
            status = repo.cloud.status(objects, odb=odb)
            missing |= {*status.new, *status.missing}
    return sorted({str(hash_info.obj_name) for hash_info in missing})


def cached_files(root: Path, output: Path) -> dict[str, Path]:
    """Return the files of an output folder that are in DVC's cache (imports DVC).

    DVC removes an output before its stage runs. Compare the files with a known hash before use.
    Files that are absent or not stored in the format of DVC 3 are left out.

    Returns:
        The path in the cache of each file, by name.
    """
    outputs = locked_outputs(Workspace(root))
    md5 = next((outs[str(output)] for outs in outputs.values() if str(output) in outs), None)
    if md5 is None:
        return {}
    try:
        with repository(root, "DVC's cache cannot be read") as repo:
            cache = Path(repo.cache.local.path)
    except DhmdError:
        return {}

    def cached(md5: object) -> Path | None:
        if not isinstance(md5, str) or not _MD5.fullmatch(md5):
            return None
        path = cache / md5[:2] / md5[2:]
        return path if path.is_file() else None

    listing = cached(md5)
    try:
        entries = json.loads(listing.read_bytes()) if listing else []
        paths = {str(entry["relpath"]): cached(entry["md5"]) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {name: path for name, path in paths.items() if path is not None}


def outputs_md5(path: Path) -> str | None:
    """Return the md5 of a file or folder as in dvc.lock; None if it does not exist.

    The hash of a folder is the md5 of a JSON list with the md5 and relative path of each file,
    followed by `.dir`.
    """
    if path.is_file():
        return _file_md5(path)
    if not path.is_dir():
        return None
    files = {
        file.relative_to(path).as_posix(): _file_md5(file)
        for file in path.rglob("*")
        if file.is_file()
    }
    entries = [{"md5": files[relative], "relpath": relative} for relative in sorted(files)]
    text = json.dumps(entries, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _file_md5(path: Path) -> str:
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


def check_output_folders(root: Path) -> None:
    """Check that no output folder is a symbolic link, which DVC refuses after the stage ran."""
    for name in OUTPUT_FOLDERS:
        folder = root / name
        if folder.is_symlink():
            raise DhmdError(
                f"{name}/ is a symbolic link to {os.readlink(folder)}, which DVC refuses: make it "
                "a folder, and move DVC's cache to the other disk instead (`dvc cache dir --local "
                "FOLDER`, then `dvc config --local cache.type symlink`)."
            )
