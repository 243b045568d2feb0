"""Make the aligned features file of a dataset from its raw files of any format, or check them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import CorpusJob, align_corpus
from dhmd.data.alignment import check_corpus as check_aligned
from dhmd.data.formats.importing import check_corpus as check_imported
from dhmd.data.formats.importing import import_corpus

if TYPE_CHECKING:
    from dhmd.recipes import Recipe
    from dhmd.settings import Settings


def align_dataset(
    settings: Settings, raw: Path, output: Path, *, root: Path, recipes: Path
) -> None:
    """Align the raw sequences, or import another format; whole or not at all.

    Args:
        raw: the folder that the download filled.
        output: the aligned features file.
        root: the folder from which the encoder's folder counts.
        recipes: the folder of the recipes.

    Raises:
        DhmdError: a file is damaged or does not fit the recipe.
    """
    paths = raw_paths(settings.recipe, raw)
    job = _job(settings, paths, root, recipes, _received_sha256s(raw))
    if settings.recipe.imported:
        import_corpus(job, output)
    else:
        align_corpus(job, output)


def check_files(
    settings: Settings, paths: Mapping[str, Path], *, root: Path, recipes: Path
) -> list[str]:
    """Return all problems of a dataset's files, which `align_dataset` would refuse one by one."""
    try:
        job = _job(settings, paths, root, recipes, {})
        return check_imported(job) if settings.recipe.imported else check_aligned(job)
    except DhmdError as error:
        return [str(error)]


def raw_paths(recipe: Recipe, raw: Path) -> dict[str, Path]:
    """Return sequence -> file in the folder that the download filled."""
    return {
        name: raw / (Path(file.path).name if recipe.imported else f"{name}.csd")
        for name, file in recipe.required_files.items()
    }


def _job(
    settings: Settings,
    paths: Mapping[str, Path],
    root: Path,
    recipes: Path,
    sources: Mapping[str, str],
) -> CorpusJob:
    recipe, encoder = settings.recipe, None
    if settings.features.text != "words":
        from dhmd.data.text.contextual import open_contextual

        compute = settings.compute
        encoder = open_contextual(
            settings.features, root, device=compute.device, threads=compute.threads
        )
    folds = None if recipe.folds is None else recipes / recipe.folds.file
    if folds is None and not recipe.imported:  # a generated corpus brings its own
        folds = next(iter(paths.values())).with_name("folds.json")
    return CorpusJob(
        recipe=recipe,
        paths=paths,
        align=settings.align,
        alignment=settings.data.alignment,
        folds_path=folds,
        sources=sources,
        encoder=encoder,
    )


def _received_sha256s(raw: Path) -> dict[str, str]:
    """Return file -> sha256, as `download` wrote them.

    It is not read by dhmd.data.download, so that a change of downloading does not align again.
    """
    manifest = raw / "sources.json"
    try:
        value = json.loads(manifest.read_text(encoding="utf-8"))
        return {str(file): str(record["sha256"]) for file, record in value.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DhmdError(f"{manifest} is missing or damaged: run download again") from error
