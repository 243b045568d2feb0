"""Convert values of a user's file to arrays and text, with error messages for invalid values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import encode_sets
from dhmd.data.csd import Array, segment_id, segment_row, video_of
from dhmd.recipes import Labels


def as_numbers(value: object, *, axes: int | None, where: str) -> Array:
    """Convert an array or nested lists to a numeric array.

    Args:
        value: the value in the file.
        axes: the required number of axes; None allows any.
        where: the file and key, for messages.

    Raises:
        DhmdError: the value is ragged, not numeric, or has another number of axes.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DhmdError(f"{where} is ragged: its rows have different lengths") from error
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise DhmdError(f"{where} contains objects instead of numbers") from error
    if array.dtype.kind not in "biuf":
        kind = "text" if array.dtype.kind in "SU" else "objects"
        raise DhmdError(f"{where} contains {kind} instead of numbers")
    if axes is not None and array.ndim != axes:
        raise DhmdError(f"{where} has shape {list(array.shape)}, but must have {axes} axes")
    return array


def as_number(value: object, *, where: str) -> float:
    """Convert a number, or an array with one element, to a float."""
    if isinstance(value, int | float | np.generic | np.ndarray) and np.size(value) == 1:
        return float(as_numbers(value, axes=None, where=where).reshape(()))
    raise DhmdError(f"{where} must be one number")


def as_labels(value: object, *, count: int, where: str, spec: Labels | None = None) -> Array:
    """Convert labels to float64 `[N]`.

    Args:
        value: `[N]` or `[N, 1]`; in a multi-label task `[N, C]`, or `[N, C, 2]` with the scores of
            absence and presence of each class.
        count: N.
        where: the file and key, for messages.
        spec: the recipe's labels; None returns the values unscaled.

    Raises:
        DhmdError: the value is not numeric or has another shape.
    """
    labels = as_numbers(value, axes=None, where=where).astype(np.float64)
    if spec is not None and spec.task == "multilabel":
        shape = [count, len(spec.classes)]
        if list(labels.shape) == [*shape, 2]:
            labels = np.where(np.isfinite(labels).all(-1), labels.argmax(-1), np.nan)
        if list(labels.shape) == shape:
            return encode_sets(labels)
        raise DhmdError(
            f"{where} has shape {list(labels.shape)}, but must have shape {shape}, one value per "
            "utterance and class"
        )
    if labels.shape[:1] != (count,) or labels.size != count:
        raise DhmdError(
            f"{where} has shape {list(labels.shape)}, but must have shape [{count}], one label "
            "per utterance"
        )
    labels_N = labels.reshape(count)
    return labels_N if spec is None else spec.rescale(labels_N)


def may_be_classes(labels_N: Array) -> bool:
    """Return whether labels could be class indices: all are non-negative whole numbers."""
    return bool(len(labels_N) and (labels_N >= 0).all() and (labels_N == np.round(labels_N)).all())


def concatenate_rows(parts: Iterable[Any], *, axes: int, where: str) -> Array:
    """Convert and concatenate the parts of an utterance; an empty part may lack its second axis."""
    arrays = [as_numbers(part, axes=axes, where=where) for part in parts if len(part)]
    if not arrays:
        raise DhmdError(f"{where} has no rows")
    if len({array.shape[1:] for array in arrays}) > 1:
        raise DhmdError(f"{where} is ragged: its rows have different lengths")
    return np.concatenate(arrays)


def as_texts(value: object, *, where: str) -> tuple[str, ...]:
    """Convert a list or an array of text to a tuple of str."""
    try:
        items = value.tolist() if isinstance(value, np.ndarray) else value
    except (ValueError, SystemError) as error:
        raise DhmdError(f"{where} is damaged: it has invalid characters") from error
    if not isinstance(items, list | tuple):
        raise DhmdError(f"{where} is of type {type(items).__name__}, but must be a list of text")
    result = []
    for item in items:
        text = item.decode("utf-8", "replace") if isinstance(item, bytes) else item
        if not isinstance(text, str):
            raise DhmdError(f"{where} contains {type(item).__name__} instead of text")
        if not _storable(text):
            raise DhmdError(f"{where} is damaged: {text[:40]!r} has invalid characters")
        result.append(text)
    return tuple(result)


def as_video_id(value: object, *, where: str) -> str:
    """Convert an utterance's id, text or a whole number, to a video id."""
    if isinstance(value, int | np.integer) and abs(int(value)) < 2**63:
        return str(value)
    if isinstance(value, str) and _storable(value) and is_video_id(value):
        return value
    shown = "a number of many digits" if isinstance(value, int) else repr(str(value)[:40])
    raise DhmdError(f"{where}: {shown} is not a valid utterance id")


def is_video_id(name: str) -> bool:
    """Return whether a name can be a video id: `name[0]` must be parsed as row 0 of `name`."""
    first = segment_id(name, 0)
    return bool(name) and video_of(first) == name and segment_row(first) == 0


def as_dict(value: object, *, where: str) -> dict[Any, Any]:
    """Check that `value` is a dict, and return it."""
    if not isinstance(value, dict):
        raise DhmdError(f"{where} is of type {type(value).__name__}, but must be a dict")
    return value


def _storable(text: str) -> bool:
    """Return whether HDF5 can store a text: no zero characters and no unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
