"""Mappings to frozen dataclasses: every key known, every type right, every value in range.

The vocabulary of a configuration dataclass: `bool`, `int`, `float`, `str`, `Literal`,
`tuple[T, ...]` (from lists), `Mapping[str, T]`, nested dataclasses, unions with each other and with
`None`, and `Any` (kept as it is). A field's metadata may hold

- `min`, `max`, `exclusive_min`, `exclusive_max`: the range of a number, or of a list's numbers;
- `key`: the key's name where it is no Python name (`lambda`);
- `recipe`: true where null means the recipe's value, and the default where the recipe is silent;
- `null_default`: true where null means the default;
- `help`: one line for people.

A `ValueError` raised in `__post_init__` is reported like any other mistake.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dhmd.base.errors import DhmdError

T = TypeVar("T")


def load_section(
    cls: type[T],
    mapping: object,
    *,
    recipe: Mapping[str, object] | None = None,
    where: str = "",
    source: str = "params.yaml",
    recipe_source: str = "the recipe",
    complete: bool = False,
) -> T:
    """Build the dataclass `cls` from `mapping`.

    `where` is the dotted name of the mapping and `source` the file it comes from, for messages.
    `recipe` gives the values that null stands for in fields marked `recipe`. With `complete`, every
    key must be written down (DVC refuses to track a parameter that is absent).

    Raises:
        DhmdError: an unknown or missing key, a wrong type, a value out of range; the sentence names
            the dotted key, its value and what is allowed.
    """
    reader = _Reader(source, recipe_source, complete)
    return reader.build(cls, mapping, {} if recipe is None else recipe, where)


def key_names(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """The keys that a mapping for `cls` may hold, each with its field."""
    return {field.metadata.get("key", field.name): field for field in dataclasses.fields(cls)}


class _Reader:
    """One reading: remembers the names of the files for the messages."""

    def __init__(self, source: str, recipe_source: str, complete: bool) -> None:
        self.source = source
        self.recipe_source = recipe_source
        self.complete = complete

    def build(self, cls: type[T], mapping: object, recipe: object, where: str) -> T:
        fields = key_names(cls)
        hints = get_type_hints(cls)
        given = _keys_checked(mapping, fields, where, self.source)
        starting = _keys_checked(recipe, fields, where, self.recipe_source)
        if self.complete and (absent := [key for key in fields if key not in given]):
            names = ", ".join(_dotted(where, key) for key in absent)
            raise DhmdError(
                f"{self.source} lacks {names}: every key must be there, null if need be"
            )
        values: dict[str, Any] = {}
        for key, field in fields.items():
            hint = hints[field.name]
            dotted = _dotted(where, key)
            nested = _nested(hint)
            start = starting.get(key)
            unwritten = key not in given and start is None and _has_default(field)
            if nested and not unwritten and not (given.get(key) is None and _takes_none(hint)):
                start = {} if start is None else start
                values[field.name] = self.build(nested, given.get(key, {}), start, dotted)
                continue
            fallback = self._fallback(field, hint, start, dotted)
            if key not in given or (given[key] is None and _null_stands_for_more(field)):
                if fallback is dataclasses.MISSING:
                    raise DhmdError(f"{self.source} lacks {dotted}: {_must(hint, field.metadata)}")
                values[field.name] = fallback
            else:
                values[field.name] = convert(given[key], hint, field.metadata, dotted, self.source)
        try:
            return cls(**values)
        except ValueError as error:
            raise DhmdError(f"{self.source}: {where + ': ' if where else ''}{error}") from error

    def _fallback(
        self, field: dataclasses.Field[Any], hint: Any, starting: object, dotted: str
    ) -> Any:
        """What null stands for: the recipe's value, else the default."""
        if starting is not None:
            if not field.metadata.get("recipe"):
                raise DhmdError(f"{self.recipe_source}: {dotted} is not for a recipe to set")
            return convert(starting, hint, field.metadata, dotted, self.recipe_source)
        if field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
        return field.default


