"""Run all checks of the pipeline on a dataset, and collect the problems."""

from __future__ import annotations

from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.data.download import (
    RECEIVED_NAME,
    RequiredFile,
    SourceError,
    check_contents,
    local_files,
    ordered_sources,
    read_file_records,
    required_files,
)
from dhmd.data.formats import check_files, raw_paths
from dhmd.recipes import RECIPES_FOLDER, check_recipe_file
from dhmd.settings import Settings, load_params


def check_dataset(name: str, root: Path) -> list[str]:
    """Return the problems of a dataset, one sentence each; warnings are logged.

    Checks the downloaded files, or, before the download, the local files that the download stage
    would copy. Files are read completely; nothing is written.

    Raises:
        DhmdError: there is no such recipe, or params.yaml is not valid.
    """
    settings = load_params(root).for_dataset(name)
    problems: list[str] = []
    try:
        check_recipe_file(name, root)
    except DhmdError as error:
        problems.append(str(error))
    raw = root / "data" / "raw" / name
    if raw.is_dir():
        paths = raw_paths(settings.recipe, raw)
        problems += _raw_problems(settings, raw)
    elif settings.recipe.format == "generated":
        return [*problems, f"{raw} does not exist: run `dvc repro download@{name}` to generate it"]
    else:
        paths, missing = _local_files(settings, root)
        problems += missing
    return problems or check_files(settings, paths, root=root, recipes=root / RECIPES_FOLDER)


def _raw_problems(settings: Settings, raw: Path) -> list[str]:
    """Return problems of the download: missing or changed files, and files of another recipe."""
    try:
        received = read_file_records(raw)
    except DhmdError as error:
        return [str(error)]
    problems = []
    if settings.recipe.format != "generated":
        for required in required_files(settings.recipe):
            if required.file not in received:
                problems.append(
                    f"{raw / required.file} is not listed in {RECEIVED_NAME}, because the recipe "
                    "has changed since the download: run the download stage again"
                )
                continue
            problems += _file_problems(raw / required.file, required)
    for file, record in received.items():
        path = raw / file
        if not path.is_file():
            problems.append(f"{path} is missing: run the download stage again")
        elif path.stat().st_size != record.bytes:
            problems.append(
                f"{path} has {path.stat().st_size} bytes, but had {record.bytes} when it was "
                "downloaded: run the download stage again"
            )
    return problems


def _file_problems(path: Path, required: RequiredFile) -> list[str]:
    """Return the problem of a local file, if any: it is absent or does not match the recipe."""
    try:
        check_contents(path, name=required.path, expected=required.expected)
    except SourceError as failure:
        return [f"{path}: {failure}"]
    except OSError:
        return [f"{path} is missing: run the download stage again"]
    return []


def _local_files(settings: Settings, root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the local files that the download stage would copy, by sequence, and the problems."""
    recipe = settings.recipe
    sources = ordered_sources(recipe, settings.data.sources.get(recipe.name), root)
    paths, problems = {}, []
    for required, path, failures in local_files(recipe, sources):
        if path is None:
            problems.append(
                f"{required.sequence} ({required.path}) of {recipe.name} has no local file: "
                + "; ".join(failures)
            )
        else:
            problems += _file_problems(path, required)
            paths[required.sequence] = path
    return paths, problems
