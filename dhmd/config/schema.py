"""Turn the values of a file into frozen dataclasses, and each mistake into one sentence.

Configuration classes are pydantic dataclasses beside the package that they configure:

    @dataclass(frozen=True, kw_only=True, config=CONFIG)
    class TrainConfig:
        epochs: FromRecipe[PositiveInt] = 40

Types are strict ("5" and true are no numbers), numbers are finite, and unknown keys are refused. A
`ValueError` that `__post_init__` raises is reported like any other mistake.
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
Location = tuple[int | str, ...]

CONFIG = ConfigDict(
    extra="forbid",
    strict=True,
    allow_inf_nan=False,
    validate_default=True,
    defer_build=True,  # of the validators until they are used: importing stays fast
    # In code `lambda_`; in files only the alias `lambda`.
    validate_by_name=True,
    validate_by_alias=True,
)

# A field that a recipe may set: null in params.yaml means the recipe's value.
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
        recipe: the recipe's values, for fields marked `FromRecipe` only.
        where: dotted name of the mapping, for messages.
        source: the file that the mapping comes from, for messages.
        recipe_source: the recipe's file, for messages.
        complete: refuse a mapping that leaves out a section (DVC refuses to track an absent one). A
            key below a section may be absent: then its default counts, so that a new setting needs
            no line in params.yaml.
        modalities: the names that settings per modality may have; None allows any.

    Raises:
        DhmdError: an unknown or missing key, a wrong type, a value out of range; the sentence names
            the dotted key, its value and what is allowed.
    """
    adapter, schema = _compiled(cast(Any, cls))
    recipe = recipe or {}
    for at in _not_for_recipes(schema, recipe):
        raise DhmdError(f"{recipe_source}: {_dotted(where, at)} cannot be set in a recipe")
    values = _merged(schema, mapping, recipe)
    try:
        # Through JSON: only there does strict validation take a list for a tuple.
        section: T = adapter.validate_json(
            json.dumps(values),
            context=None if modalities is None else {"modalities": modalities},
            by_alias=True,
            by_name=False,
        )
    except ValidationError as error:
        # An unknown key explains a missing one.
        problems = error.errors(include_url=False)
        problem = min(problems, key=lambda each: each["type"] != "unexpected_keyword_argument")
        at = _followed(values, problem["loc"])
        from_recipe, given = _written(_at(recipe, at)), _at(mapping, at)
        if from_recipe and _written(given):
            source = f"{source} and {recipe_source}" if isinstance(given, Mapping) else source
        elif from_recipe:
            source = recipe_source
        raise DhmdError(_sentence(problem, schema, _at(values, at), where, at, source)) from error
    except (TypeError, RecursionError) as error:
        raise DhmdError(
            f"{source}: {where or 'the file'} must contain plain values only"
        ) from error
    if complete and (absent := [key for key in schema.keys if key not in cast(Any, mapping)]):
        names = ", ".join(_dotted(where, (key,)) for key in absent)
        raise DhmdError(f"{source} lacks {names}: every key must be present, null for no value")
    return section


def as_json(value: Any) -> Any:
    """Return a configuration as plain JSON values, with the keys of params.yaml."""
    return _compiled(cast(Any, type(value)))[0].dump_python(value, mode="json", by_alias=True)


def key_names(cls: Any) -> tuple[str, ...]:
    """Return the keys that a mapping for `cls` may have."""
    return tuple(_compiled(cls)[1].keys)


