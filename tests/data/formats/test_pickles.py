"""Pickles with code or other classes, or that are damaged, are errors and run no code."""

from __future__ import annotations

import collections
import datetime
import fractions
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.formats import load_pickle

UNKNOWN = (
    "which is neither an array nor a plain container: "
    "the file was not loaded, and none of its code was run"
)
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def load(tmp_path: Path, data: bytes) -> Any:
    """Write bytes to a file, and load it as a pickle."""
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    return load_pickle(path)


def error_message(tmp_path: Path, data: bytes) -> str:
    """Return the error message of loading bytes as a pickle."""
    with pytest.raises(DhmdError) as caught:
        load(tmp_path, data)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "file.pkl"))
    assert "\n" not in message
    return message


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


CONTENT = {
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"a", b"bcd"]),
    "objects": np.array(["a", 3, None, 2.5], dtype=object)[[0, 1, 3]],
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3)),
    "big": np.arange(3, dtype=">i4"),
    "number": np.float32(3),
    "name": np.str_("x"),
    "data": b"xx",
    "none": b"",
    "array": bytearray(b"q"),
    "set": {1, 2},
    "ordered": collections.OrderedDict(a=1),
    "nested": [(1, 2.5, None, True, "ü"), {"k": [np.ones(2)]}],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_and_plain_containers_are_read(tmp_path, protocol):
    content = load(tmp_path, pickle.dumps(CONTENT, protocol=protocol))
    assert list(content) == list(CONTENT)
    for key, value in CONTENT.items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(content[key], value)
            assert content[key].dtype.kind == value.dtype.kind
            assert content[key].flags.f_contiguous == value.flags.f_contiguous
        elif key != "nested":
            assert content[key] == value
    assert content["nested"][0] == CONTENT["nested"][0]
    assert np.array_equal(content["nested"][1]["k"][0], np.ones(2))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda marker: Calls(os.system, f"touch {marker}"), "posix.system"),
        (lambda marker: Calls(eval, f"open({str(marker)!r}, 'w')"), "eval"),
        (lambda marker: Calls(exec, f"open({str(marker)!r}, 'w')"), "exec"),
        (lambda marker: Calls(open, str(marker), "w"), "open"),
        (lambda marker: Calls(subprocess.call, ["touch", str(marker)]), ".call"),
        (lambda marker: Calls(np.save, str(marker), 1), "numpy.save"),
        (lambda marker: Calls(getattr, [], "append"), "getattr"),
        (lambda marker: Calls(__import__, "os"), "__import__"),
    ],
)  # fmt: skip
def test_code_does_not_run(tmp_path, call, name, protocol):
    marker = tmp_path / "marker"
    message = error_message(tmp_path, pickle.dumps({"train": call(marker)}, protocol=protocol))
    assert name in message
    assert message.endswith(UNKNOWN)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (fractions.Fraction(1, 3), "fractions.Fraction"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (collections.Counter("aab"), "collections.Counter"),
        (collections.defaultdict(list), "collections.defaultdict"),
        (np.random.default_rng(0), "numpy.random"),
        (Path("x"), "pathlib"),
        (np.ma.masked_array([1.0]), "numpy.ma"),
    ],
)
def test_other_classes_are_errors(tmp_path, value, name):
    message = error_message(tmp_path, pickle.dumps(value))
    assert name in message
    assert message.endswith(UNKNOWN)


def test_control_characters_of_class_names_are_not_printed(tmp_path):
    message = error_message(tmp_path, b"cevil\x1b[2J\rmodule\nname\n.")
    assert "evil?[2J?module.name" in message


