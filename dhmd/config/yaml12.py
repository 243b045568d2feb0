"""Read YAML 1.2, in which `1e-05` is a number and `yes` and `off` are text.

PyYAML follows YAML 1.1, in which `1e-4` and `1e-05` are text, so that `-S train.lr=1e-5` would set
the learning rate to a string. Only the rules for scalars differ from PyYAML's safe loader.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dhmd.base.errors import DhmdError, first_line

_TAG = "tag:yaml.org,2002:"

# The core schema (YAML 1.2.2, section 10.3.2): type, pattern, possible first characters.
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 scalars; refuses repeated keys, aliases and tags."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - a class attribute of PyYAML
    # No setting can be a timestamp, binary data or a set.
    yaml_constructors = {  # noqa: RUF012
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (None, *(_TAG + kind for kind in ("null", "bool", "str", "seq", "map")))
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        # Aliases let a short file describe a recursive or a huge value.
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, Hashable):
                problem = "a key must be plain text"
            elif key in keys:
                problem = f"the key {key!r} appears twice"
            if problem:
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


def _parse_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _parse_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"\.(?=[in])", "", loader.construct_scalar(node).lower()))


for _type, _pattern, _first_characters in _SCALARS:
    _Loader.add_implicit_resolver(_TAG + _type, re.compile(rf"^(?:{_pattern})$"), _first_characters)
_Loader.add_constructor(f"{_TAG}int", _parse_integer)
_Loader.add_constructor(f"{_TAG}float", _parse_float)


def parse_yaml(text: str, source: str) -> object:
    """Parse a YAML document; messages of errors name `source` and the line.

    Raises:
        DhmdError: `text` is not valid YAML, or has a repeated key, an alias or a tag.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise DhmdError(f"{source}{line}: {error.problem or 'not valid YAML'}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DhmdError(f"{source} is not valid YAML: {first_line(error)}") from error


def load_yaml(path: Path, source: str | None = None) -> object:
    """Parse the YAML document in a file, which messages call `source` or else by its path."""
    name = source or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DhmdError(f"{name} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"cannot read {name}: {first_line(error)}") from error
    return parse_yaml(text, name)
