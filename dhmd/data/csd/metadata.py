"""Metadata of computational sequences, as it is found in the wild.

Normally each value is a JSON text, but files in circulation also hold bare text, Python's `b'…'`
and the word None. Nothing here refuses a file: metadata carries no numbers that we use.
"""

from __future__ import annotations

import ast
import json

# The keys that the SDK's own check wants present, with what is written when nobody says.
SDK_KEYS: dict[str, object] = {
    "root name": "",
    "computational sequence description": "",
    "computational sequence version": "1.0",
    "alignment compatible": True,
    "dataset name": "",
    "dataset version": "1.0",
    "creator": "",
    "contact": "",
    "featureset bib citation": "",
    "dataset bib citation": "",
    "md5": None,
}


def parse_value(raw: object) -> object:
    """One metadata value: its JSON or Python literal if it is one, else the text itself."""
    if isinstance(raw, bytes):
        raw = decode_text(raw)
    if not isinstance(raw, str):
        return raw
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(raw)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return raw
        if isinstance(value, bytes):
            return parse_value(value)
    return value


def decode_text(raw: bytes) -> str:
    """UTF-8, or Latin-1 for files that predate it (which never fails)."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def parse_dimension_names(value: object) -> tuple[str, ...] | None:
    """The names if they are a list, None for anything else."""
    if isinstance(value, list | tuple) and value:
        return tuple(str(name) for name in value)
    return None
