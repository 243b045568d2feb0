"""`dhmd import mmsa|arrays PATH --dataset NAME`: a corpus from one's own disk, ready to run.

`dhmd import videos FOLDER --labels FILE` is dhmd/cli/import_videos.py.

The files are checked first, with every check of the pipeline. Then they are linked (or copied) to
data/placed/NAME, and where no recipe NAME exists one is written.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from dhmd.base.atomic import whole_file, write_text
from dhmd.base.errors import DhmdError
from dhmd.cli import import_videos
from dhmd.config.schema import load_section
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.alignment import AlignConfig
from dhmd.data.download.contents import check_contents
from dhmd.data.download.failures import SourceFailure
from dhmd.data.download.gathering import PLACED_FOLDER, find_local, wanted_files
from dhmd.data.download.locations import Folder
from dhmd.data.formats import check_corpus
from dhmd.data.formats.drafting import draft_arrays, draft_mmsa
from dhmd.recipes import RECIPES_FOLDER, Recipe, load_recipe, parse_recipe, repository_root
from dhmd.settings import load_params

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    formats = parser.add_subparsers(dest="format", required=True)
    mmsa = formats.add_parser("mmsa", help="one of MMSA's feature pickles")
    mmsa.add_argument(
        "--padding",
        choices=("marked", "trailing_zeros", "none"),
        default="marked",
        help="for a new recipe: padding is what text_bert or lengths mark, rows of zeros at the "
        "end, or there is none",
    )
    arrays = formats.add_parser("arrays", help="a folder of train, valid and test .npz or .h5")
    for one in (mmsa, arrays):
        one.add_argument("path", type=Path, help="the file or folder")
        one.add_argument("--dataset", required=True, help="the recipe's name, old or new")

    videos = formats.add_parser("videos", help="a folder of videos, transcripts and labels")
    import_videos.configure(videos)


def run(arguments: argparse.Namespace) -> int:
    """Import; 1 where the files have problems, and then nothing is written."""
    if arguments.format == "videos":
        return import_videos.run(arguments)
    root, name, path = repository_root(), str(arguments.dataset), Path(arguments.path)
    if not path.exists():
        raise DhmdError(f"{path} does not exist")
    # Also a value in params.yaml: it must not read as a number or as null there.
    if not _NAME.fullmatch(name) or name.lower() in ("null", "true", "false"):
        raise DhmdError(
            f"--dataset {name!r} is no name: use a letter, then letters, digits, '_' and '-'"
        )
    load_params(root)  # a mistake in params.yaml is found before the work
    recipe_file = root / RECIPES_FOLDER / f"{name}.yaml"
    text: str | None = None
    if recipe_file.is_file():
        recipe = load_recipe(name, root)
        if recipe.format != arguments.format:
            raise DhmdError(
                f"{recipe.source} is of format {recipe.format}, not {arguments.format}: choose "
                "another --dataset"
            )
    else:
        draft = (
            draft_mmsa(name, path, arguments.padding)
            if arguments.format == "mmsa"
            else draft_arrays(name, path)
        )
        text = draft.text()
        recipe = parse_recipe(name, parse_yaml(text, f"{RECIPES_FOLDER}/{name}.yaml"))
    files = _files(recipe, path)
    alignment, problems = _checked(recipe, files, root)
    if problems:
        for problem in problems:
            print(f"dhmd import: {problem}", file=sys.stderr)
        return 1
    for file, source in files.items():
        _place(source, root / PLACED_FOLDER / name / file)
        print(f"placed {PLACED_FOLDER / name / file}")
    if text is not None:
        write_text(recipe_file, text)
        print(f"wrote {recipe.source}: go over it")
    extra = "" if alignment == "word" else " -S data.alignment=none"
    print(f"next: dvc exp run -S 'datasets=[{name}]'{extra}")
    return 0


def _files(recipe: Recipe, path: Path) -> dict[str, Path]:
    """The recipe's files at `path`, each of the content that the recipe has pinned.

    Raises:
        DhmdError: one is missing or another.
    """
    files = {}
    wanted_ones = wanted_files(recipe)
    for wanted in wanted_ones:
        here = (Folder(path=path, written=str(path)),)
        found, failures = find_local(here, wanted, alone=len(wanted_ones) == 1)
        if found is None:
            raise DhmdError(f"{wanted.sequence} of {recipe.name}: {failures[0]}")
        try:
            check_contents(found, name=wanted.path, expected=wanted.expected)
        except SourceFailure as failure:
            raise DhmdError(f"{found} is not what {recipe.source} names: {failure}") from failure
        files[wanted.file] = found.resolve()
    return files


def _checked(
    recipe: Recipe, files: dict[str, Path], root: Path
) -> tuple[Literal["word", "none"], list[str]]:
    """Which alignment the files fit, and their problems under it."""
    align = load_section(
        AlignConfig,
        {},
        recipe=recipe.align,
        recipe_source=recipe.source,
        modalities=recipe.settable_modalities,
    )
    folds = recipe.folds
    folds_path = None if folds is None else root / RECIPES_FOLDER / folds.file
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        for file, source in files.items():
            (raw / file).symlink_to(source)
        if not check_corpus(recipe, raw, align, alignment="word", folds_path=folds_path):
            return "word", []
        problems = check_corpus(recipe, raw, align, alignment="none", folds_path=folds_path)
    # The temporary folder is no name for a user's file.
    return "none", [problem.replace(f"{raw}{os.sep}", "") for problem in problems]


def _place(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    with whole_file(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            # Another disk: a copy.
            shutil.copyfile(source, temporary)