RECONSTRUCT, *_ = np.zeros(1).__reduce__()
SHAPE = pickle.dumps((10**10,), 2)[2:-1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # NumPy's function, for an array of 10 GB
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
            + SHAPE + b"U\x01dtR.",
            "builds an array in an unsupported way",
        ),
        (b"\x80\x02cnumpy\nndarray\n(" + SHAPE + b"tR.", "is not a whole pickle"),
        # attributes set on what `find_class` returns
        (b"\x80\x02cnumpy\nndarray\n}U\x01aK\x01sb.", "is not a whole pickle"),
        (b"\x80\x02cnumpy\ndtype\n}U\x01aK\x01sb.", "is not a whole pickle"),
        (
            b"\x80\x02cnumpy.core.multiarray\nscalar\nN}U\x0c__defaults__K\x01s\x86b.",
            "is not a whole pickle",
        ),
        (b"\x80\x02c_codecs\nencode\nU\x01aU\x03bz2\x86R.", "encodes bytes in an unsupported way"),
        (b"\x80\x04Pname\n.", "refers to objects outside the file"),
        (b"<html>no</html>", "is not a whole pickle"),
        (b"", "is not a whole pickle"),
    ],
)  # fmt: skip
def test_misuse_of_allowed_names_is_an_error(tmp_path, data, expected):
    assert expected in error_message(tmp_path, data)


@pytest.mark.parametrize(
    ("shape", "dtype", "data", "expected"),
    [
        ((10**9,), np.dtype(float), b"12345678", "data do not fit its shape"),
        ((2,), np.dtype(float), b"12345678", "data do not fit its shape"),
        ((-1,), np.dtype(float), b"", "without a valid shape"),
        ("ab", np.dtype(float), b"", "without a valid shape"),
        ((1,) * 99, np.dtype(float), b"12345678", "is not a whole pickle"),
        ((1,), "f8", b"12345678", "without a valid data type"),
        ((1,), np.dtype(float), 3, "data do not fit its shape"),
        ((3,), np.dtype(object), ["a"], "do not fit its shape"),
    ],
)
def test_invalid_array_states_are_errors(tmp_path, shape, dtype, data, expected):
    array = Calls(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, data))
    assert expected in error_message(tmp_path, pickle.dumps(array))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([{"a": 1}, 2], dtype=object), "an array of objects with a dict"),
        (np.array([None, 2], dtype=object), "with a NoneType"),
        (np.array([np.ones(2), np.ones(3)], dtype=object), "a ragged array"),
        (np.array([[1], [1, 2]], dtype=object), "a ragged array"),
        (np.zeros(2, dtype=[("a", float)]), "contains an array of data type 'V8'"),
        (np.zeros(2, dtype="M8[s]"), "data type 'M8'"),
        (np.zeros(2, dtype=complex), "data type 'c16'"),
    ],
)
def test_arrays_of_other_types_are_errors(tmp_path, value, expected):
    assert expected in error_message(tmp_path, pickle.dumps(value))


@pytest.mark.parametrize("state", [(3, "<", None, ("a",), {}, 8, 1, 0), (3, "<", (1, 2), None)])
def test_invalid_states_of_data_types_are_errors(tmp_path, state):
    # NumPy would use the names, fields and flags, and read memory outside of the array.
    data = pickle.dumps(Calls(np.dtype, "f8", False, True, state=state))
    assert "the file was not loaded" in error_message(tmp_path, data)


def test_truncated_files_are_errors(tmp_path):
    whole = pickle.dumps(CONTENT, protocol=4)
    for end in range(0, len(whole), 7):
        assert "damaged" in error_message(tmp_path, whole[:end])
    with pytest.raises(DhmdError, match=r"cannot read .*absent"):
        load_pickle(tmp_path / "absent.pkl")


def test_deep_nesting_does_not_crash(tmp_path):
    depth = 200_000
    script = (
        "import sys; from pathlib import Path; from dhmd.data.formats import load_pickle\n"
        "from dhmd.base.errors import DhmdError\n"
        "try: load_pickle(Path(sys.argv[1]))\n"
        "except DhmdError: pass\n"
    )
    path = tmp_path / "deep.pkl"
    path.write_bytes(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    done = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60, check=False)
    assert done.returncode == 0
