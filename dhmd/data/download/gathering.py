"""Everything a recipe names, gathered into one folder that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import whole_folder
from dhmd.base.progress import progress
from dhmd.data.download.contents import Expected, check_contents
from dhmd.data.download.failures import SourceFailure
from dhmd.data.download.locations import Folder, Source, Web, parse_source, plain_path
from dhmd.data.download.manifest import FileRecord, write_manifest
from dhmd.data.download.partial import Partial
from dhmd.data.download.web import BLOCK, Patience, fetch

if TYPE_CHECKING:
    from dhmd.recipes import Recipe

PLACED_FOLDER = Path("data") / "placed"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One file of a recipe: its path below a source, and its name in the raw folder."""

    sequence: str
    path: str
    file: str
    expected: Expected


def wanted_files(recipe: Recipe) -> tuple[Wanted, ...]:
    """The files a recipe needs, checked; computational sequences are renamed to their name.

    Raises:
        DhmdError: a path that leaves its source, two sequences that are one file, or none.
    """
    files: dict[str, Wanted] = {}
    for name, sequence in recipe.needed.items():
        owner = f"recipe {recipe.name}: sequences.{name}"
        path = plain_path(sequence.path, owner=owner)
        file = f"{name}.csd" if recipe.format == "csd" else PurePosixPath(path).name
        plain_path(file, owner=owner)
        twin = next((w for w in files.values() if w.file == file or w.path == path), None)
        if twin is not None:
            raise DhmdError(f"{owner} and sequences.{twin.sequence} are one file, {path}")
        expected = Expected(bytes=sequence.bytes, sha256=sequence.sha256)
        files[file] = Wanted(sequence=name, path=path, file=file, expected=expected)
    if not files:
        raise DhmdError(f"recipe {recipe.name}: sequences names no file")
    return tuple(files.values())


def ordered_sources(recipe: Recipe, override: str | None, root: Path) -> tuple[Source, ...]:
    """Where to look, first to last: the override alone, or files placed by hand and the recipe's.

    Raises:
        DhmdError: a source that is neither an http(s) address nor a folder.
    """
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
    """Fill `output` with the recipe's files and `sources.json`; whole or not at all.

    An interrupted run, at whatever moment, leaves what it received in `root`/.dhmd/partial, and the
    next continues there. A file from a folder is copied, so that nothing later can touch the user's
    own. A file that was received before is not fetched again where it has the sha256 that the
    recipe pins.

    Args:
        recipe: names the files, their sources, and their bytes and sha256 once pinned.
        override: one source instead of the recipe's (`data.sources.<dataset>`).
        root: the repository's root, from which relative folders count.
        output: the raw folder.
        earlier: files received before, by their name in the raw folder.
        patience: how long servers are waited for.

    Raises:
        DhmdError: a file that no source gives: which, what each source answered, what to do.
    """
    if recipe.format == "generated":
        raise DhmdError(f"{recipe.name} is generated data: there is nothing to download")
    files = wanted_files(recipe)
    sources = ordered_sources(recipe, override, root)
    patience = patience or Patience()
    records: dict[str, FileRecord] = {}
    received: dict[str, Partial] = {}
    held: dict[str, Partial] = {}
    silent: set[Source] = set()
    with ExitStack() as locks:
        with whole_folder(output) as folder:
            for wanted in files:
                target = folder / wanted.file
                failures: list[str] = []
                kept = _kept(wanted, earlier or {})
                for source in (*kept, *sources):
                    try:
                        if source in silent:
                            raise SourceFailure("it did not answer")
                        if isinstance(source, Folder):
                            alone = source in kept or len(files) == 1
                            digest, size = _copy(source, wanted, target, alone=alone)
                        else:
                            url = source.url(wanted.path)
                            if url not in held:  # one address may be named twice
                                held[url] = Partial(root, url)
                                locks.enter_context(held[url].locked())
                            digest, size = _receive(source, wanted, held[url], patience)
                            received[wanted.file] = held[url]
                        records[wanted.file] = FileRecord(sha256=digest, bytes=size)
                        break
                    except SourceFailure as failure:
                        failures.append(f"{source}: {failure}")
                        if failure.unreachable:
                            # Not waited for again at every other file.
                            silent.add(source)
                else:
                    raise DhmdError(_refusal(recipe.name, wanted, failures))
            write_manifest(folder, records)
            for file, partial in received.items():
                partial.place(folder / file)
        # The raw folder is whole and in its place; nobody else may begin before these are gone.
        for partial in received.values():
            partial.discard()


