"""Pickles of arrays and plain containers, read without ever running anything they name.

A pickle is a program: it can name any function of any installed package and call it. Here every
name is looked up in a list of a dozen, and each entry of the list is a stand-in of ours that checks
its arguments before it makes an array, a data type, a number or a container. NumPy's own
reconstruction functions are never handed what the file says, because they trust it.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line

Array = np.ndarray[Any, Any]

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}|O8?")
# What the standard library's unpickler raises on damaged input (its own documentation's list).
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
)
_SCALARS = (str, bytes, bool, int, float, np.generic)

# Memory that reading may take: for each byte of the file (arrays need 1 to 3, words of two letters
# in a list 15, lists of one number 20), and on top for what takes memory at the same time.
_MEMORY_PER_BYTE, _MEMORY = 32, 256 << 20
_limiting = threading.Lock()


class RefusedError(DhmdError):
    """The file asks for something that is not an array or a plain container."""


def load_pickle(path: Path) -> object:
    """Read a pickle that holds only arrays, text, numbers and plain containers.

    Arrays may be of booleans, numbers or text; arrays of objects only of text and numbers. Files
    written by Python 2 and by NumPy 1 and 2 are all read.

    Raises:
        DhmdError: the file is absent, truncated or damaged, or it holds anything else; the sentence
            names the file and the class.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as raw, _Bounded(raw, path, size) as stream:
            unpickler = _Unpickler(stream, path, size)
            with _limited(_MEMORY + _MEMORY_PER_BYTE * size):
                return unpickler.load()
    except OSError as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    except DhmdError:
        raise
    except MemoryError as error:
        raise DhmdError(
            f"{path} is truncated or damaged: reading it takes more memory than its {size} bytes "
            "may need"
        ) from error
    except _DAMAGE as error:
        raise DhmdError(
            f"{path} is not a whole pickle, it is truncated or damaged ({first_line(error)})"
        ) from error


@contextmanager
def _limited(memory: int) -> Iterator[None]:
    """Let the process take only so much more memory, where the system can say so (Linux).

    The unpickler of the standard library keeps a table as long as the highest index that the file
    names: 9 bytes make it take 64 GiB, and no method of ours is asked. Looking at the opcodes first
    would find that, and take longer than reading a file of a hundred million numbers in lists; the
    limit costs nothing, and holds for whatever else a few bytes can ask for.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as stream:
            now = int(stream.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    # The limit is the whole process's: two at once would put back each other's.
    with _limiting:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min([now + memory, *known]), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Bounded(io.BufferedReader):
    """Refuses to read more than there is, before memory for it is taken."""

    def __init__(self, raw: Any, path: Path, size: int) -> None:
        super().__init__(raw, 1 << 20)
        self._path = path
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._size - self.tell():
            raise DhmdError(
                f"{self._path} is truncated or damaged: it announces a block of {size} bytes, "
                f"and the file has {self._size}"
            )
        return super().read(size)


class _Maker:
    """A stand-in for a class or function: it may be called, and nothing else can be done to it."""

    __slots__ = ("_make", "_name", "_where")

    def __init__(self, name: str, make: Callable[..., Any], where: Path) -> None:
        self._name = name
        self._make = make
        self._where = where

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise RefusedError(f"{self._where} tries to change {self._name}: refused")


class _Dtype:
    """A data type in the making: its kind and size, then, by __setstate__, its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise RefusedError(f"arrays of data type {str(text)[:40]!r} are not admitted")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        order, parts = state[1], state[2:5]
        if any(part is not None for part in parts):
            raise RefusedError("arrays of structured data types are not admitted")
        text = order.decode("ascii") if isinstance(order, bytes) else str(order)
        if text not in ("<", ">", "|", "="):
            raise RefusedError(f"byte order {text[:40]!r} is none")
        if text == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array(np.ndarray[Any, Any]):
    """An array whose state is checked before NumPy sees it."""

    _budget: _Budget

    def __setstate__(self, state: Any, /) -> None:
        shape, kind, fortran, data = state[-4:]
        if not isinstance(kind, _Dtype):
            raise RefusedError("an array's data type is none")
        shape = _shape(shape)
        content = _content(data, kind.dtype, math.prod(shape), self._budget)
        state = (1, shape, kind.dtype, bool(fortran), content)
        super().__setstate__(state)


