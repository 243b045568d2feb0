"""Where a file may come from: a web server's base address or a local folder."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dhmd.base.errors import DhmdError

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


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


def without_credentials(text: str) -> str:
    """`text` with the user and password of any URL in it removed, fit to be shown."""
    return re.sub(r"//[^/\s]*@", "//", text)


def parse_source(text: str, root: Path) -> Source:
    """Read one source: an http(s) base URL, or a folder (a relative one counts from `root`).

    Raises:
        DhmdError: another scheme, a URL without a host, with a query or a fragment.
    """
    if not _SCHEME.match(text):
        if not text.strip():
            raise DhmdError("a source is empty: give an http(s) address or a folder")
        return Folder(path=root / Path(text).expanduser(), written=text)
    shown = without_credentials(text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DhmdError(f"source {shown} is not a valid address") from error
    if parts.scheme.lower() not in ("http", "https"):
        raise DhmdError(f"source {shown} is neither http(s) nor a folder: use one of these")
    if not host:
        raise DhmdError(f"source {shown} names no server")
    if parts.query or parts.fragment:
        bare = shown.split("?")[0].split("#")[0]
        raise DhmdError(
            f"source {bare} carries a query or a fragment: give the base address, "
            "the recipe's path is put behind it"
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    bracketed = f"[{host}]" if ":" in host else host
    netloc = bracketed if port is None else f"{bracketed}:{port}"
    base = urlunsplit((parts.scheme.lower(), netloc, parts.path.rstrip("/"), "", ""))
    return Web(base=base, authorization=authorization)


def plain_path(path: str, *, owner: str) -> str:
    """`path` where it stays below any source it is put behind; `owner` says whose it is.

    Raises:
        DhmdError: an absolute path, one that climbs with "..", or one that holds odd characters.
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
        or any(ord(letter) < 32 for letter in path)
    ):
        raise DhmdError(
            f"{owner}: path {path!r} is not a plain relative path below a source "
            "(no leading /, no .., no \\ and no :)"
        )
    return str(PurePosixPath(*parts))
