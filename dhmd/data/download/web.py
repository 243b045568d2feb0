"""Receive one file over http(s): retries with back-off, resumes by Range, checks what came."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import filelock
import requests
import urllib3

from dhmd import __version__
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import write_text
from dhmd.base.progress import progress
from dhmd.data.download.contents import Expected, SourceFailure, check_contents

# It logs each retry with the whole exception; the sentence of a failure says how many there were.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

PARTIAL_FOLDER = Path(".dhmd") / "partial"
BLOCK = 1 << 20  # bytes

_LEAST = 1 << 10  # bytes that each `timeout_s` must bring
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_MEANING = {401: "log-in needed", 403: "forbidden", 404: "not found", 410: "gone"}
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"\s*bytes\s+([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)\s*")
_MISUNDERSTOOD = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ValueError,
    OverflowError,  # a date far away, in Retry-After
)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        attempts: at a request, and at a body that breaks off before it brought a block.
        timeout_s: seconds without an answer, or with less than a kibibyte, that end an attempt.
        pause_s: seconds before the second attempt; they double from one attempt to the next.
        longest_pause_s: the most that a pause lasts, also one that the server asks for.
    """

    attempts: int = 4
    timeout_s: float = 30.0
    pause_s: float = 1.0
    longest_pause_s: float = 60.0


class _BrokenOff(Exception):  # noqa: N818 - the body may be continued
    """The body is not whole; another request may continue it."""


@dataclass(frozen=True, kw_only=True)
class _State:
    """What the server said of the body: its total bytes, and a validator for If-Range."""

    total: int | None = None
    validator: str | None = None
    complete: bool = False


