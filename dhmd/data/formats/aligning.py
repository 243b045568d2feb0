"""Make the aligned features file of a dataset from its raw files, whatever their format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256
from dhmd.data.alignment import WordEncoder, align_corpus
from dhmd.data.formats.importing import import_corpus

if TYPE_CHECKING:
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
    recipe, alignment = settings.recipe, settings.data.alignment
    sources, encoder = _checked_sha256s(raw), _encoder(settings, root)
    folds = None if recipe.folds is None else recipes / recipe.folds.file
    if recipe.imported:
        import_corpus(
            recipe,
            raw,
            settings.align,
            alignment=alignment,
            sources=sources,
            folds_path=folds,
            output=output,
            encoder=encoder,
        )
        return
    align_corpus(
        {name: raw / f"{name}.csd" for name in recipe.needed},
        recipe,
        settings.align,
        alignment=alignment,
        sources=sources,
        folds_path=folds or raw / "folds.json",  # a generated corpus brings its own
        output=output,
        encoder=encoder,
    )


def _encoder(settings: Settings, root: Path) -> WordEncoder | None:
    """Load the encoder that computes the words' vectors, if features.text asks for one."""
    if settings.features.text == "words":
        return None
    from dhmd.data.text.contextual import open_contextual

    compute = settings.compute
    return open_contextual(settings.features, root, device=compute.device, threads=compute.threads)


def _checked_sha256s(raw: Path) -> dict[str, str]:
    """Return file -> sha256 as `download` wrote them, after checking the files against them.

    It is not read by dhmd.data.download, so that a change of downloading does not align again.
    """
    manifest = raw / "sources.json"
    try:
        value = json.loads(manifest.read_text(encoding="utf-8"))
        found = {str(file): str(record["sha256"]) for file, record in value.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DhmdError(f"{manifest} is missing or damaged: run download again") from error
    for file, sha256 in found.items():
        try:
            same = file_sha256(raw / file) == sha256
        except OSError as error:
            raise DhmdError(
                f"cannot read {raw / file}, which {manifest} lists: run download again"
            ) from error
        if not same:
            raise DhmdError(
                f"{raw / file} is damaged or was changed: its sha256 is not the one that download "
                f"wrote into {manifest}; remove {raw} and run download again"
            )
    return found