class _Schema:
    """The JSON schema of one value: its keys and its allowed values."""

    def __init__(self, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
        self.node = node
        self.definitions = definitions
        self.container = self._container(node)
        self.keys: Mapping[str, Any] = self.container.get("properties", {})

    def _container(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the schema if the value is a mapping or list; {} for a scalar."""
        if "$ref" in node:
            return self._container(self.definitions[node["$ref"].rpartition("/")[2]])
        found = [self._container(member) for member in node.get("anyOf", ())]
        return next(filter(None, found), node if node.get("type") in ("object", "array") else {})

    def below(self, part: int | str) -> _Schema | None:
        """Return the schema of a key or an item; None if it is unknown or may be anything."""
        if isinstance(part, int):
            found = self.container.get("items")
        else:
            found = self.keys.get(part, self.container.get("additionalProperties"))
        return _Schema(found, self.definitions) if isinstance(found, Mapping) else None

    def describe(self) -> str:
        """Describe the allowed values in words."""
        if "anyOf" in self.node:
            members = [_Schema(member, self.definitions) for member in self.node["anyOf"]]
            return " or ".join(member.describe() for member in members)
        if "enum" in self.node:
            return f"one of {', '.join(map(str, self.node['enum']))}"
        kind = self.container.get("type", self.node.get("type"))
        if kind == "object" and self.keys:
            return f"a mapping with the keys {', '.join(self.keys)}"
        inner = self.below(0 if kind == "array" else "any name")
        each = f", each value {inner.describe()}" if inner else ""
        words = {
            "array": f"a list{each}",
            "object": f"a mapping{each}",
            "boolean": "true or false",
            "string": "text",
            "integer": f"a whole number{self._range()}",
            "number": f"a number{self._range()}",
        }
        return words.get(str(kind), str(kind))

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
    adapter: TypeAdapter[Any] = TypeAdapter(cls)
    schema = adapter.json_schema()
    return adapter, _Schema(schema, schema.get("$defs", {}))


def _not_for_recipes(schema: _Schema, recipe: Any, at: Location = ()) -> list[Location]:
    """Return the locations of keys that a recipe must not set; unknown keys are found later."""
    found: list[Location] = []
    for key, value in recipe.items():
        below = schema.below(key)
        if below is None or value is None or below.node.get("recipe"):
            continue
        if below.container.get("type") != "object":
            found.append((*at, key))
        elif isinstance(value, Mapping):
            found += _not_for_recipes(below, value, (*at, key))
    return found


def _merged(schema: _Schema, given: Any, recipe: Any) -> Any:
    """Return the mapping with nulls replaced by the recipe's values or removed."""
    if not isinstance(given, Mapping):
        return given
    recipe = recipe if isinstance(recipe, Mapping) else {}
    merged: dict[str, Any] = {}
    for key in {**given, **recipe}:
        below = schema.below(key)
        value = recipe.get(key) if given.get(key) is None else given[key]
        if isinstance(value, Mapping) and below:
            merged[key] = _merged(below, value, recipe.get(key))
        elif value is not None or below is None:
            merged[key] = value
    return merged


def _sentence(
    problem: Any, schema: _Schema, value: object, where: str, at: Location, source: str
) -> str:
    """Return the sentence for an invalid value."""
    dotted = _dotted(where, at)
    above: _Schema | None = None
    allowed: _Schema | None = schema
    for part in at:
        above, allowed = allowed, allowed.below(part) if allowed else None
    if problem["type"] == "unexpected_keyword_argument":
        known = list(above.keys) if above else []
        near = difflib.get_close_matches(str(at[-1]), known, n=1)
        hint = f"known keys are {', '.join(known)}"
        if near:
            hint = f"did you mean {_dotted(where, (*at[:-1], near[0]))}?"
        return f"{source}: unknown key {dotted} (value {_shown(value)}); {hint}"
    if "error" in problem.get("ctx", {}):
        return f"{source}: {dotted}{': ' if dotted else ''}{problem['ctx']['error']}"
    if allowed is None:
        return f"{source}: {dotted} is {_shown(value)}: {problem['msg']}"
    if problem["type"] == "missing":
        return f"{source} lacks {dotted}, which must be {allowed.describe()}"
    null = " (or null: the recipe's value)" if allowed.node.get("recipe") else ""
    what = dotted or "the file"
    return f"{source}: {what} is {_shown(value)}, but must be {allowed.describe()}{null}"


def _followed(value: Any, loc: Location) -> Location:
    """Return the part of pydantic's location that is in the value, without members of unions."""
    for index, part in enumerate(loc):
        if isinstance(value, Mapping) or (isinstance(value, list | tuple) and part != "[key]"):
            value = _at(value, (part,))
        else:
            return loc[:index]
    return loc


def _at(value: Any, at: Location) -> Any:
    """Return the value at a location; None if there is none."""
    for part in at:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _written(value: Any) -> bool:
    """Return whether there is a value other than null."""
    if isinstance(value, Mapping):
        return any(_written(item) for item in value.values())
    return value is not None


def _dotted(where: str, at: Location) -> str:
    text = where
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: object) -> str:
    """Return the value as written in YAML; a long one is shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