class _Budget:
    """What is made cannot hold more than the file did: bytes named a thousand times are a trap.

    One counts the arrays, another what they are made of, for each byte may be in both.
    """

    def __init__(self, path: Path, size: int, what: str) -> None:
        self.path = path
        self.left = size
        self.what = what

    def take(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise DhmdError(
                f"{self.path} is damaged: it describes larger {self.what} than its own size allows"
            )


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > 8:
        raise RefusedError("an array's shape is none")
    if not all(isinstance(size, int) and 0 <= size < 2**48 for size in shape):
        raise RefusedError("an array's shape is none")
    return shape


def _content(data: Any, dtype: np.dtype[Any], count: int, budget: _Budget) -> bytes | list[Any]:
    """The array's data, which must be exactly what shape and type say."""
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise RefusedError("an array of objects does not fit its shape")
        budget.take(count)
        for item in data:
            if isinstance(item, np.ndarray | list | tuple):
                raise RefusedError("a ragged array (rows of different lengths) is not admitted")
            if not isinstance(item, _SCALARS):
                kind = type(item).__name__
                raise RefusedError(
                    f"an array of objects holds a {kind}, admitted are text and numbers"
                )
        return data
    # Python 2 wrote bytes as text, which is read as Latin-1.
    content = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(content, bytes | bytearray) or len(content) != count * dtype.itemsize:
        raise RefusedError("an array's data do not fit its shape")
    budget.take(len(content))
    return bytes(content)


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: Any, path: Path, size: int) -> None:
        super().__init__(stream, encoding="latin1")
        self._path = path
        self._size = size
        self._admitted = self._stand_ins()

    def find_class(self, module: str, name: str, /) -> Any:
        # Only this method turns names into objects, whatever opcode asks.
        found = self._admitted.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise RefusedError(
                f"{self._path} holds {_shown(module)}.{_shown(name)}, which is neither an array nor"
                " a plain container: refused, and nothing of it was run"
            )
        return found

    def persistent_load(self, reference: object, /) -> Any:
        raise RefusedError(f"{self._path} refers to objects outside itself: refused")

    def load(self) -> Any:
        try:
            return super().load()
        except RefusedError as error:
            text = str(error)
            if str(self._path) not in text:
                raise RefusedError(f"{self._path}: {text}") from error
            raise

    def _stand_ins(self) -> dict[tuple[str, str], _Maker]:
        budget = _Budget(self._path, self._size, "arrays")
        parts = _Budget(self._path, self._size, "texts and containers")

        def reconstruct(kind: Any, shape: Any, _: Any) -> Array:
            if kind is not array_class or shape != (0,):
                raise RefusedError("an array is built in an unknown way")
            array = np.ndarray.__new__(_Array, (0,), np.int8)
            array._budget = budget
            return array

        def from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Array:
            if not isinstance(kind, _Dtype) or kind.dtype.hasobject:
                raise RefusedError("an array's data type is none")
            shape = _shape(shape)
            content = _content(data, kind.dtype, math.prod(shape), budget)
            flat = np.frombuffer(bytes(content), dtype=kind.dtype)
            # Of our own class too: the file may yet try to set its state.
            array = flat.reshape(shape, order="F" if order == "F" else "C").view(_Array)
            array._budget = budget
            return array

        def scalar(kind: Any, data: Any = b"") -> Any:
            if not isinstance(kind, _Dtype) or kind.dtype.hasobject:
                raise RefusedError("a number's data type is none")
            content = _content(data, kind.dtype, 1, budget)
            return np.frombuffer(bytes(content), dtype=kind.dtype)[0]

        def latin1(text: Any, encoding: Any) -> bytes:
            if not isinstance(text, str) or encoding != "latin1":
                raise RefusedError("bytes are encoded in an unknown way")
            parts.take(len(text))
            return text.encode("latin1")

        def plain_bytes(data: Any = b"", encoding: Any = None) -> bytes:
            """`bytes()`, `bytearray(bytes)` or, of old, `bytearray(text, "latin-1")`."""
            if isinstance(data, str) and encoding == "latin-1":
                parts.take(len(data))
                return data.encode("latin1")
            if not isinstance(data, bytes | bytearray):
                # bytearray(10**12) would take that much memory.
                raise RefusedError("bytes are built in an unknown way")
            parts.take(len(data))
            return bytes(data)

        def container(kind: type[Any]) -> Callable[..., Any]:
            def make(items: Any = ()) -> Any:
                parts.take(len(items))
                return kind(items)

            return make

        def not_called(*_: Any) -> Any:
            raise RefusedError("an array is built in an unknown way")

        makers: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy.core.multiarray", "scalar"): scalar,
            ("numpy.core.numeric", "_frombuffer"): from_buffer,
            ("numpy", "ndarray"): not_called,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): latin1,
            ("collections", "OrderedDict"): container(dict),
        }
        for module in ("builtins", "__builtin__"):
            makers[(module, "set")] = container(set)
            makers[(module, "frozenset")] = container(frozenset)
            makers[(module, "bytes")] = plain_bytes
            makers[(module, "bytearray")] = plain_bytes
        made = {key: _Maker(".".join(key), make, self._path) for key, make in makers.items()}
        array_class = made[("numpy", "ndarray")]
        return made


def _shown(name: str) -> str:
    """A name from a hostile file, fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:80]
