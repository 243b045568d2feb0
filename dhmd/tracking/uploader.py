"""The process that carries a journal to MLflow while the training goes on.

It stands apart from the trainer so that MLflow's 3 s of imports, a slow server and a locked
database cost the training nothing, and so that it is still there when the trainer is killed: its
standard input is a pipe from the trainer that never carries more than the final status; when the
pipe closes without one, the trainer is dead and its runs become KILLED.

It tells the trainer how things stand by JSON lines on standard output:
    {"progress": what}   something worked     {"note": sentence}   worth a line to the user
    {"trouble": sentence}   the store fails; the journal keeps everything     {"done": true}
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.tracking.config import TrackingConfig
from dhmd.tracking.destination import Destination, resolve_destination
from dhmd.tracking.journal import Event, hold, read_events
from dhmd.tracking.replay import Replay, StoreError
from dhmd.tracking.store import MlflowStore, connect
from dhmd.tracking.sweep import mark_dead_runs, upload_left_journals

FIRST_PAUSE = 2.0  # s between looks into the journal
LONGEST_PAUSE = 60.0  # s, after repeated trouble
LAST_SECONDS = 180  # how long the upload may go on after the trainer's end

Emit = Callable[[str, object], None]


class Trainer:
    """The trainer's end of the pipe: whether it lives, and what it said when it ended."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parent = os.getppid()
        self._said = b""
        self.ended = False

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as the trainer has ended."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            left = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self._descriptor], [], [], left)
            data = os.read(self._descriptor, 1024) if readable else b""
            self._said += data
            # A child that the trainer forked may keep the pipe open beyond its death.
            self.ended = (bool(readable) and not data) or os.getppid() != self._parent
            if not readable:
                return

    @property
    def status(self) -> str:
        """For a journal without an end: what the trainer said, else KILLED."""
        said = self._said.decode("ascii", errors="replace")
        return said if said in ("FINISHED", "FAILED", "KILLED") else "KILLED"


class Upload:
    """Carries one journal to the store, as far as it has got."""

    def __init__(
        self, journal: Path, home: Path, destination: Destination, experiment: str, emit: Emit
    ) -> None:
        self._journal = journal
        self._home = home
        self._destination = destination
        self._experiment = experiment
        self._emit = emit
        self._store: MlflowStore | None = None
        self._replay: Replay | None = None
        self._waiting: deque[Event] = deque()
        self._offset = 0

    def step(self) -> None:
        """Send what the journal has got by now. Raises StoreError; may be called again."""
        if self._store is None or self._replay is None:
            self._store = connect(
                self._destination, self._experiment, lambda step: self._emit("progress", step)
            )
            self._emit("progress", "connected")
            self._sweep(self._store)
            self._replay = Replay(self._store, self._note)
        events, self._offset = read_events(self._journal, self._offset)
        self._waiting += events
        if self._waiting:
            self._store.check()
        while self._waiting:
            self._replay.feed(self._waiting[0])
            self._waiting.popleft()
            self._emit("progress", "event")
        self._replay.flush()

    def end(self, status: str) -> None:
        """After the last step: close the runs and remove the journal."""
        if self._replay is not None:
            self._replay.end(status, {})
        self._journal.unlink(missing_ok=True)

    def _sweep(self, store: MlflowStore) -> None:
        upload_left_journals(store, self._home, shown=self._destination.shown, tell=self._note)
        mark_dead_runs(store, self._home)

    def _note(self, sentence: str) -> None:
        self._emit("note", sentence)


def carry(
    upload: Upload, trainer: Trainer, emit: Emit, limit: Callable[[], object] = lambda: None
) -> int:
    """Step until the trainer has ended and everything is sent; 0, or 1 if the journal stays.

    `limit` is called when the trainer has ended: from then on the time left is short.
    """
    pause = FIRST_PAUSE
    while True:
        last = trainer.ended
        started = time.monotonic()
        try:
            upload.step()
            if last:
                upload.end(trainer.status)
                emit("done", True)
                return 0
            # At most a tenth of a core, however many members there are.
            pause = max(FIRST_PAUSE, 10 * (time.monotonic() - started))
        except (StoreError, OSError) as error:
            emit("trouble", str(error))
            if last:
                return 1
            pause = min(2 * pause, LONGEST_PAUSE)
        except DhmdError as error:
            emit("trouble", str(error))
            return 1
        trainer.wait(pause)
        if trainer.ended and not last:
            limit()


class Mouth:
    """Writes the lines to the trainer, on a descriptor that nothing else prints to."""

    def __init__(self) -> None:
        # MLflow prints addresses of runs to standard output.
        self._descriptor = os.dup(sys.stdout.fileno())
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, sys.stdout.fileno())

    def emit(self, kind: str, value: object) -> None:
        line = json.dumps({kind: value}) + "\n"
        with suppress(OSError):  # the trainer is gone, and with it who would read
            os.write(self._descriptor, line.encode())


def main(arguments: list[str] | None = None) -> int:
    """`python -m dhmd.tracking.uploader`, started by `dhmd.tracking.tracker` alone."""
    parser = argparse.ArgumentParser(prog="dhmd.tracking.uploader")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--experiment", required=True)
    options = parser.parse_args(arguments)
    # The trainer resolved the URI already, and passes it where no process list shows it.
    destination = resolve_destination(TrackingConfig(), options.home)
    emit = Mouth().emit
    with hold(options.journal, exclusive=False) as mine:
        if not mine:
            return 1  # the trainer died at once and somebody else takes care of its journal
        upload = Upload(options.journal, options.home, destination, options.experiment, emit)
        trainer = Trainer(sys.stdin.fileno())
        return carry(upload, trainer, emit, lambda: signal.alarm(LAST_SECONDS))


if __name__ == "__main__":
    sys.exit(main())
