"""`dhmd data pin`: write the bytes and the sha256 of the raw files into the recipe."""

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
from dhmd.data.download.raw_folder import required_files

if TYPE_CHECKING:
    from dhmd.recipes import Recipe


def pin(recipe: Recipe, *, recipe_file: Path, raw: Path) -> dict[str, FileRecord]:
    """Write bytes and sha256 of the files in `raw` into the recipe; its comments are kept.

    Args:
        recipe: the dataset config.
        recipe_file: its file, which is edited.
        raw: the raw folder.

    Returns:
        The size and the sha256 of the file of each sequence.

    Raises:
        DhmdError: the corpus is generated, a file is missing, or the recipe cannot be edited.
    """
    if recipe.format == "generated":
        raise DhmdError(f"{recipe.name} is generated data: there is nothing to pin")
    records: dict[str, FileRecord] = {}
    for required in required_files(recipe):
        path = raw / required.file
        if not path.is_file():
            raise DhmdError(
                f"{path} is missing: run the download stage for {recipe.name} before pinning"
            )
        records[required.sequence] = FileRecord.from_file(path)
    text = recipe_file.read_text(encoding="utf-8")
    write_text(recipe_file, pinned_text(text, records, where=str(recipe_file)))
    return records


def pinned_text(text: str, records: dict[str, FileRecord], *, where: str) -> str:
    """Return the recipe's `text` with the bytes and sha256 of `records` (by sequence)."""
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
