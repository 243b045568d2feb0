"""One file over http(s): resumed by Range, retried with back-off, never trusted unchecked."""

from __future__ import annotations

import email.utils
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPResponse
from typing import IO, Any
from urllib.parse import urlsplit

from dhmd import __version__
from dhmd.base.addresses import shown_address, without_credentials
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.progress import progress
from dhmd.data.download.contents import Expected
from dhmd.data.download.failures import SourceFailure, Transient
from dhmd.data.download.partial import Partial, State

BLOCK = 1 << 20
_STEP = 1 << 16
_LEAST = 1 << 10
_RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_MEANING = {401: "log-in needed", 403: "forbidden", 404: "not found", 410: "gone"}
# No file has a length of 19 digits, and `int` refuses one of thousands.
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"\s*bytes\s+([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)\s*")
_LONGEST_WORDS = 200


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for.

    Near silence of `timeout_s` ends an attempt, the pauses between attempts double from `pause_s`,
    and an attempt that brought a block forward starts the count anew.
    """

    attempts: int = 4
    timeout_s: float = 30.0
    pause_s: float = 1.0
    longest_pause_s: float = 60.0


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to http(s) only, and never from https down to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise SourceFailure(f"it redirects to {_told(shown_address(newurl))}, which is unsafe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    url: str,
    *,
    authorization: str | None,
    partial: Partial,
    expected: Expected,
    label: str,
    patience: Patience,
) -> bool:
    """Receive the whole body at `url` into `partial`; say whether any of it was resumed.

    Raises:
        SourceFailure: the server does not give the file, in words.
        DhmdError: the local disk does not take it.
    """
    resumed = False
    failed = 0
    while True:
        before = partial.size()
        try:
            return _attempt(url, authorization, partial, expected, label, patience) or resumed
        except Transient as failure:
            gained = partial.size() - before
            resumed = resumed or before > 0
            failed = 1 if gained >= BLOCK else failed + 1
            if failed >= patience.attempts:
                tried = "attempt" if failed == 1 else "attempts"
                reason = f"{failure} ({failed} {tried})"
                raise SourceFailure(reason, unreachable=failure.unreachable) from failure
            pause = patience.pause_s * 2.0 ** (failed - 1)
            time.sleep(min(max(pause, failure.wait_s or 0.0), patience.longest_pause_s))


def _attempt(
    url: str,
    authorization: str | None,
    partial: Partial,
    expected: Expected,
    label: str,
    patience: Patience,
) -> bool:
    """One request; True when it continued bytes of an earlier one."""
    state = partial.state()
    if state.complete and partial.size() > 0:
        return True
    # Bytes may be joined only if the server can vouch for them or the recipe's hash will.
    offset = partial.size() if state.validator or expected.sha256 else 0
    with _open(url, authorization, offset, state, patience, partial) as response:
        offset, state = _accept(response, offset, state, partial, expected)
        _check_room(partial, (state.total or offset) - offset, label)
        partial.record(state)
        _store(response, partial, offset, state, expected, label, patience)
    size = partial.size()
    if state.total is not None and size < state.total:
        raise Transient(f"the body ended after {size} of {state.total} bytes")
    partial.record(replace(state, complete=True))
    return offset > 0


def _open(
    url: str,
    authorization: str | None,
    offset: int,
    state: State,
    patience: Patience,
    partial: Partial,
) -> HTTPResponse:
    request = urllib.request.Request(url)
    request.add_header("User-Agent", f"dhmd/{__version__}")
    request.add_header("Accept-Encoding", "identity")
    if authorization is not None:
        # Unredirected: another host must never be handed the password.
        request.add_unredirected_header("Authorization", authorization)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if state.validator:
            request.add_header("If-Range", state.validator)
    # The opener takes the proxies from the environment.
    opener = urllib.request.build_opener(_CarefulRedirects)
    try:
        response: HTTPResponse = opener.open(request, timeout=patience.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and offset:
            partial.discard()
            raise Transient("it no longer has the range that was asked for") from error
        raise _status_failure(error.code, error.headers) from error
    except urllib.error.URLError as error:
        raise Transient(_reason(error.reason), unreachable=True) from error
    except (ValueError, http.client.InvalidURL) as error:
        # Not in the library's words, which may quote a part of a password.
        raise SourceFailure(
            "its address, one that it redirects to, or the proxy's cannot be understood"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Transient(_reason(error), unreachable=True) from error
    return response


def _status_failure(status: int, headers: Any) -> SourceFailure:
    meaning = _MEANING.get(status, http.client.responses.get(status, "").lower())
    reason = f"{meaning} ({status})" if meaning else f"status {status}"
    if status in _RETRIED_STATUS:
        return Transient(reason, wait_s=_retry_after(headers.get("Retry-After")))
    return SourceFailure(reason)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date."""
    if value is None:
        return None
    try:
        if _LENGTH.fullmatch(value.strip()):
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    words = first_line(error) if isinstance(error, BaseException) else str(error)
    return _told(without_credentials(words))


