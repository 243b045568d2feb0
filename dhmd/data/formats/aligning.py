"""Create the aligned features file of a dataset from raw files of any format, or check them."""

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
    """Align the raw sequences, or import files of another format.

    Args:
        settings: the dataset's settings.
        raw: the raw folder.
        output: the aligned features file; it is written atomically.
        root: the folder to which a relative path of the text encoder refers.
        recipes: the folder of the recipes.

    Raises:
        DhmdError: a file is damaged or contradicts the recipe.
    """
    paths = raw_paths(settings.recipe, raw)
    job = _job(settings, paths, root, recipes, _raw_sha256s(raw))
    if settings.recipe.imported:
        import_corpus(job, output)
    else:
        align_corpus(job, output)


def check_files(
    settings: Settings, paths: Mapping[str, Path], *, root: Path, recipes: Path
) -> list[str]:
    """Return all errors that `align_dataset` could raise for the files, one sentence each."""
    try:
        job = _job(settings, paths, root, recipes, {})
        return check_imported(job) if settings.recipe.imported else check_aligned(job)
    except DhmdError as error:
        return [str(error)]


def raw_paths(recipe: Recipe, raw: Path) -> dict[str, Path]:
    """Return the file of each sequence in the raw folder."""
    return {
        name: raw / (Path(file.path).name if recipe.imported else f"{name}.csd")
        for name, file in recipe.required_sequences.items()
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
        from dhmd.data.text.contextual import load_contextual

        compute = settings.compute
        encoder = load_contextual(
            settings.features, root, device=compute.device, threads=compute.threads
        )
    folds = None if recipe.folds is None else recipes / recipe.folds.file
    if folds is None and not recipe.imported:  # a generated corpus has its own
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


def _raw_sha256s(raw: Path) -> dict[str, str]:
    """Return the sha256 of each raw file from `sources.json`.

    This does not import dhmd.data.download, so that a change there does not run the align stage.
    """
    manifest = raw / "sources.json"
    try:
        value = json.loads(manifest.read_text(encoding="utf-8"))
        return {str(file): str(record["sha256"]) for file, record in value.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DhmdError(
            f"{manifest} is missing or damaged: run the download stage again"
        ) from error
