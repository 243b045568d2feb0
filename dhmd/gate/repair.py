"""What a kill leaves of the two files that DVC writes in place: half a file, which it then refuses.

`.dvc/tmp/rwlock` says which commands of DVC are at work on which files, `dvc.lock` what every stage
ran on. What is put right here loses no result: a lock that cannot be read protects nothing, and
the stages that a committed dvc.lock does not know yet come back from DVC's run cache.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dhmd.base.atomic import write_text
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.locks import try_lock
from dhmd.config.yaml12 import parse_yaml
from dhmd.gate.lock import LOCK
from dhmd.gate.revision import git

RWLOCK = ".dvc/tmp/rwlock"
# What DVC holds (as locks of the kernel) while it writes dvc.lock, and while it writes rwlock.
GUARDS = (".dvc/tmp/lock", ".dvc/tmp/rwlock.lock")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
PATIENCE = 5.0  # seconds that another command of DVC may take to finish what it is writing


def repair(root: Path, patience: float = PATIENCE) -> list[str]:
    """Put right what DVC could not finish writing in `root`; a sentence for each.

    Args:
        patience: how long to wait, in seconds, for a command of DVC that is at work.

    Raises:
        DhmdError: DVC is at work, a file cannot be read or written, dvc.lock holds the marks of a
            merge that is not resolved, or is broken where it is committed too.
    """
    try:
        # Nearly always all is well, and nobody need wait for a lock to learn that.
        if _rwlock_is_whole(root) and _lock_is_whole(root):
            return []
        return _repair(root, patience)
    except OSError as error:
        raise DhmdError(f"cannot put DVC's files right: {first_line(error)}") from error


def _repair(root: Path, patience: float) -> list[str]:
    said = []
    with _no_dvc(root, patience):
        # Once more: it may have been another command in the middle of writing.
        if not _rwlock_is_whole(root):
            (root / RWLOCK).unlink()
            said.append(f"removed {RWLOCK}, which DVC had not finished writing")
        if not _lock_is_whole(root):
            said.append(_restore_lock(root))
    return said


def _rwlock_is_whole(root: Path) -> bool:
    try:
        value = json.loads((root / RWLOCK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except ValueError:  # broken JSON, broken UTF-8
        return False
    return isinstance(value, dict) and all(
        isinstance(value.get(mode, {}), dict) for mode in ("read", "write")
    )


def _lock_is_whole(root: Path) -> bool:
    try:
        return _is_lock((root / LOCK).read_bytes())
    except FileNotFoundError:
        return True


def _is_lock(data: bytes) -> bool:
    try:
        value = parse_yaml(data.decode("utf-8"), LOCK)
    except (UnicodeDecodeError, DhmdError):
        return False
    if not isinstance(value, dict) or not isinstance(value.get("schema"), str):
        return False
    stages = value.get("stages", {})
    return isinstance(stages, dict) and all(map(_whole, stages.values()))


def _whole(entry: Any) -> bool:
    """Whether a stage's entry is as DVC writes it; a cut leaves nulls, or a number of a hash."""
    if not isinstance(entry, dict) or not isinstance(entry.get("cmd"), str | list):
        return False
    params = entry.get("params", {})
    return (
        all(_whole_files(entry.get(kind, [])) for kind in ("deps", "outs"))
        and isinstance(params, dict)
        and all(isinstance(values, dict) for values in params.values())
    )


def _whole_files(files: Any) -> bool:
    return isinstance(files, list) and all(
        isinstance(file, dict)
        and isinstance(file.get("path"), str)
        and None not in file.values()
        and ("md5" not in file or _MD5.fullmatch(str(file["md5"])) is not None)
        for file in files
    )


def _restore_lock(root: Path) -> str:
    """dvc.lock as it is committed, or none; what was done."""
    path = root / LOCK
    if any(line.startswith(b"<<<<<<<") for line in path.read_bytes().splitlines()):
        raise DhmdError(f"{LOCK} holds the marks of a merge: resolve it, then run dvc repro")
    # `./` counts from the project's folder, which need not be the repository's.
    committed = git(root, "show", f"HEAD:./{LOCK}")
    if committed.returncode:
        if not _is_in_no_commit(root):
            message = " ".join(committed.stderr.decode("utf-8", "replace").split())
            raise DhmdError(
                f"{LOCK} is half written, and git cannot show the last commit's: {message}"
            )
        path.unlink()
        return f"removed {LOCK}, which DVC had not finished writing; no commit holds it"
    if not _is_lock(committed.stdout):
        raise DhmdError(f"{LOCK} cannot be read, nor as it is committed: take an older commit's")
    write_text(path, committed.stdout.decode("utf-8"))
    return f"restored {LOCK} from the last commit; DVC had not finished writing it"


def _is_in_no_commit(root: Path) -> bool:
    """Whether git says so; that it fails for another reason (whose folder it is) proves nothing."""
    listed = git(root, "ls-tree", "HEAD", "--", f"./{LOCK}")
    if listed.returncode == 0:
        return not listed.stdout
    born = git(root, "rev-list", "--max-count=1", "--all")
    return born.returncode == 0 and not born.stdout


@contextmanager
def _no_dvc(root: Path, patience: float) -> Iterator[None]:
    """While inside, no command of DVC writes these files."""
    with ExitStack() as held:
        deadline = time.monotonic() + patience
        for name in GUARDS:
            guard = root / name
            guard.parent.mkdir(parents=True, exist_ok=True)
            guard.touch()
            while (descriptor := try_lock(guard)) is None:
                if time.monotonic() > deadline:
                    raise DhmdError(
                        f"DVC is at work here and holds {name}: wait for it to end, "
                        "then run dhmd repair again"
                    )
                time.sleep(0.05)
            held.callback(os.close, descriptor)
        yield
