"""Stage `download`: download or generate the files of the corpus, into data/raw/<dataset>."""

from __future__ import annotations

from pathlib import Path

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Download the files from their sources, or generate them."""
    from dhmd.data.download.raw_folder import fill_raw_folder

    fill_raw_folder(stage.settings, stage.raw, root=stage.root, earlier=_cached_files(stage))


def _cached_files(stage: Stage) -> dict[str, Path]:
    """Return the files of the last run that are still in DVC's cache."""
    from dhmd.vcs.lock import cached_files

    recipe = stage.settings.recipe
    pinned = recipe.format != "generated" and any(
        sequence.sha256 for sequence in recipe.required_sequences.values()
    )
    return cached_files(Path.cwd(), stage.raw) if pinned else {}


if __name__ == "__main__":
    run("download", work)
