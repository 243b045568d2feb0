"""Fill a folder with a dataset's raw files: downloaded, copied or generated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dhmd.base.files import atomic_folder
from dhmd.config.schema import load_section
from dhmd.data.download.contents import FileRecord, write_received
from dhmd.data.download.gathering import download

if TYPE_CHECKING:
    from dhmd.settings import Settings


def obtain(
    settings: Settings, output: Path, *, root: Path, earlier: Mapping[str, Path] | None = None
) -> None:
    """Write the raw files of a dataset to the folder `output`, whole or not at all.

    Args:
        root: the folder from which relative sources count.
        earlier: files of an earlier download, by name.

    Raises:
        DhmdError: a file cannot be obtained, or the settings of the generator are wrong.
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
        write_received(folder, {path.name: FileRecord.of(path) for path in folder.iterdir()})
