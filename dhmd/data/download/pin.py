"""`dhmd data pin`: what was received becomes what is required, written into the recipe's text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, write_text
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.download.gathering import wanted_files
from dhmd.data.download.manifest import FileRecord

if TYPE_CHECKING:
    from dhmd.recipes import Recipe


def pin(recipe: Recipe, *, recipe_file: Path, raw: Path) -> dict[str, FileRecord]:
    """Write bytes and sha256 of the files in `raw` into the recipe, keeping every comment.

    Returns:
        sequence name -> what was written.

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
        records[wanted.sequence] = FileRecord(sha256=file_sha256(path), bytes=path.stat().st_size)
    text = recipe_file.read_text(encoding="utf-8")
    write_text(recipe_file, edited(text, records, where=str(recipe_file)))
    return records


def edited(text: str, records: dict[str, FileRecord], *, where: str) -> str:
    """`text` (a recipe) with the bytes and sha256 of `records` in it, otherwise unchanged.

    Raises:
        DhmdError: a sequence that the text does not hold, or an edit that would change more.
    """
    edits: list[tuple[int, int, str]] = []
    sequences = value_node(yaml.compose(text, Loader=yaml.SafeLoader), "sequences")
    for name, record in records.items():
        entry = value_node(sequences, name)
        path = value_node(entry, "path")
        if not isinstance(entry, yaml.MappingNode) or path is None:
            raise DhmdError(f"{where} has no sequences.{name}.path to pin")
        missing: list[str] = []
        for key, value in (("bytes", str(record.bytes)), ("sha256", f'"{record.sha256}"')):
            old = value_node(entry, key)
            if old is None:
                missing.append(f"{key}: {value}")
            else:
                edits.append((old.start_mark.index, old.end_mark.index, value))
        if missing and entry.flow_style:
            end = path.end_mark.index
            edits.append((end, end, "".join(f", {line}" for line in missing)))
        elif missing:
            end = text.find("\n", path.end_mark.index)
            end = len(text) if end < 0 else end
            lines = "".join(f"\n{' ' * entry.start_mark.column}{line}" for line in missing)
            edits.append((end, end, lines))
    new = text
    for start, end, value in sorted(edits, reverse=True):
        # `bytes:` with nothing behind it is a null of zero length right after the colon.
        gap = " " if start == end and value[0] not in ",\n" and new[start - 1] == ":" else ""
        new = new[:start] + gap + value + new[end:]
    _check(text, new, records, where=where)
    return new


def value_node(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                found: yaml.Node = value
                return found
    return None


def _check(old: str, new: str, records: dict[str, FileRecord], *, where: str) -> None:
    """The edit must say the same as before but for the pins; text is easily edited wrongly."""
    before: Any = parse_yaml(old, where)
    after: Any = parse_yaml(new, where)
    for name, record in records.items():
        pins = {"bytes": record.bytes, "sha256": record.sha256}
        before["sequences"][name] = {**before["sequences"][name], **pins}
    if before != after:
        raise DhmdError(f"{where} could not be edited in place: write bytes and sha256 by hand")
