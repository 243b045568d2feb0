"""Record which keys of params.yaml and of a dataset config a stage reads.

Attribute access is recorded on the objects in `Settings`. Copying an object with
`dataclasses.replace` does not count as reading; access to the copy is recorded like access to the
original, except for the replaced attributes.
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

# From Python 3.13 on, `replace` calls another function to copy.
_COPIERS = {getattr(dataclasses, "_replace", dataclasses.replace).__code__}

RECIPE = "recipe:"  # prefix of a recipe's keys; keys of params.yaml have none


class ReadRecorder:
    """A recorder of which keys of one dataset's settings are read.

    Args:
        settings: the settings of a stage.
        params: the content of params.yaml. If a key is null there and has a value in `settings`,
            the value is from the dataset config, so reading it also reads the dataset config's
            section of the same name.
        recipe: the content of the dataset config.
    """

    def __init__(
        self, settings: Settings, params: Mapping[str, Any], recipe: Mapping[str, Any]
    ) -> None:
        self.keys: set[str] = set()
        self.read: set[str] = set()
        self._from_recipe: set[str] = set()
        # By id: the object, stored so that its id is not used again, and its keys by attribute.
        self._objects: dict[int, tuple[object, dict[str, str]]] = {}
        # The frame that is copying an object, and the keys of the attributes it has copied.
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
        values: Mapping[str, Any],
        recipe_sections: Collection[str],
    ) -> None:
        keys: dict[str, str] = {}
        for name in _attributes(section):
            key = name.removesuffix("_")  # lambda_
            if key not in values and prefix == RECIPE:
                continue  # Recipe.name, which is the name of the file
            value = getattr(section, name)
            if _is_section(value):
                self._find(value, f"{prefix}{key}.", values.get(key) or {}, recipe_sections)
                continue
            keys[name] = prefix + key
            may_come_from_recipe = prefix.partition(".")[0] in recipe_sections
            if may_come_from_recipe and _has_null(values[key]) and value is not None:
                self._from_recipe.add(keys[name])
            self.keys.add(keys[name])
        self._objects[id(section)] = (section, keys)

    @contextmanager
    def record(self) -> Iterator[set[str]]:
        """Yield a set to which the keys that are read in the block are added."""
        self.read = set()
        with pytest.MonkeyPatch.context() as patch:
            for cls in {type(section) for section, _ in self._objects.values()}:
                patch.setattr(
                    cls, "__getattribute__", self._recording_getattribute(cls.__getattribute__)
                )
                patch.setattr(cls, "__init__", self._recording_init(cls.__init__))
            yield self.read

    def _recording_getattribute(
        self, original: Callable[[Any, str], Any]
    ) -> Callable[[Any, str], Any]:
        def recording(section: Any, name: str) -> Any:
            value = original(section, name)
            registered, keys = self._objects.get(id(section), (None, {}))
            if registered is not section:
                return value  # an object that the stage created from values it has read
            caller = sys._getframe(1)
            if caller.f_code in _COPIERS:
                if self._copy[0] is not caller:
                    self._copy = (caller, {})
                if name in keys:
                    self._copy[1][name] = keys[name]
            elif name == "__dict__":
                for key in keys.values():
                    self._note(key)
            elif name in keys:
                self._note(keys[name])
            return value

        return recording

    def _recording_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def recording(section: Any, *values: Any, **keywords: Any) -> None:
            original(section, *values, **keywords)
            if self._copy[0] is sys._getframe(1):
                self._objects[id(section)] = (section, self._copy[1])
                self._copy = (None, {})

        return recording

    def _note(self, key: str) -> None:
        self.read.add(key)
        if key in self._from_recipe:
            self.read.add(RECIPE + key.partition(".")[0])


def _attributes(section: object) -> list[str]:
    hints = get_type_hints(type(section))
    # Classes may also annotate class variables, which are not in vars(section).
    return [name for name in hints if name in vars(section)]


def _has_null(written: object) -> bool:
    if isinstance(written, Mapping):  # a value per modality
        return any(_has_null(value) for value in written.values())
    return written is None


def _is_section(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "dhmd"