def convert(value: object, hint: Any, metadata: Mapping[str, Any], dotted: str, source: str) -> Any:
    """`value` as the type `hint`, within the metadata's range.

    Raises:
        DhmdError: it is not; the sentence names `dotted`, the value and what is allowed.
    """

    def refusal() -> DhmdError:
        return DhmdError(f"{source}: {dotted} is {_shown(value)}, but {_must(hint, metadata)}")

    if hint is Any or hint is object:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, hint, metadata, dotted, source, refusal)
    if origin is Literal:
        # `True == 1`, so equality alone would let a bool pass for a number.
        for allowed in get_args(hint):
            if type(allowed) is type(value) and allowed == value:
                return value
        raise refusal()
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise refusal()
        inner = get_args(hint)[0]
        return tuple(
            convert(item, inner, metadata, f"{dotted}[{index}]", source)
            for index, item in enumerate(value)
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise refusal()
        inner = get_args(hint)[1]
        return {
            key: convert(item, inner, metadata, _dotted(dotted, key), source)
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return load_section(hint, value, where=dotted, source=source)
    if not _is_scalar(value, hint):
        raise refusal()
    if hint in (int, float) and not _in_range(value, metadata):
        raise refusal()
    return float(value) if hint is float else value  # type: ignore[arg-type]


def _convert_union(
    value: object,
    hint: Any,
    metadata: Mapping[str, Any],
    dotted: str,
    source: str,
    refusal: Callable[[], DhmdError],
) -> Any:
    if value is None:
        if _takes_none(hint):
            return None
        raise refusal()
    members = [member for member in get_args(hint) if member is not type(None)]
    for member in members:
        try:
            return convert(value, member, metadata, dotted, source)
        except DhmdError:
            # A lone member knows best what is wrong, perhaps deep inside.
            if len(members) == 1 and _is_container(value):
                raise
    raise refusal()


def _keys_checked(
    mapping: object, fields: Mapping[str, Any], where: str, source: str
) -> Mapping[str, Any]:
    """The mapping itself, once it is one and holds known keys only."""
    if not isinstance(mapping, Mapping):
        name = where or "the file"
        raise DhmdError(
            f"{source}: {name} is {_shown(mapping)}, but must be a mapping with the keys "
            f"{', '.join(fields)}"
        )
    for key in mapping:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = (
                f"did you mean {_dotted(where, near[0])}?"
                if near
                else f"known keys are {', '.join(fields)}"
            )
            raise DhmdError(
                f"{source}: unknown key {_dotted(where, str(key))} "
                f"(value {_shown(mapping[key])}); {hint}"
            )
    return mapping


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _shown(value: object) -> str:
    """The value as a person wrote it, cut where it is long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _nested(hint: Any) -> type | None:
    """The dataclass that the hint stands for, alone or with None."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return _nested(members[0])
    return None


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _null_stands_for_more(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("recipe") or field.metadata.get("null_default"))


def _takes_none(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _is_container(value: object) -> bool:
    return isinstance(value, list | tuple | Mapping)


def _is_scalar(value: object, hint: Any) -> bool:
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float) and _finite(value)
    return hint in (int, str) and isinstance(value, hint)


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _in_range(value: Any, metadata: Mapping[str, Any]) -> bool:
    return not (
        ("min" in metadata and value < metadata["min"])
        or ("max" in metadata and value > metadata["max"])
        or ("exclusive_min" in metadata and value <= metadata["exclusive_min"])
        or ("exclusive_max" in metadata and value >= metadata["exclusive_max"])
    )


def _must(hint: Any, metadata: Mapping[str, Any]) -> str:
    nulls = " (or null: the recipe's)" if metadata.get("recipe") else ""
    nulls = " (or null)" if metadata.get("null_default") else nulls
    return f"must be {_described(hint, metadata)}{nulls}"


_RANGE_WORDS = (
    ("min", "at least"),
    ("exclusive_min", "above"),
    ("max", "at most"),
    ("exclusive_max", "below"),
)


def _described(hint: Any, metadata: Mapping[str, Any]) -> str:
    """What is allowed, in words."""
    origin = get_origin(hint)
    if hint is bool:
        return "true or false"
    if hint in (int, float):
        limits = [f"{words} {metadata[name]:g}" for name, words in _RANGE_WORDS if name in metadata]
        noun = "a whole number" if hint is int else "a finite number"
        return noun + (", " + " and ".join(limits) if limits else "")
    if hint is str:
        return "text"
    if origin is Literal:
        return "one of " + ", ".join(str(allowed) for allowed in get_args(hint))
    if origin is tuple:
        return "a list, each item " + _described(get_args(hint)[0], metadata)
    if origin in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        words = ["null"] if _takes_none(hint) and not metadata.get("recipe") else []
        words += [_described(member, metadata) for member in members]
        return " or ".join(words)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return "a mapping with the keys " + ", ".join(key_names(hint))
    if origin is not None and issubclass(origin, Mapping):
        return "a mapping of names, each value " + _described(get_args(hint)[1], metadata)
    return "any value"
