"""`dhmd data pin`: write the bytes and sha256 of received files into the recipe."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import write_text
from dhmd.config.editing import yaml_editor
from dhmd.data.download.contents import FileRecord
from dhmd.data.download.gathering import wanted_files

if TYPE_CHECKING:
    from dhmd.recipes import Recipe


def pin(recipe: Recipe, *, recipe_file: Path, raw: Path) -> dict[str, FileRecord]:
    """Write bytes and sha256 of the files in `raw` into the recipe; comments stay.

    Returns:
        Sequence name -> what was written.

    Raises:
        DhmdError: a generated corpus, a missing file, or a recipe whose text cannot be edited.
    """
    if recipe.format == "generated":
        raise DhmdError(f"{recipe.name} is generated data: there is nothing to pin")
    records: dict[str, FileRecord] = {}
    for wanted in wanted_files(recipe):
        path = raw / wanted.file
        if not path.is_file():
            raise DhmdError(
                f"{path} is missing: run the download stage for {recipe.name} before pinning"
            )
        records[wanted.sequence] = FileRecord.of(path)
    text = recipe_file.read_text(encoding="utf-8")
    write_text(recipe_file, pinned_text(text, records, where=str(recipe_file)))
    return records


def pinned_text(text: str, records: dict[str, FileRecord], *, where: str) -> str:
    """Return a recipe's text with the bytes and sha256 of `records`."""
    editor = yaml_editor()
    if re.search(r"^\s*[\w-]+:[^\n]*\n(\s*#[^\n]*\n)*\s+- ", text, re.MULTILINE):
        editor.indent(mapping=2, sequence=4, offset=2)
    try:
        content: Any = editor.load(text)
    except YAMLError as error:
        raise DhmdError(f"{where} is not YAML: {first_line(error)}") from error
    for name, record in records.items():
        try:
            entry = content["sequences"][name]
            entry["path"]
        except (KeyError, TypeError) as error:
            raise DhmdError(f"{where} has no sequences.{name}.path to pin") from error
        entry["bytes"] = record.bytes
        entry["sha256"] = DoubleQuotedScalarString(record.sha256)
    stream = io.StringIO()
    editor.dump(content, stream)
    return stream.getvalue()
