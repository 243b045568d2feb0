"""Collect a recipe's files from its sources into one folder, which appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import atomic_folder
from dhmd.base.progress import progress
from dhmd.data.download.contents import (
    FileRecord,
    SourceFailure,
    check_contents,
    write_received,
)
from dhmd.data.download.sources import Folder, Source, parse_source, plain_path
from dhmd.data.download.web import BLOCK, Patience, Transfer

if TYPE_CHECKING:
    from dhmd.recipes import Recipe, SequenceFile

PLACED_FOLDER = Path("data") / "placed"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One file of a recipe: its path below a source, and its name in the raw folder."""

    sequence: str
    path: str
    file: str
    expected: SequenceFile

    @property
    def name(self) -> str:
        """The name of the file where the source has it."""
        return PurePosixPath(self.path).name


def wanted_files(recipe: Recipe) -> tuple[Wanted, ...]:
    """Return the files that a recipe needs; computational sequences are named by their key."""
    files: dict[str, Wanted] = {}
    for name, sequence in recipe.required_files.items():
        owner = f"{recipe.source}: sequences.{name}"
        path = plain_path(sequence.path, owner=owner)
        file = f"{name}.csd" if recipe.format == "csd" else PurePosixPath(path).name
        plain_path(file, owner=owner)
        twin = next((w for w in files.values() if w.file == file or w.path == path), None)
        if twin is not None:
            raise DhmdError(f"{owner} and sequences.{twin.sequence} are one file, {path}")
        files[file] = Wanted(sequence=name, path=path, file=file, expected=sequence)
    if not files:
        raise DhmdError(f"{recipe.source}: sequences names no file")
    return tuple(files.values())


def ordered_sources(recipe: Recipe, override: str | None, root: Path) -> tuple[Source, ...]:
    """Return the sources in order: the override alone, or placed files and the recipe's sources."""
    if override is not None:
        return (parse_source(override, root),)
    placed = str(PLACED_FOLDER / recipe.name)
    return tuple(parse_source(source, root) for source in (placed, *recipe.sources))


def download(
    recipe: Recipe,
    *,
    override: str | None,
    root: Path,
    output: Path,
    earlier: Mapping[str, Path] | None = None,
    patience: Patience | None = None,
) -> None:
    """Fill `output` with the recipe's files and `sources.json`, whole or not at all.

    An interrupted run leaves what it received in `root`/.dhmd/partial, and the next continues
    there. A file from a folder is copied. A file that was received before is not fetched again if
    it has the sha256 that the recipe pins.

    Args:
        recipe: names the files, their sources, and their bytes and sha256 once pinned.
        override: one source instead of the recipe's (`data.sources.<dataset>`).
        root: the repository's root, to which relative folders refer.
        output: the raw folder.
        earlier: files received before, by their name in the raw folder.
        patience: how long to wait for servers.

    Raises:
        DhmdError: no source has a file; the message gives the reasons and what to do.
    """
    if recipe.format == "generated":
        raise DhmdError(f"{recipe.name} is generated data: there is nothing to download")
    files = wanted_files(recipe)
    sources = ordered_sources(recipe, override, root)
    patience, earlier = patience or Patience(), earlier or {}
    records: dict[str, FileRecord] = {}
    transfers: dict[str, Transfer] = {}  # by address: one may be named twice
    received: dict[str, Transfer] = {}
    unreachable: set[Source] = set()  # not waited for again at every other file

    def get(source: Source, wanted: Wanted, target: Path, *, alone: bool) -> FileRecord:
        if source in unreachable:
            raise SourceFailure("it did not answer")
        if isinstance(source, Folder):
            _copy(source, wanted, target, alone=alone)
            sha256 = check_contents(target, name=wanted.path, expected=wanted.expected)
            return FileRecord.of(target, sha256)
        url = source.url(wanted.path)
        if url not in transfers:
            transfers[url] = Transfer(url, root, patience)
            locks.enter_context(transfers[url].locked())
        sha256 = transfers[url].receive(
            wanted.sequence, wanted.name, wanted.expected, source.credentials
        )
        received[wanted.file] = transfers[url]
        return FileRecord.of(transfers[url].body, sha256)

    with ExitStack() as locks:
        with atomic_folder(output) as folder:
            for wanted in files:
                failures: list[str] = []
                kept: list[Source] = []
                if wanted.file in earlier and wanted.expected.sha256 is not None:
                    kept = [Folder(path=earlier[wanted.file], written="DVC's cache")]
                for source in (*kept, *sources):
                    alone = source in kept or len(files) == 1
                    try:
                        record = get(source, wanted, folder / wanted.file, alone=alone)
                        break
                    except SourceFailure as failure:
                        failures.append(f"{source}: {failure}")
                        if failure.unreachable:
                            unreachable.add(source)
                else:
                    raise DhmdError(_refusal(recipe, wanted, failures, override))
                records[wanted.file] = record
            write_received(folder, records)
            for file, transfer in received.items():
                transfer.place(folder / file)
        # The raw folder is in its place; the locks are still held.
        for transfer in received.values():
            transfer.discard()


