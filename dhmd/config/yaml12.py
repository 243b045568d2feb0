"""YAML as its version 1.2 core schema reads it: `1e-05` is a number, `yes` is text.

PyYAML follows version 1.1, where `1e-4` and `1e-05` are text, so that `-S train.lr=1e-5` would hand
a string to the learning rate. Only the scalars' rules are replaced; nodes are still built by the
safe loader, so no tag can make an object.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dhmd.base.errors import DhmdError, first_line

# The core schema's rules (YAML 1.2.2, section 10.3.2): tag, text, possible first letters.
_CORE_RULES: tuple[tuple[str, str, str], ...] = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class _Loader(yaml.SafeLoader):
    """The safe loader with version 1.2 scalars, refusing repeated keys and aliases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute

    def compose_node(self, parent: Any, index: Any) -> Any:
        # Aliases let a short file describe an endless or an enormous value.
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        # Merge keys (`<<`) are version 1.1: without its resolver the key stays plain text.
        return super().construct_mapping(node, deep=deep)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if text.startswith("0o"):
        return int(text[2:], 8)
    return int(text, 16) if text.startswith("0x") else int(text)


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _text, _first in _CORE_RULES:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_text})$"), list(_first))
# An empty scalar is a null too; PyYAML files it under the empty first letter.
_Loader.yaml_implicit_resolvers.setdefault("", []).append(
    ("tag:yaml.org,2002:null", re.compile(r"^$"))
)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def parse_yaml(text: str, source: str) -> object:
    """The one document in `text`.

    Raises:
        DhmdError: not YAML, a repeated key, an alias; the sentence names `source` and the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise DhmdError(f"{source}{line}: {error.problem or 'not YAML'}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DhmdError(f"{source}: not readable as YAML ({first_line(error)})") from error


def load_yaml(path: Path, source: str | None = None) -> object:
    """The one document in the file at `path`, called `source` in messages.

    Raises:
        DhmdError: no such file, not UTF-8, not YAML.
    """
    name = source or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DhmdError(f"{name} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"cannot read {name}: {first_line(error)}") from error
    return parse_yaml(text, name)
