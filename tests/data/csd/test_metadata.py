"""Metadata as it is found in the wild."""

import pytest

from dhmd.data.csd.metadata import parse_dimension_names, parse_value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'"Amir Zadeh"', "Amir Zadeh"),
        (b"true", True),
        (b"1.0", 1.0),
        (b"null", None),
        (b"None", None),
        (b"asdfasdfasd", "asdfasdfasd"),
        (b"c4af6b6b-2249-4c7d-8b0f-1a1739837722", "c4af6b6b-2249-4c7d-8b0f-1a1739837722"),
        ('b\'["a", "b"]\'', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        (b"caf\xe9", "café"),
        ("[" * 100_000, "[" * 100_000),
        (3, 3),
    ],
)
def test_every_value_parses_to_something(raw: object, value: object) -> None:
    assert parse_value(raw) == value


@pytest.mark.parametrize(
    ("value", "names"),
    [(["a", 1], ("a", "1")), ([], None), ("sentiment", None), (None, None), ({"a": 1}, None)],
)
def test_dimension_names(value: object, names: tuple[str, ...] | None) -> None:
    assert parse_dimension_names(value) == names
