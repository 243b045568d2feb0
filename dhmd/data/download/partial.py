"""A transfer that survives being killed: the bytes so far, and what is known of the whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import try_lock, write_text

PARTIAL_FOLDER = Path(".dhmd") / "partial"


@dataclass(frozen=True, kw_only=True)
class State:
    """What the server said of the body: its total, and a validator for If-Range."""

    url: str
    total: int | None = None
    validator: str | None = None
    complete: bool = False


class Partial:
    """`<root>/.dhmd/partial/<key>/`: `body` (bytes received in order) and `state.json`.

    The key is a hash of the URL (without credentials): the next run of an interrupted stage,
    also one in a copy of the work tree, finds the bytes again.
    """

    def __init__(self, root: Path, url: str) -> None:
        key = hashlib.sha256(url.encode("utf-8")).hexdigest()[:24]
        self.url = url
        self.folder = root / PARTIAL_FOLDER / key
        self.body = self.folder / "body"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the transfer; refuse where another process holds it.

        Raises:
            DhmdError: another process is receiving the same file, or the disk refuses.
        """
        path = self.folder.with_suffix(".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = try_lock(path)
        except OSError as error:
            raise DhmdError(f"cannot write {path}: {first_line(error)}") from error
        if lock is None:
            raise DhmdError(f"another process is downloading {self.url}: wait until it has ended")
        try:
            yield
        finally:
            lock.release()

    def size(self) -> int:
        """Bytes received so far."""
        return self.body.stat().st_size if self.body.is_file() else 0

    def state(self) -> State:
        """The recorded state; an unreadable one counts as nothing known."""
        path = self.folder / "state.json"
        if not path.is_file():
            return State(url=self.url)
        try:
            return State(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            return State(url=self.url)

    def record(self, state: State) -> None:
        """Write the state, whole."""
        write_text(self.folder / "state.json", json.dumps(asdict(state), sort_keys=True) + "\n")

    def place(self, target: Path) -> None:
        """Put the finished body at `target` too; it stays here until `discard`.

        Both names are one file where the file system can do that, so that whatever ends the run
        before the raw folder is whole costs no transfer. Nothing is written into it any more: the
        state says that it is complete, and `discard` takes the body first.
        """
        target.unlink(missing_ok=True)  # a source that failed may have left its copy
        try:
            os.link(self.body, target)
        except OSError:
            # Another disk, or one without hard links.
            shutil.copyfile(self.body, target)

    def discard(self) -> None:
        """Forget the bytes and the state."""
        with suppress(OSError):
            self.body.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