def local_files(
    recipe: Recipe, sources: Sequence[Source]
) -> Iterator[tuple[Wanted, Path | None, list[str]]]:
    """Yield each file of a recipe with its path in the first folder that has it, or None.

    The third item is why earlier sources do not have it. Nothing is fetched: of a web address the
    reason is that the file is yet to be downloaded.
    """
    files = wanted_files(recipe)
    for wanted in files:
        failures: list[str] = []
        found = None
        for source in sources:
            try:
                if isinstance(source, Folder):
                    found = _found(source, wanted, alone=len(files) == 1)
                    break
                failures.append(f"{source}: to be downloaded")
            except SourceFailure as failure:
                failures.append(f"{source}: {failure}")
        yield wanted, found, failures


def _refusal(recipe: Recipe, wanted: Wanted, failures: list[str], override: str | None) -> str:
    count = "1 source" if len(failures) == 1 else f"{len(failures)} sources"
    what = f"{recipe.source}: no source gives {wanted.name} (tried {count}: {'; '.join(failures)})"
    if override is not None:
        return f"{what}; correct data.sources.{recipe.name} in params.yaml, or set it to null"
    return f"{what}; download it by hand and put it in {PLACED_FOLDER / recipe.name}/"


def _found(source: Folder, wanted: Wanted, *, alone: bool) -> Path:
    """Find the file in a folder: where the source has it, or directly, or the file itself."""
    path = source.path
    try:
        if not path.exists():
            raise SourceFailure("no such folder")
        candidates = [path / wanted.path, path / wanted.name]
        if path.is_file():
            candidates = [path] if alone or path.name == wanted.name else []
        found = next((candidate for candidate in candidates if candidate.exists()), None)
        if found is None:
            raise SourceFailure(f"no file {wanted.name} there")
        if not found.is_file():
            raise SourceFailure(f"{found.name} there is not a file")
    except OSError as error:  # no permission, or a name that no disk takes
        raise SourceFailure(f"it cannot be read: {first_line(error)}") from error
    return found


def _copy(source: Folder, wanted: Wanted, target: Path, *, alone: bool) -> None:
    """Copy the file from a folder; a read error counts as a failure of the source."""
    found = _found(source, wanted, alone=alone)
    size = found.stat().st_size
    with open(target, "wb") as copy:
        blocks = _blocks(found)
        for block in progress(blocks, wanted.sequence, unit="MiB", total=-(-size // BLOCK)):
            copy.write(block)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as stream:
            while block := stream.read(BLOCK):
                yield block
    except OSError as error:
        raise SourceFailure(f"{path.name} cannot be read: {first_line(error)}") from error
