"""Stage `download`: get the corpus's files from its sources, or generate them."""

from __future__ import annotations

import subprocess
import sys
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
    """Return the files of the raw folder, which DVC has just removed, that its cache still has."""
    from dhmd.data.download import received_before

    lock = Path("dvc.lock")
    pinned = any(sequence.sha256 for sequence in stage.settings.recipe.needed.values())
    if not pinned or not lock.is_file():
        return {}
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    asked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if asked.returncode != 0:
        return {}
    return received_before(lock, Path(asked.stdout.strip()), stage.raw)


def _generate(stage: Stage) -> None:
    from dhmd.base.atomic import whole_folder
    from dhmd.base.hashing import file_sha256
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
