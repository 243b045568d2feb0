"""From what a pickle holds to arrays of numbers, each defect one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError

Array = np.ndarray[Any, Any]


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


def numbers(value: object, *, axes: int, where: str, budget: Budget | None = None) -> Array:
    """`value` (an array, or lists of numbers) as a numeric array with that many axes.

    Raises:
        DhmdError: text, other objects, rows of different lengths, other axes.
    """
    if isinstance(value, list | tuple) and budget is not None:
        _spend(value, axes, where, budget)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DhmdError(f"{where} is ragged: its rows have different lengths") from error
    if array.dtype == object:
        array = _from_objects(array, where)
    if array.dtype.kind not in "biuf":
        raise DhmdError(f"{where} holds {_kind(array)} where numbers are expected")
    if array.ndim != axes:
        raise DhmdError(f"{where} has shape {list(array.shape)}, expected {axes} axes")
    return array


def texts(value: object, *, where: str) -> tuple[str, ...]:
    """`value` (a list or an array) as texts.

    Raises:
        DhmdError: it is not a list of texts.
    """
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(items, list | tuple):
        raise DhmdError(f"{where} is {type(value).__name__}, expected a list of texts")
    found = []
    for item in items:
        text = item.decode("utf-8", "replace") if isinstance(item, bytes) else item
        if not isinstance(text, str):
            raise DhmdError(f"{where} holds {type(item).__name__} where texts are expected")
        found.append(text)
    return tuple(found)


def mapping(value: object, *, where: str) -> dict[Any, Any]:
    """`value` as a dict.

    Raises:
        DhmdError: it is something else.
    """
    if not isinstance(value, dict):
        raise DhmdError(f"{where} is {type(value).__name__}, expected a dict")
    return value


def _spend(value: Any, axes: int, where: str, budget: Budget) -> None:
    """Count what unfolding would make, without unfolding."""
    if axes <= 1 or isinstance(value, np.ndarray):
        budget.take(int(np.size(value)) if isinstance(value, np.ndarray) else len(value), where)
        return
    for item in value:
        if isinstance(item, list | tuple | np.ndarray):
            _spend(item, axes - 1, where, budget)


def _from_objects(array: Array, where: str) -> Array:
    try:
        return array.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise DhmdError(f"{where} holds {_kind(array)} where numbers are expected") from error


def _kind(array: Array) -> str:
    return "text" if array.dtype.kind in "SU" else "objects"
