"""Download one file over HTTP, with retries, resumption by Range and checks of the content."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import urllib3

from dhmd import __version__
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import try_lock, write_text
from dhmd.base.progress import progress
from dhmd.data.download.contents import SourceError, check_contents

if TYPE_CHECKING:
    from dhmd.recipes import SequenceFile

# urllib3 logs each retry with its exception; our final message has the number of attempts.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

PARTIAL_FOLDER = Path(".dhmd") / "partial"
BLOCK = 1 << 20  # bytes

Credentials = tuple[str, str] | str | None  # (user, password), or a token

_RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_STATUS_TEXT = {401: "log-in needed", 403: "forbidden", 404: "not found", 410: "gone"}
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"\s*bytes\s+([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)\s*")
# OverflowError: a distant date in Retry-After.
_INVALID_RESPONSE = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ValueError,
    OverflowError,
)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Retries and time limits of requests.

    Attributes:
        attempts: maximum number of requests without progress; one that receives a whole block
            resets the count.
        timeout_s: seconds without data after which an attempt fails.
        pause_s: seconds before the second attempt; each later pause is twice as long.
        max_pause_s: maximum pause in seconds, also if the server requests a longer one.
    """

    attempts: int = 4
    timeout_s: float = 30.0
    pause_s: float = 1.0
    max_pause_s: float = 60.0


class _IncompleteBodyError(Exception):
    """The body is incomplete; another request may continue it."""


