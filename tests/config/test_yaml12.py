"""The core schema of YAML 1.2, and invalid files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import load_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-5),
        ("1e-4", 1e-4),
        ("-2E3", -2000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("-3", -3),
        ("0o17", 15),
        ("0x1F", 31),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("", None),
        ("~", None),
        ("null", None),
        ("'1e-4'", "1e-4"),
        ("e5", "e5"),
    ],
)
def test_scalars_have_the_types_of_yaml_12(text: str, value: object) -> None:
    read = parse_yaml(f"key: {text}", "params.yaml")
    assert read == {"key": value}
    assert isinstance(read, dict)
    assert type(read["key"]) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_as_python_writes_them_are_floats(number: float) -> None:
    assert parse_yaml(f"[{number!r}]", "params.yaml") == [number]
    assert str(parse_yaml(f"[{number:e}]", "params.yaml")) == f"[{float(f'{number:e}')}]"


def test_merge_keys_are_plain_text() -> None:
    assert parse_yaml("<<: 1", "params.yaml") == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3", "params.yaml, line 3: the key 'a' appears twice"),
        ("a:\n  b: 1\n  b: 1", "params.yaml, line 3: the key 'b' appears twice"),
        ("a: &x [1]\nb: *x", "params.yaml: aliases (*name) are not supported"),
        ("? [1]\n: 2", "params.yaml, line 1: a key must be plain text"),
        ("a: 1\n---\nb: 2", "params.yaml, line 2: but found another document"),
        ("[" * 5000, "params.yaml is not valid YAML"),
        ("a: " + "9" * 5000, "params.yaml is not valid YAML"),
        ("a: \x00", "params.yaml is not valid YAML"),
        (
            "!!python/object/apply:os.system ['true']",
            "params.yaml, line 1: could not determine a constructor for the tag",
        ),
    ],
)
def test_invalid_yaml_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(DhmdError) as caught:
        parse_yaml(text, "params.yaml")
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(DhmdError, match=r"params\.yaml does not exist"):
        load_yaml(path, "params.yaml")
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(DhmdError, match=r"cannot read .*params\.yaml"):
        load_yaml(path)
    path.write_text("ü: 1e-3\n", encoding="utf-8")
    assert load_yaml(path) == {"ü": 0.001}
