"""Fill a dataset's raw folder atomically: download, copy or generate its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import atomic_folder
from dhmd.base.progress import progress
from dhmd.config.schema import load_section
from dhmd.data.download.contents import (
    FileRecord,
    SourceError,
    check_contents,
    write_file_records,
)
from dhmd.data.download.sources import Folder, Source, parse_source, plain_path
from dhmd.data.download.web import BLOCK, RetryPolicy, Transfer

if TYPE_CHECKING:
    from dhmd.recipes import Recipe, SequenceFile
    from dhmd.settings import Settings

PLACED_FOLDER = Path("data") / "placed"


@dataclass(frozen=True, kw_only=True)
class RequiredFile:
    """One file of a recipe.

    Attributes:
        sequence: the sequence's name.
        path: the path below a source.
        file: the name in the raw folder.
        expected: the bytes and the sha256 that the recipe pins, if any.
    """

    sequence: str
    path: str
    file: str
    expected: SequenceFile

    @property
    def name(self) -> str:
        """The file's name at a source."""
        return PurePosixPath(self.path).name


def required_files(recipe: Recipe) -> tuple[RequiredFile, ...]:
    """Return the files that a recipe requires; a sequence's file is named `<sequence>.csd`.

    Raises:
        DhmdError: a path is not a plain relative one, two sequences have the same file, or there
            is none.
    """
    files: dict[str, RequiredFile] = {}
    for name, sequence in recipe.required_sequences.items():
        owner = f"{recipe.source}: sequences.{name}"
        path = plain_path(sequence.path, owner=owner)
        file = f"{name}.csd" if recipe.format == "csd" else PurePosixPath(path).name
        same = next((r for r in files.values() if r.file == file or r.path == path), None)
        if same is not None:
            raise DhmdError(
                f"{owner} and sequences.{same.sequence} name the same file, {path}: "
                "remove one of them"
            )
        files[file] = RequiredFile(sequence=name, path=path, file=file, expected=sequence)
    if not files:
        raise DhmdError(f"{recipe.source}: sequences is empty: name at least one file")
    return tuple(files.values())


