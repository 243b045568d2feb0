"""Validate the values of a file and convert them to frozen dataclasses; an error is one sentence.

Configuration classes are pydantic dataclasses beside the package that they configure:

    @dataclass(frozen=True, kw_only=True, config=CONFIG)
    class TrainConfig:
        epochs: FromRecipe[PositiveInt] = 40

Types are strict ("5" and true are not numbers), numbers must be finite, and unknown keys are
errors. A `ValueError` in `__post_init__` is reported like any other invalid value.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from dhmd.base.errors import DhmdError

T = TypeVar("T")
KeyPath = tuple[int | str, ...]

CONFIG = ConfigDict(
    extra="forbid",
    strict=True,
    allow_inf_nan=False,
    validate_default=True,
    defer_build=True,  # build validators on first use, so that imports are fast
    # Code uses the name `lambda_`; files use the alias `lambda`.
    validate_by_name=True,
    validate_by_alias=True,
)

# A field that a recipe may set; null in params.yaml means the recipe's value.
FromRecipe = Annotated[T, Field(json_schema_extra={"recipe": True})]

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


def load_section(
    cls: type[T],
    mapping: object,
    *,
    recipe: Mapping[str, Any] | None = None,
    where: str = "",
    source: str = "params.yaml",
    recipe_source: str = "the recipe",
    complete: bool = False,
    modalities: Sequence[str] | None = None,
) -> T:
    """Build the configuration class `cls` from `mapping`.

    A null means the recipe's value, or the default if the recipe has none.

    Args:
        cls: a pydantic dataclass.
        mapping: the content of a file, or of one of its sections.
        recipe: the recipe's values, for fields marked `FromRecipe` only.
        where: dotted key of the mapping in its file, for messages.
        source: the file of the mapping, for messages.
        recipe_source: the recipe's file, for messages.
        complete: refuse a mapping that lacks a top-level key, since DVC cannot track it. Keys of
            sections may be absent and have their default, so that params.yaml need not list every
            new setting.
        modalities: the modalities that settings may name; None allows any name.

    Returns:
        An instance of `cls`.

    Raises:
        DhmdError: an unknown or missing key, a wrong type, a value out of range; the sentence names
            the dotted key, its value and the allowed values.
    """
    adapter, schema = _compiled(cast(Any, cls))
    recipe = recipe or {}
    for path in _not_for_recipes(schema, recipe):
        raise DhmdError(f"{recipe_source}: {_dotted(where, path)} cannot be set in a recipe")
    values = _merge(schema, mapping, recipe)
    try:
        # Through JSON, since strict validation of Python values refuses a list for a tuple.
        section: T = adapter.validate_json(
            json.dumps(values),
            context=None if modalities is None else {"modalities": modalities},
            by_alias=True,
            by_name=False,
        )
    except ValidationError as error:
        # An unknown key is reported first, because a misspelt key often causes a missing one.
        problem = min(
            error.errors(include_url=False),
            key=lambda details: details["type"] != "unexpected_keyword_argument",
        )
        path = _key_path(values, problem["loc"])
        in_recipe, value = _is_set(_value_at(recipe, path)), _value_at(mapping, path)
        if in_recipe and _is_set(value):
            source = f"{source} and {recipe_source}" if isinstance(value, Mapping) else source
        elif in_recipe:
            source = recipe_source
        message = _sentence(problem, schema, _value_at(values, path), where, path, source)
        raise DhmdError(message) from error
    except (TypeError, RecursionError) as error:
        raise DhmdError(
            f"{source}: {where or 'the file'} must have only text, numbers, true, false, null, "
            "lists and mappings"
        ) from error
    if complete and (absent := [key for key in schema.keys if key not in cast(Any, mapping)]):
        names = ", ".join(_dotted(where, (key,)) for key in absent)
        raise DhmdError(f"{source} lacks {names}: every key must be present, null for no value")
    return section


def as_json(value: Any) -> Any:
    """Return a configuration as JSON values, with the keys of params.yaml."""
    return _compiled(cast(Any, type(value)))[0].dump_python(value, mode="json", by_alias=True)


def key_names(cls: Any) -> tuple[str, ...]:
    """Return the keys that a mapping for `cls` may have."""
    return tuple(_compiled(cls)[1].keys)


class _Schema:
    """The JSON schema of one value.

    Attributes:
        node: the schema as pydantic returns it.
        definitions: the schemas to which `$ref` refers.
        container: the schema of the mapping or list that the value may be; {} for a scalar.
        keys: the schema of each key, if the value is a mapping with fixed keys.
    """

    def __init__(self, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
        self.node = node
        self.definitions = definitions
        self.container = self._container(node)
        self.keys: Mapping[str, Any] = self.container.get("properties", {})

    def _container(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" in node:
            return self._container(self.definitions[node["$ref"].rpartition("/")[2]])
        containers = [self._container(option) for option in node.get("anyOf", ())]
        is_container = node.get("type") in ("object", "array")
        return next(filter(None, containers), node if is_container else {})

    def child(self, key: int | str) -> _Schema | None:
        """Return the schema of a key or an item; None if it is unknown or allows any value."""
        if isinstance(key, int):
            node = self.container.get("items")
        else:
            node = self.keys.get(key, self.container.get("additionalProperties"))
        return _Schema(node, self.definitions) if isinstance(node, Mapping) else None

    def describe(self) -> str:
        """Return the allowed values in words."""
        if "anyOf" in self.node:
            options = [_Schema(option, self.definitions) for option in self.node["anyOf"]]
            return " or ".join(option.describe() for option in options)
        if "enum" in self.node:
            return f"one of {', '.join(map(str, self.node['enum']))}"
        kind = self.container.get("type", self.node.get("type"))
        if kind == "object" and self.keys:
            return f"a mapping with the keys {', '.join(self.keys)}"
        item = self.child(0 if kind == "array" else "any name")
        items = f", each value {item.describe()}" if item else ""
        descriptions = {
            "array": f"a list{items}",
            "object": f"a mapping{items}",
            "boolean": "true or false",
            "string": "text",
            "integer": f"a whole number{self._range()}",
            "number": f"a number{self._range()}",
        }
        return descriptions.get(str(kind), str(kind))

    def _range(self) -> str:
        low, high = self.node.get("minimum"), self.node.get("maximum")
        if low is not None and high is not None:
            return f" between {low:g} and {high:g}"
        words = {
            "minimum": "of at least",
            "exclusiveMinimum": "above",
            "maximum": "of at most",
            "exclusiveMaximum": "below",
        }
        limits = [f"{words[key]} {self.node[key]:g}" for key in words if key in self.node]
        return f" {' and '.join(limits)}" if limits else ""


@cache
def _compiled(cls: Any) -> tuple[TypeAdapter[Any], _Schema]:
    """Return the validator and the schema of a configuration class."""
    adapter: TypeAdapter[Any] = TypeAdapter(cls)
    schema = adapter.json_schema()
    return adapter, _Schema(schema, schema.get("$defs", {}))


def _not_for_recipes(schema: _Schema, recipe: Any, path: KeyPath = ()) -> list[KeyPath]:
    """Return the paths of keys that a recipe must not set; unknown keys are reported elsewhere."""
    paths: list[KeyPath] = []
    for key, value in recipe.items():
        child = schema.child(key)
        if child is None or value is None or child.node.get("recipe"):
            continue
        if child.container.get("type") != "object":
            paths.append((*path, key))
        elif isinstance(value, Mapping):
            paths += _not_for_recipes(child, value, (*path, key))
    return paths


def _merge(schema: _Schema, mapping: Any, recipe: Any) -> Any:
    """Return the mapping with nulls replaced by the recipe's values or removed."""
    if not isinstance(mapping, Mapping):
        return mapping
    recipe = recipe if isinstance(recipe, Mapping) else {}
    merged: dict[str, Any] = {}
    for key in {**mapping, **recipe}:
        child = schema.child(key)
        value = recipe.get(key) if mapping.get(key) is None else mapping[key]
        if isinstance(value, Mapping) and child:
            merged[key] = _merge(child, value, recipe.get(key))
        elif value is not None or child is None:
            merged[key] = value
    return merged


