"""Hostile, foreign and damaged pickles: nothing of them runs, and a sentence says what is wrong."""

from __future__ import annotations

import collections
import datetime
import fractions
import os
import pickle
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dhmd.base.errors import DhmdError
from dhmd.data.formats import load_pickle


def loaded(tmp_path: Path, data: bytes) -> Any:
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    return load_pickle(path)


def refused(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(DhmdError) as caught:
        loaded(tmp_path, data)
    message = str(caught.value)
    assert str(tmp_path / "file.pkl") in message
    assert "\n" not in message
    return message


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_are_read(tmp_path, protocol):
    content = loaded(tmp_path, pickle.dumps(CONTENT, protocol=protocol))
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


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    array=hnp.arrays(
        dtype=st.one_of(
            hnp.integer_dtypes(),
            hnp.unsigned_integer_dtypes(),
            hnp.floating_dtypes(sizes=(16, 32, 64)),
            hnp.boolean_dtypes(),
            hnp.unicode_string_dtypes(),
            hnp.byte_string_dtypes(),
        ),
        shape=hnp.array_shapes(min_dims=0, min_side=0, max_dims=3),
    ),
    protocol=st.integers(0, pickle.HIGHEST_PROTOCOL),
)
def test_any_plain_array_comes_back(tmp_path, array, protocol):
    back = np.asarray(loaded(tmp_path, pickle.dumps(array, protocol=protocol)))
    assert back.shape == array.shape
    equal_nan = array.dtype.kind == "f"
    assert np.array_equal(back, array, equal_nan=equal_nan)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda mark: Calls(os.system, f"touch {mark}"), "posix.system"),
        (lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"), "eval"),
        (lambda mark: Calls(exec, f"open({str(mark)!r}, 'w')"), "exec"),
        (lambda mark: Calls(open, str(mark), "w"), "open"),
        (lambda mark: Calls(subprocess.call, ["touch", str(mark)]), ".call"),
        (lambda mark: Calls(np.save, str(mark), 1), "numpy.save"),
        (lambda mark: Calls(getattr, [], "append"), "getattr"),
        (lambda mark: Calls(__import__, "os"), "__import__"),
    ],
)  # fmt: skip
def test_code_does_not_run(tmp_path, call, name, protocol):
    mark = tmp_path / "ran"
    message = refused(tmp_path, pickle.dumps({"train": call(mark)}, protocol=protocol))
    assert name in message
    assert "refused, and nothing of it was run" in message
    assert not mark.exists()


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
def test_unknown_classes_are_refused_by_name(tmp_path, value, name):
    message = refused(tmp_path, pickle.dumps(value))
    assert name in message
    assert "neither an array nor a plain container" in message


def test_class_names_cannot_garble_the_terminal(tmp_path):
    message = refused(tmp_path, b"cevil\x1b[2J\rmodule\nname\n.")
    assert "evil?[2J?module.name" in message


def test_numpy_functions_of_the_list_cannot_be_misused(tmp_path):
    reconstruct = pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n"
    ndarray = pickle.GLOBAL + b"numpy\nndarray\n"

    def shape(size: int) -> bytes:
        return pickle.dumps((size,), 2)[2:-1]

    ten_gigabytes = b"\x80\x02" + reconstruct + b"(" + ndarray + shape(10**10) + b"U\x01dtR."
    assert "built in an unknown way" in refused(tmp_path, ten_gigabytes)
    called = b"\x80\x02" + ndarray + b"(" + shape(10**10) + b"tR."
    assert "built in an unknown way" in refused(tmp_path, called)
    changed = b"\x80\x02" + ndarray + b"}U\x01aK\x01sb."
    assert "tries to change numpy.ndarray" in refused(tmp_path, changed)
    huge_bytes = b"\x80\x02cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR."
    assert "bytes are built in an unknown way" in refused(tmp_path, huge_bytes)


def array_state(shape: Any, dtype: np.dtype[Any], data: Any) -> bytes:
    """A pickle of an array whose state says whatever is given."""

    class Lies(np.ndarray):
        def __reduce__(self) -> Any:
            maker = np.zeros(1).__reduce__()[0]
            return maker, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, data)

    return pickle.dumps(np.zeros(1).view(Lies))


@pytest.mark.parametrize(
    ("shape", "dtype", "data", "said"),
    [
        ((10**9,), np.dtype(float), b"12345678", "data do not fit its shape"),
        ((2,), np.dtype(float), b"12345678", "data do not fit its shape"),
        ((-1,), np.dtype(float), b"", "shape is none"),
        ("ab", np.dtype(float), b"", "shape is none"),
        ((1,) * 9, np.dtype(float), b"12345678", "shape is none"),
        ((1,), "f8", b"12345678", "data type is none"),
        ((1,), np.dtype(float), 3, "data do not fit its shape"),
        ((3,), np.dtype(object), ["a"], "does not fit its shape"),
    ],
)
def test_lying_array_states_are_refused(tmp_path, shape, dtype, data, said):
    assert said in refused(tmp_path, array_state(shape, dtype, data))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([{"a": 1}, 2], dtype=object), "holds a dict, admitted are text and numbers"),
        (np.array([None, 2], dtype=object), "holds a NoneType"),
        (np.array([np.ones(2), np.ones(3)], dtype=object), "a ragged array"),
        (np.array([[1], [1, 2]], dtype=object), "a ragged array"),
        (np.zeros(2, dtype=[("a", float)]), "not admitted"),
        (np.zeros(2, dtype="M8[s]"), "data type 'M8' are not admitted"),
        (np.zeros(2, dtype=complex), "data type 'c16' are not admitted"),
        (np.zeros(2, dtype="V8"), "data type 'V8' are not admitted"),
    ],
)
def test_arrays_of_other_things_are_refused(tmp_path, value, said):
    assert said in refused(tmp_path, pickle.dumps(value))


