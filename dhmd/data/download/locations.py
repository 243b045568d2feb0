"""Where a file may come from: a web server's base address or a local folder."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dhmd.base.addresses import shown_address, without_credentials
from dhmd.base.errors import DhmdError, first_line

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|https?:", re.IGNORECASE)
_HINT = "write / ? # and @ of a user or password as %2F %3F %23 and %40"


@dataclass(frozen=True, kw_only=True)
class Web:
    """A base URL. Credentials written into it are kept apart, so that nothing can show them."""

    base: str
    authorization: str | None = field(default=None, repr=False)

    def url(self, path: str) -> str:
        """The address of the file at `path` (a plain relative path) below the base."""
        return f"{self.base}/{quote(path, safe='/')}"

    def __str__(self) -> str:
        return self.base


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A local folder, or one local file (`written` is how the recipe or the user wrote it)."""

    path: Path
    written: str

    def __str__(self) -> str:
        return self.written


Source = Web | Folder


def parse_source(text: str, root: Path) -> Source:
    """Read one source: an http(s) base URL, or a folder (a relative one counts from `root`).

    An @ behind the server's name is refused, though a path may hold one: in
    `https://user:12/34@host/x` it ends a password, and would make of it a server, a port and a
    path, which are sent and shown. %40 says the same, and can only be a path's.

    Raises:
        DhmdError: another scheme, a URL without a host, with a query or a fragment, or one in
            which a password cannot be told from a path; a home folder that nobody has.
    """
    address = text.strip()
    if not address:
        raise DhmdError("a source is empty: give an http(s) address or a folder")
    if not _SCHEME.match(address):
        written = without_credentials(text)
        try:
            return Folder(path=root / Path(text).expanduser(), written=written)
        except RuntimeError as error:
            raise DhmdError(
                f"source {written} names a home folder that is not known ({first_line(error)}): "
                "write its whole path"
            ) from error
    return _web(address)


def _web(address: str) -> Web:
    shown = shown_address(address)
    hint = f": {_HINT}" if "@" in address else ""
    try:
        parts = urlsplit(address)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    except ValueError as error:  # UnicodeError is one
        raise DhmdError(f"source {shown} is not a valid address{hint}") from error
    if parts.scheme not in ("http", "https"):
        raise DhmdError(f"source {shown} is neither http(s) nor a folder: use one of these")
    if not host:
        raise DhmdError(f"source {shown} names no server{hint}")
    if parts.query or parts.fragment:
        raise DhmdError(
            f"source {shown} carries a query or a fragment: give the base address, "
            f"the recipe's path is put behind it{hint and f' ({_HINT})'}"
        )
    if "@" in path:
        raise DhmdError(f"source {shown} has an @ behind its server: {_HINT}, and @ of a path too")
    authorization = None
    if parts.username is not None:
        authorization = "Basic " + base64.b64encode(pair).decode("ascii")
    bracketed = f"[{host}]" if ":" in host else host
    netloc = bracketed if port is None else f"{bracketed}:{port}"
    base = urlunsplit((parts.scheme, netloc, path, "", ""))
    return Web(base=base, authorization=authorization)


def plain_path(path: str, *, owner: str) -> str:
    """`path` where it stays below any source it is put behind; `owner` says whose it is.

    Raises:
        DhmdError: an absolute path, one that climbs with "..", or one that holds odd characters
            (controls, or halves of a character).
    """
    parts = PurePosixPath(path).parts
    if (
        not path
        or path.endswith("/")
        or path.startswith("/")
        or "\\" in path
        or ":" in path
        or ".." in parts
        or not parts
        or any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in path)
    ):
        raise DhmdError(
            f"{owner}: path {path!r} is not a plain relative path below a source "
            "(no leading /, no .., no \\ and no :)"
        )
    return str(PurePosixPath(*parts))
