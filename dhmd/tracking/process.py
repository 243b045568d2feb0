"""The uploader's process, seen from the trainer."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from dhmd.tracking.destination import Destination

PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class UploaderProcess:
    """The process of `dhmd.tracking.uploader`, seen from the trainer."""

    def __init__(
        self, journal: Path, home: Path, destination: Destination, experiment: str
    ) -> None:
        search = [str(PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
        options = [f"--journal={journal}", f"--home={home}", f"--experiment={experiment}"]
        self._process = subprocess.Popen(
            # -P: the working folder may hold another version of dhmd.
            [sys.executable, "-P", "-m", "dhmd.tracking.uploader", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=os.environ
            | {"MLFLOW_TRACKING_URI": destination.uri, "PYTHONPATH": os.pathsep.join(search)},
            # Ctrl-C in the terminal and a signal to the stage's group are meant for the trainer;
            # the uploader lives on for a moment to mark its runs as killed.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        self._rest = b""
        self._clock = time.monotonic()
        self.is_open = True
        self.got_on = False
        self.done = False

    def messages(self, seconds: float) -> list[tuple[str, object]]:
        """What it told since the last call; waits up to `seconds` for something."""
        while self.is_open and select.select([self._output], [], [], seconds)[0]:
            data = os.read(self._output, 65536)
            self.is_open = bool(data)
            self._rest += data
            seconds = 0.0
        *lines, self._rest = self._rest.split(b"\n")
        told = [item for line in lines for item in json.loads(line).items()]
        for kind, _ in told:
            if kind == "progress":
                self.got_on = True
                self._clock = time.monotonic()
            self.done = self.done or kind == "done"
        return told

    def restart_clock(self) -> None:
        self._clock = time.monotonic()

    def silent_for(self) -> float:
        return time.monotonic() - self._clock

    def say(self, status: str) -> None:
        """The trainer's last word; the pipe closes behind it."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone already: then the journal says it
            self._process.stdin.write(status.encode("ascii"))
        with suppress(OSError):
            self._process.stdin.close()

    def stop(self) -> bool:
        """End the process if it has not ended; whether it had carried everything."""
        if not self.done:
            self._process.kill()
        self._process.wait()
        return self.done
