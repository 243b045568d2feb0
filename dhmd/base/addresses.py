"""Addresses without credentials, for messages and records.

A password may contain `/`, `@`, `?` and `#`, so addresses are not parsed: everything before the
last `@` may be a password and is removed. If a `?` or `#` stands before that `@`, what follows it
may be the rest of a token, and is removed too.
"""

from __future__ import annotations

import re

HIDDEN = "…"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/*|//")
# Three slashes: a local file, whose path may contain an @.
_FILE = r"(?:sqlite|file)[A-Za-z0-9+.-]*:///"
_FILE_SCHEME = re.compile(_FILE, re.IGNORECASE)
_IN_TEXT = re.compile(rf"({_FILE}(?:(?!://)\S)*)|//(\S*@\S*)", re.IGNORECASE)


def shown_address(address: str) -> str:
    """Return one address, valid or not, without user, password, query and fragment."""
    address = address.strip()
    scheme = _SCHEME.match(address)
    if scheme is not None and not _FILE_SCHEME.match(address):
        address = scheme[0] + _without_user(address[scheme.end() :])
    return re.split(r"[?#]" if scheme else r"\?", address, maxsplit=1)[0]


def without_credentials(text: str) -> str:
    """Return a text with user and password removed from each address in it."""
    return _IN_TEXT.sub(lambda found: found[1] or f"//{_without_user(found[2])}", text)


def _without_user(rest: str) -> str:
    """`rest` follows the scheme's slashes."""
    before, at, behind = rest.rpartition("@")
    if not at:
        return rest
    return HIDDEN if "?" in before or "#" in before else behind
