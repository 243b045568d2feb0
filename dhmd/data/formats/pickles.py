"""Read pickles of arrays and plain containers without running any code in them.

A pickle can call any function of any installed package, so `find_class` resolves only the names in
its table. NumPy's functions, which trust the shape, data type and flags in the file, are replaced
by functions that check these.
"""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}|O8?")
_NDARRAY = object()  # a placeholder for the class numpy.ndarray, which a file must not call
# Exceptions of the standard library's unpickler on damaged files.
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError),
    *(TypeError, ValueError, OverflowError, RecursionError, MemoryError),
    SystemError,  # invalid Unicode
)


def load_pickle(path: Path) -> object:
    """Load a pickle that contains only arrays, text, numbers and plain containers.

    Arrays may contain booleans, numbers or text, and arrays of objects text and numbers. Files
    written by Python 2 and 3, and by NumPy 1 and 2, are supported.

    Raises:
        DhmdError: the file is absent, truncated or damaged, or contains anything else.
    """
    try:
        with open(path, "rb") as stream:
            return _Unpickler(stream, encoding="latin1").load()
    except OSError as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    except DhmdError as error:
        raise DhmdError(
            f"{path} {error}: the file was not loaded, and none of its code was run"
        ) from error
    except _DAMAGE as error:
        raise DhmdError(
            f"{path} is not a whole pickle, it is truncated or damaged ({first_line(error)})"
        ) from error


class _Dtype:
    """A data type without fields; `__setstate__` sets its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else str(code)
        if not _DTYPE.fullmatch(text):
            raise DhmdError(f"contains an array of data type {text[:40]!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        order, parts = state[1], state[2:5]
        if any(part is not None for part in parts):
            raise DhmdError("contains an array of a structured data type")
        if order in (">", b">"):
            self.dtype = self.dtype.newbyteorder(">")


class _Array(np.ndarray[Any, Any]):
    """An array whose state is checked before it is passed to NumPy."""

    def __setstate__(self, state: Any, /) -> None:
        shape, kind, fortran, data = state[-4:]
        _check_state(shape, kind, data)
        checked = data if isinstance(data, list) else _bytes(data)
        super().__setstate__((1, shape, kind.dtype, bool(fortran), checked))  # type: ignore[arg-type]


def _bytes(data: bytes | bytearray | str) -> bytes:
    """Return an array's data as bytes; Python 2 stored text."""
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _check_state(shape: Any, kind: Any, data: Any) -> None:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise DhmdError("contains an array without a valid shape")
    if not isinstance(kind, _Dtype):
        raise DhmdError("contains an array without a valid data type")
    count = math.prod(shape)
    if not kind.dtype.hasobject:
        size = count * kind.dtype.itemsize
        if not isinstance(data, bytes | bytearray | str) or len(data) != size:
            raise DhmdError("contains an array whose data do not fit its shape")
        return
    if not isinstance(data, list) or len(data) != count:
        raise DhmdError("contains an array of objects that do not fit its shape")
    for item in data:
        if isinstance(item, np.ndarray | list | tuple):
            raise DhmdError("contains a ragged array (rows of different lengths)")
        if not isinstance(item, str | bytes | bool | int | float | np.generic):
            raise DhmdError(f"contains an array of objects with a {type(item).__name__}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        # Only bound methods and immutable types, whose attributes a file cannot set.
        allowed: dict[str, Any] = {
            "numpy.core.multiarray._reconstruct": self._reconstruct,
            "numpy.core.multiarray.scalar": self._scalar,
            "numpy.core.numeric._frombuffer": self._from_buffer,
            "numpy.ndarray": _NDARRAY,
            "numpy.dtype": _Dtype,
            "_codecs.encode": self._encode,
            "collections.OrderedDict": dict,
            **{f"builtins.{kind.__name__}": kind for kind in (set, frozenset, bytes, bytearray)},
        }
        full = f"{module}.{name}".replace("numpy._core", "numpy.core")
        full = full.replace("__builtin__.", "builtins.")
        if full not in allowed:
            shown = "".join(c if c.isprintable() else "?" for c in f"{module}.{name}")[:160]
            raise DhmdError(f"contains {shown}, which is neither an array nor a plain container")
        return allowed[full]

    def persistent_load(self, reference: object, /) -> Any:
        raise DhmdError("refers to objects outside the file")

    def _reconstruct(self, kind: Any, shape: Any, _: Any) -> _Array:
        if kind is not _NDARRAY or shape != (0,):
            raise DhmdError("builds an array in an unsupported way")
        return np.ndarray.__new__(_Array, (0,), np.int8)

    def _from_buffer(self, data: Any, kind: Any, shape: Any, order: Any) -> _Array:
        array = np.ndarray.__new__(_Array, (0,), np.int8)
        array.__setstate__((1, shape, kind, order == "F", data))
        return array

    def _scalar(self, kind: Any, data: Any = b"") -> Any:
        _check_state((), kind, data)
        if kind.dtype.hasobject:
            raise DhmdError("contains a number without a valid data type")
        return np.frombuffer(_bytes(data), dtype=kind.dtype)[0]

    def _encode(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise DhmdError("encodes bytes in an unsupported way")
        return text.encode("latin1")
