"""A process that trains what it is told: `python -m dhmd.training.worker PARENT`.

Started by pool.py, which it does not outlive. Reads tasks from stdin, a line of JSON each, and says
on stdout, again a line each, what it has done. What libraries print goes to stderr.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dhmd.base.errors import DhmdError
from dhmd.base.machine import end_with_parent
from dhmd.training.observer import SilentObserver

if TYPE_CHECKING:
    from dhmd.data.aligned.corpus import Corpus


class _Channel:
    """Messages to the parent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def send(self, kind: str, **content: Any) -> None:
        try:
            self._stream.write(json.dumps({"kind": kind, **content}) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            os._exit(1)  # the parent is gone, and nobody waits for the result


class _Forwarding(logging.Handler):
    """Lets the parent say what is logged here."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.send(
            "log", logger=record.name, level=record.levelno, text=record.getMessage()
        )


class _Reporting(SilentObserver):
    """An observer that tells the parent of epochs; of beginning and end the parent knows."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        self._channel.send("epoch", epoch=epoch, rows=rows)


def main() -> None:
    """Work until stdin ends."""
    # Ctrl-C reaches every process of a terminal: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return  # it ended before the line above
    channel = _Channel(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    ours = logging.getLogger("dhmd")
    ours.setLevel(logging.INFO)
    ours.propagate = False
    ours.addHandler(_Forwarding(channel))
    corpora: dict[tuple[str, str | None], Corpus] = {}
    for line in sys.stdin:
        try:
            _work(json.loads(line), channel, corpora)
        except DhmdError as error:
            channel.send("refused", sentence=str(error))
        except Exception:
            channel.send("failed", traceback=traceback.format_exc())
        else:
            channel.send("done")


def _work(
    order: Mapping[str, Any], channel: _Channel, corpora: dict[tuple[str, str | None], Corpus]
) -> None:
    from dhmd.data.aligned import read_corpus
    from dhmd.training.device import prepared
    from dhmd.training.resume import ResumeState
    from dhmd.training.tasks import Task

    task, which = Task.from_json(order["task"]), (order["cache"], order["fold"])
    with prepared(task.configurations[0].train) as device:
        if which not in corpora:
            corpora[which] = read_corpus(Path(which[0]), fold=which[1])
        place = ResumeState(Path(order["place"]))
        part = task.run(corpora[which], device, _Reporting(channel), place)
        part.write(Path(order["result"]))


if __name__ == "__main__":
    main()