def _sentence(
    problem: Any, schema: _Schema, value: object, where: str, path: KeyPath, source: str
) -> str:
    """Return the sentence for the invalid `value` at `path`, from pydantic's `problem`."""
    dotted = _dotted(where, path)
    parent: _Schema | None = None
    allowed: _Schema | None = schema
    for key in path:
        parent, allowed = allowed, allowed.child(key) if allowed else None
    if problem["type"] == "unexpected_keyword_argument":
        known = list(parent.keys) if parent else []
        similar = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"known keys are {', '.join(known)}"
        if similar:
            hint = f"did you mean {_dotted(where, (*path[:-1], similar[0]))}?"
        return f"{source}: unknown key {dotted} (value {_as_yaml(value)}); {hint}"
    if "error" in problem.get("ctx", {}):
        return f"{source}: {dotted}{': ' if dotted else ''}{problem['ctx']['error']}"
    if allowed is None:
        return f"{source}: {dotted} is {_as_yaml(value)}: {problem['msg']}"
    if problem["type"] == "missing":
        return f"{source} lacks {dotted}, which must be {allowed.describe()}"
    null = " (or null: the recipe's value)" if allowed.node.get("recipe") else ""
    subject = dotted or "the file"
    return f"{source}: {subject} is {_as_yaml(value)}, but must be {allowed.describe()}{null}"


def _key_path(value: Any, location: KeyPath) -> KeyPath:
    """Return pydantic's location of an error without the names of union members at its end."""
    for index, key in enumerate(location):
        if isinstance(value, Mapping) or (isinstance(value, list | tuple) and key != "[key]"):
            value = _value_at(value, (key,))
        else:
            return location[:index]
    return location


def _value_at(value: Any, path: KeyPath) -> Any:
    """Return the value at a path; None if there is none."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _is_set(value: Any) -> bool:
    """Return whether a value, or any value in a mapping, is not null."""
    if isinstance(value, Mapping):
        return any(_is_set(item) for item in value.values())
    return value is not None


def _dotted(where: str, path: KeyPath) -> str:
    """Return a path as text, such as `model.kernels.text` or `seeds[0]`."""
    text = where
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def _as_yaml(value: object) -> str:
    """Return a value as in YAML, shortened to 60 characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