class _Session(requests.Session):
    """A session that never follows a redirect to another scheme, except from http to https."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target: str | None = super().get_redirect_target(resp)
        scheme = urlsplit(target or "").scheme
        before = urlsplit(resp.url).scheme
        if scheme not in ("", "http", "https") or (before, scheme) == ("https", "http"):
            raise SourceFailure("it redirects to an unsafe address (not https)")
        return target


class Transfer:
    """One file's transfer: `<root>/.dhmd/partial/<hash of the address>/`, `body` and `state.json`.

    The next run of an interrupted stage continues there, also one in a copy of the work tree.
    """

    def __init__(self, url: str, root: Path, patience: Patience) -> None:
        self.url = url
        self.patience = patience
        self.folder = root / PARTIAL_FOLDER / hashlib.sha256(url.encode()).hexdigest()[:24]
        self.body = self.folder / "body"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the transfer.

        Raises:
            DhmdError: another process is receiving the same file, or the disk refuses.
        """
        path = self.folder.with_suffix(".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(path, timeout=0):
                yield
        except filelock.Timeout as error:
            raise DhmdError(
                f"another process is downloading {self.url}: wait until it has ended"
            ) from error
        except OSError as error:
            raise DhmdError(f"cannot write {path}: {first_line(error)}") from error

    def receive(
        self, label: str, name: str, expected: Expected, credentials: tuple[str, str] | None
    ) -> str:
        """Receive the whole body, check it, and return its sha256.

        Args:
            label: for the progress bar.
            name: the file's name in the recipe.
            expected: bytes and sha256 that it must have.
            credentials: user and password.

        Raises:
            SourceFailure: the server does not give the file.
            DhmdError: the local disk does not take it.
        """
        while True:
            resumed = self._fetch(label, expected, credentials)
            try:
                return check_contents(self.body, name=name, expected=expected)
            except SourceFailure:
                self.discard()
                if not resumed:
                    raise
                # Pieces of two versions may have been joined: only a whole new body decides.

    def place(self, target: Path) -> None:
        """Put the body at `target` too; it stays here until `discard`.

        Both names are one file where the file system can do that, so that whatever ends the run
        before the raw folder is in its place costs no transfer.
        """
        target.unlink(missing_ok=True)  # a source that failed may have left its copy
        try:
            os.link(self.body, target)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(self.body, target)

    def discard(self) -> None:
        """Remove the bytes and the state."""
        with suppress(OSError):
            self.body.unlink(missing_ok=True)  # before the state, which says that it is complete
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _size(self) -> int:
        return self.body.stat().st_size if self.body.is_file() else 0

    def _state(self) -> _State:
        """Return the recorded state; an unreadable one counts as nothing known."""
        try:
            return _State(**json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return _State()

    def _record(self, state: _State) -> None:
        write_text(self.folder / "state.json", json.dumps(asdict(state)) + "\n")

    def _fetch(self, label: str, expected: Expected, credentials: tuple[str, str] | None) -> bool:
        """Receive the rest of the body; return whether some of it was there before."""
        if self._state().complete and self._size():
            return True
        resumed, failed = False, 0
        with self._session(credentials) as session:
            while True:
                before = self._size()
                try:
                    return self._attempt(session, label, expected) or resumed
                except _BrokenOff as failure:
                    resumed = resumed or before > 0
                    failed = 1 if self._size() - before >= BLOCK else failed + 1
                    if failed >= self.patience.attempts:
                        raise SourceFailure(f"{failure} ({_attempts(failed)})") from failure
                    pause = self.patience.pause_s * 2.0 ** (failed - 1)
                    time.sleep(min(pause, self.patience.longest_pause_s))

    def _session(self, credentials: tuple[str, str] | None) -> requests.Session:
        retry = urllib3.Retry(
            total=self.patience.attempts - 1,
            status_forcelist=_RETRIED,
            raise_on_status=False,
            backoff_factor=self.patience.pause_s,
            backoff_max=self.patience.longest_pause_s,
            retry_after_max=int(self.patience.longest_pause_s),
        )
        session = _Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
        session.headers["User-Agent"] = f"dhmd/{__version__}"
        session.headers["Accept-Encoding"] = "identity"
        if credentials is not None:
            user, password = credentials
            session.auth = requests.auth.HTTPBasicAuth(user.encode(), password.encode())
        return session

    def _attempt(self, session: requests.Session, label: str, expected: Expected) -> bool:
        """Make one request; return whether it continued bytes of an earlier one."""
        state = self._state()
        # Bytes may be joined only if the server can vouch for them or the recipe's hash will.
        offset = self._size() if state.validator or expected.sha256 else 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and state.validator:
            headers["If-Range"] = state.validator
        try:
            response = session.get(
                self.url, headers=headers, stream=True, timeout=self.patience.timeout_s
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            reason = f"{_reason(error)} ({_attempts(self.patience.attempts)})"
            raise SourceFailure(reason, unreachable=True) from error
        except _MISUNDERSTOOD as error:
            # Not in the library's words, which may quote a part of a password.
            raise SourceFailure(
                "its address, one that it redirects to, or its answer cannot be understood"
            ) from error
        with response:
            offset, state = self._accepted(response, offset, state, expected)
            self._check_room((state.total or offset) - offset, label)
            self._record(state)
            self._store(response, offset, state, expected, label)
        if state.total is not None and self._size() < state.total:
            raise _BrokenOff(f"the body ended after {self._size()} of {state.total} bytes")
        self._record(replace(state, complete=True))
        return offset > 0

    def _accepted(
        self, response: requests.Response, offset: int, state: _State, expected: Expected
    ) -> tuple[int, _State]:
        """Return where the body begins in the file, and its state; refuse what is not the file."""
        status, headers = response.status_code, response.headers
        if status == 416 and offset:
            self.discard()
            raise _BrokenOff("it no longer has the range that was asked for")
        if status not in (200, 206):
            phrase = http.client.responses.get(status, "unexpected status").lower()
            meaning = _MEANING.get(status, phrase)
            tries = f" ({_attempts(self.patience.attempts)})" if status in _RETRIED else ""
            raise SourceFailure(f"{meaning} ({status}){tries}")
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise SourceFailure("it is a web page (an error or log-in page) instead of the file")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise SourceFailure("the body is encoded, which was not asked for")
        length = headers.get("Content-Length", "").strip()
        total = int(length) if _LENGTH.fullmatch(length) else None
        tag = headers.get("ETag", "")
        validator = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        if not validator.isprintable():  # it could not be sent back
            validator = ""
        if status == 206 and offset:
            match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            whole = int(match[2]) if match is not None and match[2] != "*" else state.total
            changed = validator != "" and validator != state.validator
            changed = changed or (state.total is not None and whole != state.total)
            if match is None or int(match[1]) != offset or changed:
                self.discard()
                raise _BrokenOff("the file changed while it was received")
            total = whole
        else:
            offset = 0
        if total is not None and expected.bytes is not None and total != expected.bytes:
            raise SourceFailure(f"it offers {total} bytes, but the recipe says {expected.bytes}")
        return offset, _State(total=total, validator=validator or None)

    def _check_room(self, needed: int, label: str) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DhmdError(
                f"{label} needs {needed} more bytes and {self.folder.parent} has {free} free: "
                "make room and run again"
            )

    def _store(
        self,
        response: requests.Response,
        offset: int,
        state: _State,
        expected: Expected,
        label: str,
    ) -> None:
        """Write the body from `offset` on, never more bytes than were announced."""
        limit = state.total if state.total is not None else expected.bytes
        size = offset
        blocks = progress(
            self._blocks(response, state.total),
            label,
            unit="MiB",
            initial=offset // BLOCK,
            total=None if limit is None else -(-limit // BLOCK),
        )
        try:
            if not offset:
                self.body.unlink(missing_ok=True)  # never overwritten: `place` may have linked it
            with open(self.body, "r+b" if offset else "wb") as stream:
                stream.seek(offset)
                stream.truncate()
                for block in blocks:
                    size += len(block)
                    if limit is not None and size > limit:
                        self.discard()
                        raise SourceFailure(f"it sends more than the announced {limit} bytes")
                    stream.write(block)
                    stream.flush()
                os.fsync(stream.fileno())  # before the state may say that it is complete
        except OSError as error:
            raise DhmdError(f"cannot write {self.body}: {first_line(error)}") from error

    def _blocks(self, response: requests.Response, total: int | None) -> Iterator[bytes]:
        """Yield the body in blocks of 1 MiB; what came before a break is yielded before it raises.

        A server that sends a byte now and then counts as silent.
        """
        buffer = bytearray()
        failure: _BrokenOff | None = None
        since, received = time.monotonic(), 0
        while failure is None:
            try:
                piece = response.raw.read1(1 << 16, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                # Of a body that ends too early, the caller says how much is missing.
                if total is None or not isinstance(error, urllib3.exceptions.ProtocolError):
                    failure = _BrokenOff(_reason(error))
                break
            if not piece:
                break
            received += len(piece)
            if time.monotonic() - since > self.patience.timeout_s:
                if received < _LEAST:
                    seconds = self.patience.timeout_s
                    failure = _BrokenOff(f"it sent {received} bytes in {seconds:g} s")
                since, received = time.monotonic(), 0
            buffer += piece
            if len(buffer) >= BLOCK:
                yield bytes(buffer)
                buffer.clear()
        if buffer:
            yield bytes(buffer)
        if failure is not None:
            raise failure


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"


def _reason(error: BaseException) -> str:
    """Say why a connection failed, in the system's words; a server's own are never repeated."""
    cause: object = error
    for _ in range(16):
        if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) and not isinstance(
            cause, urllib3.exceptions.NewConnectionError
        ):
            return "no answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
        reason = getattr(cause, "reason", None) or getattr(cause, "original_error", None)
        inner = next((a for a in getattr(cause, "args", ()) if isinstance(a, Exception)), None)
        cause = reason or inner or getattr(cause, "__cause__", None)
    return "the connection broke off"
