"""Stage `download`: the corpus's files in data/raw/<dataset>, got from its sources or generated."""

from __future__ import annotations

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Fill the raw folder, whole or not at all."""
    if stage.settings.recipe.format == "generated":
        _generate(stage)
    else:
        from dhmd.sources import download

        settings = stage.settings
        override = settings.data.sources.get(stage.dataset)
        download(settings.recipe, override=override, root=stage.root, output=stage.raw)


def _generate(stage: Stage) -> None:
    from dhmd.base.atomic import whole_folder
    from dhmd.base.hashing import file_sha256
    from dhmd.base.progress import progress
    from dhmd.config.schema import load_section
    from dhmd.generated import GeneratorConfig, generate
    from dhmd.sources.manifest import FileRecord, write_manifest

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
        write_manifest(folder, records)


if __name__ == "__main__":
    run("download", work)