def test_one_block_of_bytes_cannot_become_a_thousand_arrays(tmp_path):
    data = bytes(10_000)

    class Lies:
        def __reduce__(self) -> Any:
            maker = np.zeros(1).__reduce__()[0]
            state = (1, (10_000,), np.dtype(np.int8), False, data)
            return maker, (np.ndarray, (0,), b"b"), state

    message = refused(tmp_path, pickle.dumps([Lies() for _ in range(1000)]))
    assert "describes larger arrays than its own size allows" in message


def called(name: bytes, argument: bytes, *, rest: bytes = b"", times: int = 100) -> bytes:
    """A pickle that calls one maker many times with one remembered argument."""
    once = b"h\x01h\x00" + rest + (b"\x86" if rest else b"\x85") + b"R"
    maker = b"c" + name + b"q\x01"
    return b"\x80\x02" + argument + b"q\x00" + maker + b"(" + once * times + b"l."


TEXT = b"X" + struct.pack("<I", 300_000) + b"a" * 300_000
BYTES = b"B" + struct.pack("<I", 300_000) + b"a" * 300_000
NUMBERS = b"](" + b"K\x01K\x02" * 50_000 + b"e"
PAIRS = b"](" + b"K\x01K\x02\x86" * 50_000 + b"e"


@pytest.mark.parametrize(
    "data",
    [
        called(b"_codecs\nencode\n", TEXT, rest=b"X\x06\0\0\0latin1"),
        called(b"builtins\nbytearray\n", TEXT, rest=b"X\x07\0\0\0latin-1"),
        called(b"builtins\nbytes\n", BYTES),
        called(b"builtins\nset\n", NUMBERS),
        called(b"builtins\nfrozenset\n", NUMBERS),
        called(b"collections\nOrderedDict\n", PAIRS),
    ],
)
def test_nothing_remembered_can_be_copied_without_end(tmp_path, data):
    message = refused(tmp_path, data)
    assert "describes larger texts and containers than its own size allows" in message


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\xff", b"p4294967295\n", b"r\xff\xff\xff\x03"])
def test_an_index_cannot_ask_for_gigabytes(tmp_path, put):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = resource.getrlimit(resource.RLIMIT_AS)
    message = refused(tmp_path, b"\x80\x02K\x01" + put + b".")
    assert "reading it takes more memory than its" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert resource.getrlimit(resource.RLIMIT_AS) == limits


@pytest.mark.parametrize("protocol", [2, 4])
def test_honest_content_fits_into_the_memory(tmp_path, protocol):
    words = [f"{n:x}" for n in range(200_000)]
    content = [
        words,
        [[n] for n in range(200_000)],
        np.ones(300_000),
        {n: n for n in range(99_999)},
    ]
    back = loaded(tmp_path, pickle.dumps(content, protocol=protocol))
    assert back[:2] == content[:2]


@pytest.mark.parametrize("opcode", [b"\x8e", b"\x8d", b"\x95", b"\x96"])
@pytest.mark.parametrize("length", [10 * 2**30, 2**62])
def test_length_headers_cost_no_memory(tmp_path, opcode, length):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refused(tmp_path, b"\x80\x05" + opcode + struct.pack("<Q", length) + b"abc.")
    assert "truncated or damaged" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_every_truncation_is_refused(tmp_path):
    whole = pickle.dumps(CONTENT, protocol=4)
    for end in range(0, len(whole), 7):
        assert "damaged" in refused(tmp_path, whole[:end])


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_random_damage_never_crashes(tmp_path, data):
    whole = bytearray(pickle.dumps(CONTENT, protocol=data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    message = "file.pkl"
    try:
        loaded(tmp_path, bytes(whole))
    except DhmdError as error:
        message = str(error)
    assert "file.pkl" in message


def test_references_outside_are_refused(tmp_path):
    assert "refers to objects outside itself" in refused(tmp_path, b"\x80\x04Pname\n.")


def test_other_files_are_refused(tmp_path):
    assert "not a whole pickle" in refused(tmp_path, b"<html>no</html>")
    assert "damaged" in refused(tmp_path, b"")
    with pytest.raises(DhmdError, match=r"cannot read .*absent"):
        load_pickle(tmp_path / "absent.pkl")


def test_deep_nesting_is_no_crash(tmp_path):
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