def _kept(wanted: Wanted, earlier: Mapping[str, Path]) -> tuple[Folder, ...]:
    """What was received before, where the recipe says how to know that it is the file."""
    path = earlier.get(wanted.file)
    if path is None or wanted.expected.sha256 is None:
        return ()
    return (Folder(path=path, written="what was received before"),)


def _refusal(dataset: str, wanted: Wanted, failures: list[str]) -> str:
    name = PurePosixPath(wanted.path).name
    return (
        f"cannot get {wanted.sequence} of {dataset} ({wanted.path}); tried "
        + "; ".join(failures)
        + f"; place the file by hand as {PLACED_FOLDER / dataset / name}, or set "
        f"data.sources.{dataset} to a folder or mirror that has it, and run again"
    )


def _candidates(source: Folder, wanted: Wanted, *, alone: bool) -> tuple[Path, ...]:
    """Below the folder as in the source's own layout, or flat, or the file itself."""
    name = PurePosixPath(wanted.path).name
    if source.path.is_file():
        return (source.path,) if alone or source.path.name == name else ()
    return (source.path / wanted.path, source.path / name)


def _found(source: Folder, wanted: Wanted, *, alone: bool) -> Path:
    """The file in a folder.

    Raises:
        SourceFailure: it is not there, or the folder cannot be read.
    """
    try:
        if not source.path.exists():
            raise SourceFailure("no such folder")
        found = next((p for p in _candidates(source, wanted, alone=alone) if p.exists()), None)
        if found is None:
            raise SourceFailure(f"no file {PurePosixPath(wanted.path).name} there")
        if not found.is_file():
            raise SourceFailure(f"{found.name} there is not a file")
    except OSError as error:  # no right to look there, or a name that no disk would take
        raise SourceFailure(f"it cannot be read: {first_line(error)}") from error
    return found


def find_local(
    sources: tuple[Source, ...], wanted: Wanted, *, alone: bool
) -> tuple[Path | None, list[str]]:
    """The file in the first folder that has it, or None; and what each source before it has said.

    Nothing is fetched: a web address says that the file has yet to be downloaded from it.
    """
    failures: list[str] = []
    for source in sources:
        try:
            if isinstance(source, Folder):
                return _found(source, wanted, alone=alone), failures
            failures.append(f"{source}: to be downloaded")
        except SourceFailure as failure:
            failures.append(f"{source}: {failure}")
    return None, failures


def _copy(source: Folder, wanted: Wanted, target: Path, *, alone: bool) -> tuple[str, int]:
    found = _found(source, wanted, alone=alone)
    try:
        size = found.stat().st_size
    except OSError as error:
        raise _unreadable(found, error) from error
    if wanted.expected.bytes is not None and size != wanted.expected.bytes:
        raise SourceFailure(f"it holds {size} bytes where the recipe says {wanted.expected.bytes}")
    with open(target, "wb") as copy:
        pieces = _pieces(found)
        for piece in progress(pieces, wanted.sequence, unit="MiB", total=-(-size // BLOCK)):
            copy.write(piece)
    if target.stat().st_size != size:
        raise SourceFailure(f"{found.name} changed while it was copied")
    digest = check_contents(target, name=wanted.path, expected=wanted.expected)
    return digest, target.stat().st_size


def _pieces(path: Path) -> Iterator[bytes]:
    """The file in blocks of 1 MiB; a failure to read it is the source's, not the copy's."""
    try:
        with open(path, "rb") as stream:
            while piece := stream.read(BLOCK):
                yield piece
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> SourceFailure:
    return SourceFailure(f"{path.name} cannot be read: {first_line(error)}")


def _receive(source: Web, wanted: Wanted, partial: Partial, patience: Patience) -> tuple[str, int]:
    def once() -> bool:
        return fetch(
            source.url(wanted.path),
            authorization=source.authorization,
            partial=partial,
            expected=wanted.expected,
            label=wanted.sequence,
            patience=patience,
        )

    resumed = once()
    try:
        digest = check_contents(partial.body, name=wanted.path, expected=wanted.expected)
    except SourceFailure:
        partial.discard()
        if not resumed:
            raise
        # Pieces of two versions may have been joined: only a whole fresh body decides.
        once()
        try:
            digest = check_contents(partial.body, name=wanted.path, expected=wanted.expected)
        except SourceFailure:
            partial.discard()
            raise
    return digest, partial.size()