class _Session(requests.Session):
    """A session that only follows redirects to the same scheme, or from http to https."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target: str | None = super().get_redirect_target(resp)
        scheme = urlsplit(target or "").scheme
        before = urlsplit(resp.url).scheme
        if scheme not in ("", "http", "https") or (before, scheme) == ("https", "http"):
            raise SourceError("it redirects to an unsafe address (not https)")
        return target


class _Token(requests.auth.AuthBase):
    """Bearer authentication; requests removes the header if a redirect leads to another host."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Transfer:
    """The download of one file into `<root>/.dhmd/partial/<hash of the address>/`.

    The file `partial` is renamed to `body` when it is complete. `validator` has the server's ETag
    or date, with which a later run continues an interrupted transfer.
    """

    def __init__(self, url: str, root: Path, policy: RetryPolicy) -> None:
        self.url = url
        self.policy = policy
        self.folder = root / PARTIAL_FOLDER / hashlib.sha256(url.encode()).hexdigest()[:24]
        self.body = self.folder / "body"
        self._partial = self.folder / "partial"
        self._validator = self.folder / "validator"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and lock it against other processes."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = try_lock(self.folder.with_suffix(".lock"))
        except OSError as error:
            raise DhmdError(f"cannot write {self.folder}: {first_line(error)}") from error
        if lock is None:
            raise DhmdError(
                f"another process is downloading {self.url}: wait until that process ends"
            )
        with lock:
            yield

    def receive(
        self, label: str, name: str, expected: SequenceFile, credentials: Credentials
    ) -> str:
        """Download the whole body, check it, and return its sha256.

        Args:
            label: the label of the progress bar.
            name: the file's name in the recipe.
            expected: the bytes and the sha256 that the recipe pins, if any.
            credentials: (user, password), a token, or None.

        Raises:
            SourceError: the server does not provide the file.
        """
        while True:
            resumed = self.body.is_file() or self._fetch(label, expected, credentials)
            try:
                return check_contents(self.body, name=name, expected=expected)
            except SourceError:
                self.discard()
                if not resumed:
                    raise
                # The body may consist of two versions: download it again from the start.

    def place(self, target: Path) -> None:
        """Link or copy the body to `target`.

        The body is not removed before `discard`, so that a run that fails before the raw folder is
        complete need not repeat the download.
        """
        target.unlink(missing_ok=True)  # an incomplete copy of an earlier source
        try:
            os.link(self.body, target)
        except OSError:  # on another disk, or hard links are not supported
            shutil.copyfile(self.body, target)

    def discard(self) -> None:
        """Remove all downloaded data."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _size(self) -> int:
        return self._partial.stat().st_size if self._partial.is_file() else 0

    def _fetch(self, label: str, expected: SequenceFile, credentials: Credentials) -> bool:
        """Download the rest of the file; return whether the download was resumed."""
        policy = self.policy
        retry = urllib3.Retry(
            total=policy.attempts - 1,
            status_forcelist=_RETRIED_STATUS,
            raise_on_status=False,
            backoff_factor=policy.pause_s,
            backoff_max=policy.max_pause_s,
            retry_after_max=int(policy.max_pause_s),
        )
        resumed, failed = False, 0
        with _Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
            session.headers["User-Agent"] = f"dhmd/{__version__}"
            session.headers["Accept-Encoding"] = "identity"
            if isinstance(credentials, str):
                session.auth = _Token(credentials)
            elif credentials is not None:
                user, password = credentials
                session.auth = requests.auth.HTTPBasicAuth(user.encode(), password.encode())
            while True:
                before = self._size()
                try:
                    resumed = self._attempt(session, label, expected) or resumed
                    os.replace(self._partial, self.body)
                    return resumed
                except _IncompleteBodyError as failure:
                    resumed = resumed or before > 0
                    failed = 1 if self._size() - before >= BLOCK else failed + 1
                    if failed >= policy.attempts:
                        raise SourceError(f"{failure} ({_attempts(failed)})") from failure
                    pause = policy.pause_s * 2.0 ** (failed - 1)
                    time.sleep(min(pause, policy.max_pause_s))

    def _attempt(self, session: requests.Session, label: str, expected: SequenceFile) -> bool:
        """Make one request; return whether it continued an earlier one."""
        validator = ""
        with suppress(OSError, ValueError):
            validator = self._validator.read_text(encoding="utf-8").strip()
        # Continue only if the server's validator or the recipe's hash confirms that the parts fit.
        offset = self._size() if validator or expected.sha256 else 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        timeout, attempts = self.policy.timeout_s, _attempts(self.policy.attempts)
        try:
            response = session.get(self.url, headers=headers, stream=True, timeout=timeout)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise SourceError(f"{_reason(error)} ({attempts})", unreachable=True) from error
        except _INVALID_RESPONSE as error:  # whose message may contain a part of a password
            raise SourceError(
                "its address, the target of a redirect, or its response is invalid"
            ) from error
        with response:
            status = response.status_code
            if status == 416 and offset:
                self.discard()
                raise _IncompleteBodyError("it no longer has the requested range")
            if status not in (200, 206):
                text = _STATUS_TEXT.get(status) or http.client.responses.get(status, "unexpected")
                tries = f" ({attempts})" if status in _RETRIED_STATUS else ""
                raise SourceError(f"{text.lower()} ({status}){tries}")
            offset = offset if status == 206 else 0
            total = self._check_headers(response, offset, validator)
            if total is not None and expected.bytes is not None and total != expected.bytes:
                raise SourceError(
                    f"the server offers {total} bytes, but the recipe has {expected.bytes}"
                )
            free, needed = shutil.disk_usage(self.folder).free, (total or offset) - offset
            if needed > free:
                raise DhmdError(
                    f"{label} needs {needed} more bytes and {self.folder.parent} has {free} free: "
                    "free some disk space and run the command again"
                )
            self._store(response, offset, total, expected.bytes if total is None else total, label)
        if total is not None and self._size() < total:
            raise _IncompleteBodyError(f"the body ended after {self._size()} of {total} bytes")
        return offset > 0

    def _check_headers(self, response: requests.Response, offset: int, before: str) -> int | None:
        """Check the headers of a response to a request from `offset` on, and store its validator.

        Returns:
            The number of bytes of the whole body; None if the server does not state it.
        """
        headers = response.headers
        content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if content_type in ("text/html", "application/xhtml+xml"):
            raise SourceError("it is a web page (an error or log-in page) instead of the file")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise SourceError("it has a Content-Encoding that was not requested")
        tag = headers.get("ETag", "")
        validator = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        if not validator.isprintable():  # it could not be sent in a header
            validator = ""
        length = headers.get("Content-Length", "").strip()
        if offset:
            match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if match is None or int(match[1]) != offset or validator not in ("", before):
                self.discard()
                raise _IncompleteBodyError("the file changed during the download")
            length = match[2]
        write_text(self._validator, validator)
        return int(length) if _LENGTH.fullmatch(length) else None

    def _store(
        self,
        response: requests.Response,
        offset: int,
        total: int | None,
        limit: int | None,
        label: str,
    ) -> None:
        """Write the body from `offset` on; an error if it exceeds `limit` bytes in total."""
        size = offset
        blocks = progress(
            self._blocks(response, total),
            label,
            unit="MiB",
            initial=offset // BLOCK,
            total=None if limit is None else -(-limit // BLOCK),
        )
        try:
            with open(self._partial, "ab" if offset else "wb") as stream:
                for block in blocks:
                    size += len(block)
                    if limit is not None and size > limit:
                        self.discard()
                        raise SourceError(f"it sends more than the announced {limit} bytes")
                    stream.write(block)
                os.fsync(stream.fileno())
        except OSError as error:
            raise DhmdError(f"cannot write {self._partial}: {first_line(error)}") from error

    def _blocks(self, response: requests.Response, total: int | None) -> Iterator[bytes]:
        """Yield the body in blocks of 1 MiB; if the connection fails, the rest first."""
        buffer, failure = bytearray(), ""
        try:
            while data := response.raw.read1(1 << 16, decode_content=False):
                buffer += data
                if len(buffer) >= BLOCK:
                    yield bytes(buffer)
                    buffer.clear()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # If the body is shorter than `total`, the caller raises an error with its length.
            if total is None or not isinstance(error, urllib3.exceptions.ProtocolError):
                failure = _reason(error)
        if buffer:
            yield bytes(buffer)
        if failure:
            raise _IncompleteBodyError(failure)


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"


def _reason(error: BaseException) -> str:
    """Return why a connection failed, without any text from the server."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError | urllib3.exceptions.ReadTimeoutError):
            return "no answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return "the connection broke off"