def ordered_sources(recipe: Recipe, override: str | None, root: Path) -> tuple[Source, ...]:
    """Return the sources in the order in which they are tried.

    These are only `override` if it is given, else data/placed/<name>/ and the recipe's sources.
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
    policy: RetryPolicy | None = None,
) -> None:
    """Fill `output` atomically with the recipe's files and `sources.json`.

    An interrupted download is continued from `root`/.dhmd/partial by the next run. A file of a
    local folder is copied. A file of an earlier download is reused if it has the sha256 that the
    recipe pins.

    Args:
        recipe: names the files, their sources, and their pinned bytes and sha256.
        override: one source instead of the recipe's (`data.sources.<dataset>`).
        root: the repository's root, to which relative folders refer.
        output: the raw folder.
        earlier: the files of an earlier download, by name in the raw folder.
        policy: retries and time limits of requests.

    Raises:
        DhmdError: no source has a file; the message has the reason for each source.
    """
    if recipe.format == "generated":
        raise DhmdError(f"{recipe.name} is generated data: there is nothing to download")
    files = required_files(recipe)
    sources = ordered_sources(recipe, override, root)
    policy, earlier = policy or RetryPolicy(), earlier or {}
    records: dict[str, FileRecord] = {}
    transfers: dict[str, Transfer] = {}  # by address, which two sources may share
    received: dict[str, Transfer] = {}
    unreachable: set[Source] = set()  # not tried again for the next file

    def get(source: Source, required: RequiredFile, target: Path, *, alone: bool) -> FileRecord:
        if source in unreachable:
            raise SourceError("the server did not respond")
        if isinstance(source, Folder):
            _copy(source, required, target, alone=alone)
            sha256 = check_contents(target, name=required.path, expected=required.expected)
            return FileRecord.from_file(target, sha256)
        url = source.url(required.path)
        if url not in transfers:
            transfers[url] = Transfer(url, root, policy)
            locks.enter_context(transfers[url].locked())
        sha256 = transfers[url].receive(
            required.sequence, required.name, required.expected, source.credentials
        )
        received[required.file] = transfers[url]
        return FileRecord.from_file(transfers[url].body, sha256)

    with ExitStack() as locks:
        with atomic_folder(output) as folder:
            for required in files:
                failures: list[str] = []
                cached: list[Source] = []
                if required.file in earlier and required.expected.sha256 is not None:
                    cached = [Folder(path=earlier[required.file], label="DVC's cache")]
                for source in (*cached, *sources):
                    alone = source in cached or len(files) == 1
                    try:
                        record = get(source, required, folder / required.file, alone=alone)
                        break
                    except SourceError as failure:
                        failures.append(f"{source}: {failure}")
                        if failure.unreachable:
                            unreachable.add(source)
                else:
                    raise DhmdError(_failure_message(recipe, required, failures, override))
                records[required.file] = record
            write_file_records(folder, records)
            for file, transfer in received.items():
                transfer.place(folder / file)
        # The raw folder is complete, and the locks are still held.
        for transfer in received.values():
            transfer.discard()


def local_files(
    recipe: Recipe, sources: Sequence[Source]
) -> Iterator[tuple[RequiredFile, Path | None, list[str]]]:
    """Look for each file of a recipe in its local folders; nothing is downloaded.

    Yields:
        The file, its path in the first folder that has it, or None, and the reasons why earlier
        sources cannot provide it.
    """
    files = required_files(recipe)
    for required in files:
        failures: list[str] = []
        path = None
        for source in sources:
            try:
                if isinstance(source, Folder):
                    path = _find_file(source, required, alone=len(files) == 1)
                    break
                failures.append(f"{source}: to be downloaded")
            except SourceError as failure:
                failures.append(f"{source}: {failure}")
        yield required, path, failures


def fill_raw_folder(
    settings: Settings, output: Path, *, root: Path, earlier: Mapping[str, Path] | None = None
) -> None:
    """Download or generate the raw files of a dataset.

    Args:
        settings: the dataset's settings.
        output: the raw folder; it is written atomically.
        root: the folder to which relative sources refer.
        earlier: the files of an earlier download, by name in the raw folder.

    Raises:
        DhmdError: no source has a file, or the generator's settings are invalid.
    """
    recipe = settings.recipe
    if recipe.format != "generated":
        override = settings.data.sources.get(settings.dataset)
        download(recipe, override=override, root=root, output=output, earlier=earlier)
        return
    from dhmd.data.synthetic import GeneratorConfig, generate

    config = load_section(
        GeneratorConfig, recipe.generator, where="generator", source=recipe.source
    )
    with atomic_folder(output) as folder:
        generate(config, folder)
        records = {path.name: FileRecord.from_file(path) for path in folder.iterdir()}
        write_file_records(folder, records)


def _failure_message(
    recipe: Recipe, required: RequiredFile, failures: list[str], override: str | None
) -> str:
    count = "1 source" if len(failures) == 1 else f"{len(failures)} sources"
    tried = f"tried {count}: {'; '.join(failures)}"
    message = f"{recipe.source}: no source provides {required.name} ({tried})"
    if override is not None:
        return f"{message}; correct data.sources.{recipe.name} in params.yaml, or set it to null"
    return f"{message}; download it by hand and put it in {PLACED_FOLDER / recipe.name}/"


def _find_file(source: Folder, required: RequiredFile, *, alone: bool) -> Path:
    """Find a file in a folder, at the source's path or at the top, or as the source itself.

    If the file is the only one of the recipe (`alone`), a source that is a file may have any name.
    """
    path = source.path
    try:
        if not path.exists():
            raise SourceError("this folder does not exist")
        candidates = [path / required.path, path / required.name]
        if path.is_file():
            candidates = [path] if alone or path.name == required.name else []
        match = next((candidate for candidate in candidates if candidate.exists()), None)
        if match is None:
            raise SourceError(f"this folder has no file {required.name}")
        if not match.is_file():
            raise SourceError(f"{match.name} in this folder is not a regular file")
    except OSError as error:  # no permission, or an invalid name
        raise SourceError(f"it cannot be read: {first_line(error)}") from error
    return match


def _copy(source: Folder, required: RequiredFile, target: Path, *, alone: bool) -> None:
    """Copy a file from a folder; if it cannot be read, the next source is tried."""
    path = _find_file(source, required, alone=alone)
    size = path.stat().st_size
    with open(target, "wb") as copy:
        blocks = _blocks(path)
        for block in progress(blocks, required.sequence, unit="MiB", total=-(-size // BLOCK)):
            copy.write(block)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as stream:
            while block := stream.read(BLOCK):
                yield block
    except OSError as error:
        raise SourceError(f"{path.name} cannot be read: {first_line(error)}") from error
