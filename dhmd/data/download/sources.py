"""The sources of files: web servers, datasets on the Hugging Face hub, local folders."""

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
class WebSource:
    """A base URL with optional credentials.

    Attributes:
        base: the address without credentials, so that messages can show it.
        credentials: (user, password), a token, or None.
    """

    base: str
    credentials: tuple[str, str] | str | None = field(default=None, repr=False)

    def url(self, path: str) -> str:
        """Return the address of the file at a relative path below the base."""
        return f"{self.base}/{quote(path, safe='/')}"

    def __str__(self) -> str:
        return self.base


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A local folder or file.

    Attributes:
        path: its path.
        label: the path as in the recipe or in params.yaml, for messages.
    """

    path: Path
    label: str

    def __str__(self) -> str:
        return self.label


Source = WebSource | Folder


def parse_source(text: str, root: Path) -> Source:
    """Parse a source: an http(s) or hub address, or a folder (a relative one is below `root`).

    `hf://owner/dataset@revision/folder` is a dataset on the Hugging Face hub; the revision (main)
    and the folder are optional. As with the hub's own client, HF_ENDPOINT is the server, which is
    sent the token of HF_TOKEN or of the file that `hf auth login` writes.

    An @ in the path of an address is an error and must be written as %40: the @ in
    `https://user:12/34@host/x` ends a password, which would be taken for a server and a path.

    Raises:
        DhmdError: the scheme is not supported; the address has no server, a query, a fragment or
            an ambiguous password; or the home folder is unknown.
    """
    address = text.strip()
    if not address:
        raise DhmdError("a source is empty: name an http(s) address or a folder")
    if address.startswith("hf://"):
        return _hub(address)
    if _SCHEME.match(address):
        return _web(address)
    shown = redact_credentials(text)
    try:
        return Folder(path=root / Path(text).expanduser(), label=shown)
    except RuntimeError as error:
        raise DhmdError(
            f"source {shown} names an unknown home folder ({first_line(error)}): write the "
            "absolute path"
        ) from error


def _hub(address: str) -> WebSource:
    match = _HUB.fullmatch(address)
    if match is None or ".." in address.split("/"):
        raise DhmdError(
            f"source {redact_address(address)} is not hf://owner/dataset@revision/folder (write / "
            "in a revision as %2F)"
        )
    repository, revision, folder = match.groups()
    server = _web(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").base
    cache = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        path = Path(os.environ.get("HF_TOKEN_PATH") or f"{cache}/token").expanduser()
        with suppress(OSError, ValueError):
            token = path.read_text(encoding="utf-8").strip()
    base = f"{server}/datasets/{repository}/resolve/{revision or 'main'}"
    return WebSource(base=base + quote(folder, safe="/%"), credentials=token or None)


def _web(address: str) -> WebSource:
    shown = redact_address(address)
    hint = f": {_HINT}" if "@" in address else ""
    try:
        parts = urlsplit(address)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
        credentials = unquote(parts.username or ""), unquote(parts.password or "")
        path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    except ValueError as error:  # including UnicodeError
        raise DhmdError(f"source {shown} is not a valid address{hint}") from error
    if parts.scheme not in ("http", "https"):
        raise DhmdError(f"source {shown} is neither an http(s) address nor a folder")
    if not host:
        raise DhmdError(f"source {shown} has no server{hint}")
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
    return WebSource(base=base, credentials=credentials if parts.username is not None else None)


def plain_path(path: str, *, owner: str) -> str:
    """Return a normalised relative path, which cannot leave the folder that it is appended to.

    Args:
        path: a relative path with forward slashes.
        owner: the file and key that have the path, for the message.

    Raises:
        DhmdError: the path is absolute, or contains "..", a backslash, a colon, a control character
            or half a surrogate pair.
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
