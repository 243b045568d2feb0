"""Stage `align`: align modalities to words and segments, in data/aligned/<dataset>.h5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256
from stages._entry import Stage, run

if TYPE_CHECKING:
    from dhmd.data.alignment import WordEncoder


def work(stage: Stage) -> None:
    """Align the raw sequences, or import another format; whole or not at all."""
    if stage.settings.recipe.format in ("csd", "generated"):
        _align(stage)
    else:
        _import(stage)


def _encoder(stage: Stage) -> WordEncoder | None:
    """Load the encoder that computes the words' vectors, if features.text asks for one."""
    if stage.settings.features.text == "words":
        return None
    from dhmd.data.text.contextual import open_contextual

    train = stage.settings.train
    return open_contextual(
        stage.settings.features, stage.root, device=train.device, threads=train.threads
    )


def _import(stage: Stage) -> None:
    from dhmd.data.formats import import_corpus

    settings = stage.settings
    folds = settings.recipe.folds
    import_corpus(
        settings.recipe,
        stage.raw,
        settings.align,
        alignment=settings.data.alignment,
        sources=_checked_sha256s(stage.raw),
        folds_path=None if folds is None else Path("recipes", folds.file),
        output=stage.aligned,
        encoder=_encoder(stage),
    )


def _align(stage: Stage) -> None:
    from dhmd.data.alignment import align_corpus

    settings = stage.settings
    recipe = settings.recipe
    # A generated corpus brings its own folds.
    folds = stage.raw / "folds.json" if recipe.folds is None else Path("recipes", recipe.folds.file)
    align_corpus(
        {name: stage.raw / f"{name}.csd" for name in recipe.needed},
        recipe,
        settings.align,
        alignment=settings.data.alignment,
        sources=_checked_sha256s(stage.raw),
        folds_path=folds,
        output=stage.aligned,
        encoder=_encoder(stage),
    )


def _checked_sha256s(raw: Path) -> dict[str, str]:
    """Return file -> sha256 as `download` wrote them, after checking the files against them.

    Read here and not by dhmd.data.download, so that a change of downloading does not align again.
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


if __name__ == "__main__":
    run("align", work)
