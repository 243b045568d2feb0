"""What of an address may be shown or recorded: no user, password, query or fragment.

A password may hold what ends a server's name elsewhere: `/`, `@`, `?` and `#`. So nothing is
parsed here. Whatever stands before the last `@` may be a password, and goes; where a `?` or `#`
stands before it too, what follows may be the rest of a token, and all goes.
"""

from __future__ import annotations

import re

HIDDEN = "…"

_HEAD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/*|//")
# Three slashes: a file, whose path may hold an @ of its own, and no server.
_FILE = r"(?:sqlite|file)[A-Za-z0-9+.-]*:///"
_FILE_HEAD = re.compile(_FILE, re.IGNORECASE)
_IN_TEXT = re.compile(rf"({_FILE}(?:(?!://)\S)*)|//(\S*@\S*)", re.IGNORECASE)


def shown_address(address: str) -> str:
    """A whole address, good or bad, fit to be shown; a path stays as it is up to a `?`."""
    address = address.strip()
    head = _HEAD.match(address)
    if head is not None and not _FILE_HEAD.match(address):
        address = head[0] + _without_user(address[head.end() :])
    return re.split(r"[?#]" if head else r"\?", address, maxsplit=1)[0]


def without_credentials(text: str) -> str:
    """Any text, with user and password taken out of each address in it (a word with `//`)."""
    return _IN_TEXT.sub(lambda found: found[1] or f"//{_without_user(found[2])}", text)


def _without_user(rest: str) -> str:
    """`rest` is what follows the scheme's slashes."""
    before, at, behind = rest.rpartition("@")
    if not at:
        return rest
    return HIDDEN if "?" in before or "#" in before else behind
