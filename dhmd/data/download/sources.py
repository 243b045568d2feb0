"""Where a file may come from: a web server, a dataset on the Hugging Face hub, a local folder."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dhmd.base.addresses import redact_address, redact_credentials
from dhmd.base.errors import DhmdError, first_line

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|https?:", re.IGNORECASE)
_HUB = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)(?:@([\w.%-]+))?((?:/[^/?#@]+)*)/?")
_HINT = "write / ? # and @ of a user or password as %2F %3F %23 and %40"


@dataclass(frozen=True, kw_only=True)
class Web:
    """A base address. Credentials are stored apart from it, so that no message shows them.

    They are a user and a password, or a token.
    """

    base: str
    credentials: tuple[str, str] | str | None = field(default=None, repr=False)

    def url(self, path: str) -> str:
        """Return the address of the file at a plain relative path below the base."""
        return f"{self.base}/{quote(path, safe='/')}"

    def __str__(self) -> str:
        return self.base


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A local folder or file; `written` is how the recipe or the user wrote it."""

    path: Path
    written: str

    def __str__(self) -> str:
        return self.written


Source = Web | Folder


def parse_source(text: str, root: Path) -> Source:
    """Read one source: an http(s) or hub address, or a folder (a relative one is below `root`).

    `hf://owner/dataset@revision/folder` is a dataset on the Hugging Face hub; revision (main) and
    folder may be absent. As with the hub's own clients, HF_ENDPOINT is the server, and the token of
    HF_TOKEN or of the file that `hf auth login` wrote is sent to it.

    An @ in the path of an address is refused: in `https://user:12/34@host/x` it ends a password,
    which would be read as a server, a port and a path, sent and shown. A path writes it as %40.

    Raises:
        DhmdError: another scheme, an address without a server, with a query or a fragment, or one
            whose password is ambiguous; a home folder that does not exist.
    """
    address = text.strip()
    if not address:
        raise DhmdError("a source is empty: give an http(s) address or a folder")
    if address.startswith("hf://"):
        return _hub(address)
    if _SCHEME.match(address):
        return _web(address)
    written = redact_credentials(text)
    try:
        return Folder(path=root / Path(text).expanduser(), written=written)
    except RuntimeError as error:
        raise DhmdError(
            f"source {written} names an unknown home folder ({first_line(error)}): write its "
            "whole path"
        ) from error


def _hub(address: str) -> Web:
    found = _HUB.fullmatch(address)
    if found is None or ".." in address.split("/"):
        raise DhmdError(
            f"source {redact_address(address)} is not hf://owner/dataset@revision/folder (write / "
            "in a revision as %2F)"
        )
    repository, revision, folder = found.groups()
    server = _web(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").base
    cache = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        path = Path(os.environ.get("HF_TOKEN_PATH") or f"{cache}/token").expanduser()
        with suppress(OSError, ValueError):
            token = path.read_text(encoding="utf-8").strip()
    base = f"{server}/datasets/{repository}/resolve/{revision or 'main'}"
    return Web(base=base + quote(folder, safe="/%"), credentials=token or None)


def _web(address: str) -> Web:
    shown = redact_address(address)
    hint = f": {_HINT}" if "@" in address else ""
    try:
        parts = urlsplit(address)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
        credentials = unquote(parts.username or ""), unquote(parts.password or "")
        path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    except ValueError as error:  # UnicodeError is one
        raise DhmdError(f"source {shown} is not a valid address{hint}") from error
    if parts.scheme not in ("http", "https"):
        raise DhmdError(f"source {shown} is neither an http(s) address nor a folder")
    if not host:
        raise DhmdError(f"source {shown} names no server{hint}")
    if parts.query or parts.fragment:
        raise DhmdError(
            f"source {shown} has a query or a fragment: give the base address, to which the "
            f"recipe's path is added{hint and f' ({_HINT})'}"
        )
    if "@" in path:
        raise DhmdError(f"source {shown} has an @ in its path: {_HINT}, and @ of a path too")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    base = urlunsplit((parts.scheme, netloc, path, "", ""))
    return Web(base=base, credentials=credentials if parts.username is not None else None)


def plain_path(path: str, *, owner: str) -> str:
    """Return `path` if it stays below any folder or address that it is added to.

    Args:
        path: a relative path with forward slashes.
        owner: the key of the path, for the message.

    Raises:
        DhmdError: an absolute path, one with "..", a backslash or a colon, or odd characters
            (controls, or halves of a character).
    """
    parts = PurePosixPath(path).parts
    if (
        not parts
        or path.startswith("/")
        or path.endswith("/")
        or ".." in parts
        or any(c in "\\:" or ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in path)
    ):
        raise DhmdError(
            f"{owner}: path {path!r} is not a plain relative path (no leading /, no .., no \\ "
            "and no :)"
        )
    return str(PurePosixPath(*parts))
