"""Remove credentials from addresses in messages and records.

A password may contain `/`, `@`, `?` and `#`, so that addresses cannot be parsed reliably:
everything up to the last `@` is removed, as it may be a password. If it contains `?` or `#`, the
text after the `@` may be a part of a token and is removed too.
"""

from __future__ import annotations

import re

HIDDEN = "…"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/*|//")
# Three slashes start the path of a local file, which may contain an @.
_FILE = r"(?:sqlite|file)[A-Za-z0-9+.-]*:///"
_FILE_SCHEME = re.compile(_FILE, re.IGNORECASE)
_IN_TEXT = re.compile(rf"({_FILE}(?:(?!://)\S)*)|//(\S*@\S*)", re.IGNORECASE)


def redact_address(address: str) -> str:
    """Return an address, valid or not, without user, password, query and fragment."""
    address = address.strip()
    scheme = _SCHEME.match(address)
    if scheme is not None and not _FILE_SCHEME.match(address):
        address = scheme[0] + _without_user(address[scheme.end() :])
    return re.split(r"[?#]" if scheme else r"\?", address, maxsplit=1)[0]


def redact_credentials(text: str) -> str:
    """Return a text with user and password removed from each address in it."""
    return _IN_TEXT.sub(lambda match: match[1] or f"//{_without_user(match[2])}", text)


def _without_user(address: str) -> str:
    """Remove user and password from an address without scheme (`user:password@host/path`)."""
    user, at, location = address.rpartition("@")
    if not at:
        return address
    return HIDDEN if "?" in user or "#" in user else location
