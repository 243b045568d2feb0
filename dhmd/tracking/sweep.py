"""Runs whose process is gone: finish what it left."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dhmd.base.errors import DhmdError
from dhmd.tracking.facts import surely_dead
from dhmd.tracking.journal import hold, journals, read_events
from dhmd.tracking.replay import StoreError, replay_file
from dhmd.tracking.store import MlflowStore


class Left(NamedTuple):
    """What `upload_left_journals` could not or should not upload."""

    problems: list[str]  # sentences
    elsewhere: list[tuple[Path, str]]  # journals of another store, and that store


def upload_left_journals(
    store: MlflowStore, home: Path, *, shown: str | None, tell: Callable[[str], None]
) -> Left:
    """Upload and remove each journal that nobody holds and that was meant for the store `shown`.

    `shown` None: whatever it was meant for. A journal without an end was left by a killed process;
    its runs become KILLED.
    """
    left = Left([], [])
    for path in journals(home):
        with hold(path, exclusive=True) as mine:
            if not mine:
                continue  # still being written
            try:
                events, _ = read_events(path)
                meant = str(events[0].get("store")) if events else None
                if shown is not None and meant not in (None, shown):
                    left.elsewhere.append((path, str(meant)))
                    continue
                tell(f"uploaded {replay_file(store, path, tell)}")
                path.unlink()
            except StoreError as error:
                left.problems.append(f"{path} cannot be uploaded: {error}")
            except (DhmdError, OSError) as error:
                left.problems.append(str(error))
    return left


def mark_dead_runs(store: MlflowStore, home: Path) -> list[str]:
    """Mark as KILLED what says it runs, has no journal here and no process; their names.

    Only runs of processes that would be visible from here can be judged.
    """
    kept = {path.stem.rpartition("-")[2] for path in journals(home)}
    marked = []
    for run in store.running():
        key = run.tags.get("dhmd.key", "")[:8]
        if key and key not in kept and surely_dead(run.tags.get("dhmd.process", "")):
            store.set_status(run.id, "KILLED", time.time_ns() // 1_000_000)
            marked.append(run.name)
    return marked