def _told(words: str) -> str:
    """What a server says, for a terminal: nothing that steers one, and not pages of it."""
    words = "".join(letter if letter.isprintable() else "?" for letter in words)
    return words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS]}…"


def _accept(
    response: HTTPResponse, offset: int, state: State, partial: Partial, expected: Expected
) -> tuple[int, State]:
    """Where the body begins in the file, and the state it belongs to; refuse what is not it."""
    headers = response.headers
    if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise SourceFailure("a web page came instead of the file (an error or log-in page)")
    encoding = headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise SourceFailure(f"the body is encoded as {_told(encoding)}, which was not asked for")
    length = headers.get("Content-Length", "").strip()
    total = int(length) if _LENGTH.fullmatch(length) else None
    validator = _validator(headers)
    if response.status == 206 and offset:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        whole = None if match is None or match[2] == "*" else int(match[2])
        other = whole is not None and state.total is not None and whole != state.total
        changed = other or (validator is not None and validator != state.validator)
        if match is None or int(match[1]) != offset or changed:
            partial.discard()
            raise Transient("the file changed while it was received")
        total = whole if whole is not None else state.total
    elif response.status == 200:
        offset = 0
    else:
        raise SourceFailure(f"an unexpected answer (status {response.status})")
    if total is not None and expected.bytes is not None and total != expected.bytes:
        raise SourceFailure(f"it offers {total} bytes where the recipe says {expected.bytes}")
    return offset, State(url=state.url, total=total, validator=validator)


def _validator(headers: Any) -> str | None:
    """A strong entity tag, or else the date of the last change; fit for If-Range."""
    tag = headers.get("ETag", "")
    if tag.startswith("W/"):
        tag = ""
    found = str(tag or headers.get("Last-Modified", ""))
    # What holds controls could not be sent back.
    return found if found and found.isprintable() else None


def _check_room(partial: Partial, needed: int, label: str) -> None:
    free = shutil.disk_usage(partial.folder.parent).free
    if needed > free:
        raise DhmdError(
            f"{label} needs {needed} more bytes and {partial.folder.parent} has {free} free: "
            "make room and run again"
        )


def _store(
    response: HTTPResponse,
    partial: Partial,
    offset: int,
    state: State,
    expected: Expected,
    label: str,
    patience: Patience,
) -> None:
    """Append the body at `offset`; the recipe's length is never exceeded."""
    limit = state.total if state.total is not None else expected.bytes
    blocks = progress(
        _blocks(response, patience),
        label,
        unit="MiB",
        initial=offset // BLOCK,
        total=None if limit is None else -(-limit // BLOCK),
    )
    with _opened(partial, offset) as stream:
        size = offset
        for block in blocks:
            size += len(block)
            if limit is not None and size > limit:
                partial.discard()
                raise SourceFailure(f"it sends more than the {limit} bytes that were announced")
            try:
                stream.write(block)
                stream.flush()
            except OSError as error:
                raise DhmdError(f"cannot write {partial.body}: {first_line(error)}") from error
        try:
            os.fsync(stream.fileno())  # before the state may say that it is complete
        except OSError as error:
            raise DhmdError(f"cannot write {partial.body}: {first_line(error)}") from error


def _opened(partial: Partial, offset: int) -> IO[bytes]:
    try:
        if not offset:
            partial.body.unlink(missing_ok=True)  # never written over: see Partial.place
        stream = open(partial.body, "r+b" if offset else "wb")  # noqa: SIM115 - handed on
        stream.seek(offset)
        stream.truncate()
    except OSError as error:
        raise DhmdError(f"cannot write {partial.body}: {first_line(error)}") from error
    return stream


def _blocks(response: HTTPResponse, patience: Patience) -> Iterator[bytes]:
    """The body in blocks of 1 MiB; what came before a break is handed on before it is raised.

    A server that drips is as good as silent: each `timeout_s` must bring a kibibyte.
    """
    buffer = bytearray()
    failure: Transient | None = None
    since, received = time.monotonic(), 0
    while failure is None:
        try:
            piece = response.read1(_STEP)
        except (OSError, ValueError, http.client.HTTPException) as error:
            failure = Transient(f"the connection broke: {_reason(error)}")
            break
        if not piece:
            break
        received += len(piece)
        if time.monotonic() - since > patience.timeout_s:
            if received < _LEAST:
                failure = Transient(f"it sent {received} bytes in {patience.timeout_s:g} s")
            since, received = time.monotonic(), 0
        buffer += piece
        if len(buffer) >= BLOCK:
            yield bytes(buffer[:BLOCK])
            del buffer[:BLOCK]
    if buffer:
        yield bytes(buffer)
    if failure is not None:
        raise failure
