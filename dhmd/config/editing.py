"""Edit YAML files without losing their comments."""

from __future__ import annotations

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter


class _Representer(RoundTripRepresenter):
    """Writes None as `null`; ruamel.yaml's own representer writes nothing.

    A subclass, because a change to ruamel.yaml's own class would affect DVC in the same process.
    """


_Representer.add_representer(
    type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
)


def yaml_editor() -> YAML:
    """Return a YAML reader and writer that preserves comments, quotes and long lines."""
    editor = YAML()
    editor.Representer = _Representer
    editor.preserve_quotes = True
    editor.width = 1 << 20
    return editor
