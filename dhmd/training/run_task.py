"""Run training tasks: `python -m dhmd.training.run_task TASK.json...`

Each task resumes at its last finished epoch, stores its members, each whole, and writes `done.json`
beside its file. Exits with 0 once all tasks are done, and with 3 and one sentence on stderr for bad
input or a full disk. Meanwhile finished epochs and log messages are appended to `events.jsonl`
beside the task's file, one JSON object per line.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import write_text
from dhmd.base.machine import end_with_parent
from dhmd.training.observer import LogObserver, ManyObservers, Observer, SilentObserver

if TYPE_CHECKING:
    from dhmd.data.aligned.corpus import Corpus
    from dhmd.training.task import Task

EVENTS = "events.jsonl"
DONE = "done.json"
REFUSED, INTERRUPTED = 3, 130

_log = logging.getLogger(__name__)


def run_task(task: Task, observer: Observer, corpus: Corpus | None = None) -> None:
    """Train a task's members and store them.

    If another process runs the very same task, wait for it and leave its results as they are.

    Args:
        corpus: the task's corpus, if it has been read already.

    Raises:
        DhmdError: bad input or a full disk; the checkpoint stays.
    """
    from dhmd.data.aligned import read_corpus
    from dhmd.training.checkpoint import CheckpointDirectory
    from dhmd.training.device import prepared
    from dhmd.training.pretraining import pretrain_modality
    from dhmd.training.stack import train_stack

    with _locked(task):
        if not task.missing:
            return
        with prepared(task.first.train) as device:
            corpus = corpus or read_corpus(task.aligned, fold=task.fold)
            checkpoints = CheckpointDirectory(task.folder)
            train = train_stack if task.modality is None else pretrain_modality
            for name, member in train(task, corpus, device, observer, checkpoints).items():
                task.store.write(task.keys[name], member)
        write_text(task.folder / DONE, json.dumps(dict(task.keys)) + "\n")


@contextmanager
def _locked(task: Task) -> Iterator[None]:
    """Hold the lock of a task's directory."""
    path = task.folder.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.info("%s: another process trains the same; waiting for it", task.label)
            lock.acquire()
    except OSError as error:
        raise DhmdError(f"cannot write {path}: {first_line(error)}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # under the lock: a process that waits makes a new file
        lock.release()


class _Events(SilentObserver, logging.Handler):
    """Append epochs and log messages to a file, for the process that started this one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _append(self, event: Mapping[str, object]) -> None:
        try:
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")
        except OSError as error:
            raise DhmdError(f"cannot write {self._path}: {first_line(error)}") from error

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        self._append({"epoch": epoch, "rows": rows})

    def emit(self, record: logging.LogRecord) -> None:
        self._append({"log": record.name, "level": record.levelno, "message": record.getMessage()})


def main(paths: list[str], parent: int | None = None) -> int:
    """Run tasks one after the other; the exit status.

    Args:
        parent: the process that started this one, if this one must not outlive it.
    """
    if parent is not None:
        # Ctrl-C reaches every process of a terminal: the parent decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            return INTERRUPTED  # it ended before the line above
    from dhmd.training.task import Task

    ours = logging.getLogger("dhmd")
    ours.setLevel(logging.INFO)
    try:
        for path in map(Path, paths):
            task, events = Task.read(path), _Events(path.with_name(EVENTS))
            observer = ManyObservers(events, LogObserver())
            observer.started(task.label, task.members, {}, 0)
            ours.addHandler(events)
            run_task(task, observer)
            ours.removeHandler(events)
    except DhmdError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Run training tasks.")
    parser.add_argument("tasks", nargs="+", metavar="TASK.json")
    parser.add_argument("--parent", type=int, help="end when this process, the parent, ends")
    given = parser.parse_args()
    sys.exit(main(given.tasks, given.parent))
