"""Edit YAML files and keep their comments."""

from __future__ import annotations

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter


class _Representer(RoundTripRepresenter):
    """Writes `null`, where ruamel.yaml's own writes nothing.

    It is a class of its own because DVC uses ruamel.yaml's in the same process.
    """


_Representer.add_representer(
    type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
)


def yaml_editor() -> YAML:
    """Return a reader and writer that keeps comments, quotes and long lines."""
    editor = YAML()
    editor.Representer = _Representer
    editor.preserve_quotes = True
    editor.width = 1 << 20
    return editor
