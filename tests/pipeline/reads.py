"""Record which keys of params.yaml and of a recipe a stage reads.

Attribute access is recorded on the objects that `Settings` consists of, which are found from its
annotations. A copy made by `dataclasses.replace` does not count as reading: the copy is recorded
like the original, except for the attributes that were replaced.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, get_type_hints

import pytest

from dhmd.settings import Settings

# From Python 3.13 on `replace` leaves the work to another function.
_COPIERS = {getattr(dataclasses, "_replace", dataclasses.replace).__code__}

RECIPE = "recipe:"  # prefix of a recipe's keys; keys of params.yaml have none


class Reads:
    """The keys of one dataset's settings, and those that were read.

    Args:
        settings: as a stage gets them.
        params: params.yaml as written. Where it has null and `settings` a value, null means "the
            recipe's", and reading that key reads the recipe's section of the same name too.
        recipe: the recipe as written.
    """

    def __init__(
        self, settings: Settings, params: Mapping[str, Any], recipe: Mapping[str, Any]
    ) -> None:
        self.keys: set[str] = set()
        self.read: set[str] = set()
        self._from_recipe: set[str] = set()
        # id -> the object, kept alive so that no other gets its id, and attribute -> key.
        self._objects: dict[int, tuple[object, dict[str, str]]] = {}
        # The call that is copying an object, and the part of the original's keys it has copied.
        self._copy: tuple[FrameType | None, dict[str, str]] = (None, {})
        for name in _attributes(settings):
            section = getattr(settings, name)
            if name == "recipe":
                self._find(section, RECIPE, recipe, recipe_sections=())
            elif _is_section(section):
                self._find(section, f"{name}.", params[name], recipe_sections=recipe)

    def _find(
        self,
        section: object,
        prefix: str,
        written: Mapping[str, Any],
        recipe_sections: Collection[str],
    ) -> None:
        own: dict[str, str] = {}
        for name in _attributes(section):
            key = name.removesuffix("_")  # lambda_
            if key not in written and prefix == RECIPE:
                continue  # Recipe.name, which is the file's
            value = getattr(section, name)
            if _is_section(value):
                self._find(value, f"{prefix}{key}.", written.get(key) or {}, recipe_sections)
                continue
            own[name] = prefix + key
            may_come_from_recipe = prefix.partition(".")[0] in recipe_sections
            if may_come_from_recipe and _has_null(written[key]) and value is not None:
                self._from_recipe.add(own[name])
            self.keys.add(own[name])
        self._objects[id(section)] = (section, own)

    @contextmanager
    def recorded(self) -> Iterator[set[str]]:
        """Yields a set that holds the keys read inside, once the block has ended."""
        self.read = set()
        with pytest.MonkeyPatch.context() as patch:
            for cls in {type(section) for section, _ in self._objects.values()}:
                patch.setattr(cls, "__getattribute__", self._watching(cls.__getattribute__))
                patch.setattr(cls, "__init__", self._following(cls.__init__))
            yield self.read

    def _watching(self, plain: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        def watched(section: Any, name: str) -> Any:
            value = plain(section, name)
            found, own = self._objects.get(id(section), (None, {}))
            if found is not section:
                return value  # made by the stage, from values that were read before
            caller = sys._getframe(1)
            if caller.f_code in _COPIERS:
                if self._copy[0] is not caller:
                    self._copy = (caller, {})
                if name in own:
                    self._copy[1][name] = own[name]
            elif name == "__dict__":
                for key in own.values():
                    self._note(key)
            elif name in own:
                self._note(own[name])
            return value

        return watched

    def _following(self, plain: Callable[..., None]) -> Callable[..., None]:
        def made(section: Any, *values: Any, **named: Any) -> None:
            plain(section, *values, **named)
            if self._copy[0] is sys._getframe(1):
                self._objects[id(section)] = (section, self._copy[1])
                self._copy = (None, {})

        return made

    def _note(self, key: str) -> None:
        self.read.add(key)
        if key in self._from_recipe:
            self.read.add(RECIPE + key.partition(".")[0])


def _attributes(section: object) -> list[str]:
    hints = get_type_hints(type(section))
    # A class may annotate more than fields; objects have values of fields alone.
    return [name for name in hints if name in vars(section)]


def _has_null(written: object) -> bool:
    if isinstance(written, Mapping):  # a value per modality
        return any(_has_null(value) for value in written.values())
    return written is None


def _is_section(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "dhmd"
