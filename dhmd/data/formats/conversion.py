"""From what a pickle holds to arrays of numbers, each defect one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError

Array = np.ndarray[Any, Any]

_MOST_AXES = 8
_NUMBERS = (bool, int, float, np.bool_, np.number, type(None))  # NumPy reads None as NaN


class Budget:
    """How many numbers nested lists may unfold to: a short file can name one row a million times.

    `size` is the file's size in bytes: no honest file holds a number in less than one.
    """

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, amount: int, where: str) -> None:
        """Spend `amount` numbers.

        Raises:
            DhmdError: the file describes more than it can hold.
        """
        self._left -= amount
        if self._left < 0:
            raise DhmdError(f"{where} is damaged: it describes more numbers than its size allows")


def numbers(value: object, *, axes: int | None, where: str, budget: Budget | None = None) -> Array:
    """`value` (an array, or lists of numbers) as a numeric array with that many axes (None: any).

    Without a budget, lists may have one axis only.

    Raises:
        DhmdError: text, other objects, rows of different lengths, other axes.
    """
    if isinstance(value, list | tuple):
        _spend(value, _MOST_AXES if axes is None else axes, where, budget)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DhmdError(f"{where} is ragged: its rows have different lengths") from error
    if array.dtype == object:
        array = _from_objects(array, where)
    if array.dtype.kind not in "biuf":
        raise DhmdError(f"{where} holds {_kind(array)} where numbers are expected")
    if axes is not None and array.ndim != axes:
        raise DhmdError(f"{where} has shape {list(array.shape)}, expected {axes} axes")
    return array


def texts(value: object, *, where: str) -> tuple[str, ...]:
    """`value` (a list or an array) as texts.

    Raises:
        DhmdError: it is not a list of texts.
    """
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(items, list | tuple):
        raise DhmdError(f"{where} is {type(items).__name__}, expected a list of texts")
    found = []
    for item in items:
        text = item.decode("utf-8", "replace") if isinstance(item, bytes) else item
        if not isinstance(text, str):
            raise DhmdError(f"{where} holds {type(item).__name__} where texts are expected")
        if not _writable(text):
            raise DhmdError(f"{where} is damaged: {text[:40]!r} holds characters that no text has")
        found.append(text)
    return tuple(found)


def number(value: object, *, where: str) -> float:
    """`value` (a number, or an array of one) as a float.

    Raises:
        DhmdError: it is something else.
    """
    if isinstance(value, int | float | np.generic | np.ndarray) and np.size(value) == 1:
        array = np.asarray(value)
        if array.dtype == object:
            array = _from_objects(array, where)
        if array.dtype.kind in "biuf":
            return float(array.reshape(()))
    raise DhmdError(f"{where} is not one number")


def id_text(value: object, *, where: str) -> str:
    """An utterance's own id, a text or a whole number, as text.

    Raises:
        DhmdError: it is something else, or holds what ends a video's name.
    """
    if isinstance(value, int | np.integer) and abs(int(value)) < 2**63:
        return str(value)
    if not isinstance(value, str) or "[" in value or not _writable(value):
        raise DhmdError(f"{where}: the id {_shown(value)} is none")
    return value


def _shown(value: object) -> str:
    """The beginning of it; Python writes no number of 5000 digits."""
    return "that long number" if isinstance(value, int) else repr(str(value)[:40])


def _writable(text: str) -> bool:
    """Whether HDF5 can hold it: no zero byte, no half of a surrogate pair."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def mapping(value: object, *, where: str) -> dict[Any, Any]:
    """`value` as a dict.

    Raises:
        DhmdError: it is something else.
    """
    if not isinstance(value, dict):
        raise DhmdError(f"{where} is {type(value).__name__}, expected a dict")
    return value


def _spend(value: Any, axes: int, where: str, budget: Budget | None) -> None:
    """Count what unfolding would make, without unfolding; refuse what is neither lists nor numbers.

    One long text among a million numbers would make a million places of its length.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufO":
            raise DhmdError(f"{where} holds {_kind(value)} where numbers are expected")
        if budget is not None:
            budget.take(int(value.size), where)
        return
    kinds = set(map(type, value))
    nested = any(issubclass(kind, list | tuple | np.ndarray) for kind in kinds)
    if budget is not None:
        budget.take(1 if nested else 1 + len(value), where)
    if not nested:
        for kind in kinds:
            if not issubclass(kind, _NUMBERS):
                what = "text" if issubclass(kind, str | bytes) else "objects"
                raise DhmdError(f"{where} holds {what} where numbers are expected")
        return
    if not all(issubclass(kind, list | tuple | np.ndarray) for kind in kinds):
        raise DhmdError(f"{where} is ragged: it holds numbers beside rows")
    if axes <= 1:
        raise DhmdError(f"{where} holds rows where numbers are expected")
    for item in value:
        _spend(item, axes - 1, where, budget)


def _from_objects(array: Array, where: str) -> Array:
    try:
        return array.astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DhmdError(f"{where} holds {_kind(array)} where numbers are expected") from error


def _kind(array: Array) -> str:
    return "text" if array.dtype.kind in "SU" else "objects"
