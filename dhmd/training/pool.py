"""Worker processes: started, given tasks, listened to, and never left behind.

They are programs of their own (worker.py) rather than forks or multiprocessing's children: nothing
is inherited, nothing is pickled, and a caller needs no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dhmd
from dhmd.base.errors import DhmdError, first_line
from dhmd.training.joining import EpochJoin
from dhmd.training.observer import Observer
from dhmd.training.parts import Part, joined
from dhmd.training.resume import ResumeState
from dhmd.training.tasks import Group, Task

_FOLDER = "workers"  # below the job's place
_CHUNK = 1 << 16


@contextmanager
def trained_by_workers(
    groups: Sequence[Group],
    workers: int,
    *,
    cache: Path,
    fold: str | None,
    observer: Observer,
    place: ResumeState,
) -> Iterator[Callable[[int], Part]]:
    """Train all groups' tasks, so many at a time; yields what reads the part of a group.

    Results lie in files below the place, until the block ends. Each task keeps a place of its own
    there: it goes on at its last finished epoch. Which worker does what changes no result.

    Raises:
        DhmdError: a worker refused its input, or was ended from outside.
    """
    folder = place.folder / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # a killed run's
    todo = deque(
        _Order(number, part, task, folder / f"{number}-{part}.safetensors")
        for number, group in enumerate(groups)
        for part, task in enumerate(group.tasks)
    )
    orders = list(todo)
    joins = [EpochJoin(observer, group.names, len(group.tasks)) for group in groups]
    common = {"cache": str(cache), "fold": fold, "place": str(place.folder)}

    def read(number: int) -> Part:
        parts = [Part.read(order.result) for order in orders if order.group == number]
        return joined(parts, groups[number].names)

    try:
        _make(folder)
        running: list[_Worker] = []
        try:
            for index in range(min(workers, len(todo))):
                running.append(_Worker(folder / f"{index}.txt", common))
            _listen(running, todo, joins)
        except BaseException:
            _end(running)
            for join in joins:
                join.interrupted()
            raise
        finally:
            _end(running)
        yield read
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise DhmdError(f"cannot write {folder}: {first_line(error)}") from error


class _Order:
    """A task of a group, and where its result goes."""

    def __init__(self, group: int, part: int, task: Task, result: Path) -> None:
        self.group, self.part, self.task, self.result = group, part, task, result


class _Worker:
    """A process, and what it is at."""

    def __init__(self, complaints: Path, common: dict[str, Any]) -> None:
        self._complaints, self._common = complaints, common
        self._heard = b""
        self.order: _Order | None = None
        # The code that runs here, whatever the working folder holds.
        own = str(Path(dhmd.__file__).resolve().parents[1])
        paths = [own, *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            with open(complaints, "wb") as stderr:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "dhmd.training.worker", str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                )
        except OSError as error:
            raise DhmdError(
                f"cannot start a worker of this training ({first_line(error)}): set train.workers "
                "to 1"
            ) from error

    def give(self, order: _Order) -> None:
        """Let it begin a task."""
        self.order = order
        message = {**self._common, "task": order.task.as_json(), "result": str(order.result)}
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, as the end of its messages will tell
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def messages(self) -> list[dict[str, Any]]:
        """What it has said since; waits for something.

        Raises:
            DhmdError: it has ended.
        """
        assert self.process.stdout is not None
        chunk = os.read(self.process.stdout.fileno(), _CHUNK)
        if not chunk:
            raise DhmdError(self._why())
        *lines, self._heard = (self._heard + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def _why(self) -> str:
        status = self.process.wait()
        if status < 0:
            name = signal.Signals(-status).name
            cause = ", as the system does when memory runs out" if -status == signal.SIGKILL else ""
            return (
                f"a worker of this training was ended by {name}{cause}: run it again, it goes on "
                "where it was, or set train.workers to 1"
            )
        said = self._complaints.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "it said nothing")
        return f"a worker of this training ended with status {status} ({last.strip()})"

    def end(self) -> None:
        """End it at once: whatever it writes appears whole or not at all."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def _end(running: Sequence[_Worker]) -> None:
    for worker in running:
        worker.end()


def _listen(running: Sequence[_Worker], todo: deque[_Order], joins: Sequence[EpochJoin]) -> None:
    """Until all is done; what a worker reports goes to its group's join."""
    with selectors.DefaultSelector() as selector:
        for worker in running:
            assert worker.process.stdout is not None
            selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            worker.give(todo.popleft())
        while any(worker.order for worker in running):
            for key, _ in selector.select():
                worker = key.data
                for message in worker.messages():
                    _hear(message, worker, joins)
                if worker.order is None and todo:
                    worker.give(todo.popleft())
                elif worker.order is None:
                    selector.unregister(key.fileobj)


def _hear(message: dict[str, Any], worker: _Worker, joins: Sequence[EpochJoin]) -> None:
    order, kind = worker.order, message["kind"]
    assert order is not None
    if kind == "log":
        logging.getLogger(message["logger"]).log(message["level"], "%s", message["text"])
    elif kind == "epoch":
        joins[order.group].epoch(order.part, message["epoch"], message["rows"])
    elif kind == "refused":
        raise DhmdError(message["sentence"])
    elif kind == "failed":
        raise RuntimeError(f"a worker of this training failed:\n{message['traceback']}")
    else:
        worker.order = None
        joins[order.group].ended(order.part)
