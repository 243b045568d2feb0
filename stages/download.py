"""Stage `download`: get the corpus's files from its sources, or generate them."""

from __future__ import annotations

from pathlib import Path

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Fill data/raw/<dataset>, whole or not at all."""
    if stage.settings.recipe.format == "generated":
        _generate(stage)
    else:
        from dhmd.data.download import download

        settings = stage.settings
        download(
            settings.recipe,
            override=settings.data.sources.get(stage.dataset),
            root=stage.root,
            output=stage.raw,
            earlier=_earlier(stage),
        )


def _earlier(stage: Stage) -> dict[str, Path]:
    """Return the files of the last run that are still in DVC's cache."""
    from dhmd.vcs.lock import cached_files

    pinned = any(sequence.sha256 for sequence in stage.settings.recipe.needed.values())
    return cached_files(Path.cwd(), stage.raw) if pinned else {}


def _generate(stage: Stage) -> None:
    from dhmd.base.files import file_sha256, whole_folder
    from dhmd.base.progress import progress
    from dhmd.config.schema import load_section
    from dhmd.data.download import FileRecord, write_received
    from dhmd.data.synthetic import GeneratorConfig, generate

    recipe = stage.settings.recipe
    config = load_section(
        GeneratorConfig, recipe.generator, where="generator", source=recipe.source
    )
    with whole_folder(stage.raw) as folder:
        generate(config, folder, progress=progress)
        records = {
            path.name: FileRecord(sha256=file_sha256(path), bytes=path.stat().st_size)
            for path in sorted(folder.iterdir())
        }
        write_received(folder, records)


if __name__ == "__main__":
    run("download", work)
