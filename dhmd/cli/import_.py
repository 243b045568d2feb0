"""`dhmd import mmsa|arrays|dialogues PATH --dataset NAME`: make a dataset of one's own files.

`dhmd import videos FOLDER --labels FILE` extracts the features first (dhmd/media).

The files are checked first, with every check of the pipeline. Then they are linked (or copied) to
data/placed/NAME, a recipe is drafted if there is none, and the source manifest is written.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.base.files import whole_file, write_text
from dhmd.cli.extract import add_options, read_options, report
from dhmd.config.schema import load_section
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.alignment import AlignConfig, CorpusJob
from dhmd.data.download import (
    PLACED_FOLDER,
    Folder,
    RequiredFile,
    SourceError,
    check_contents,
    local_files,
)
from dhmd.data.formats import check_corpus
from dhmd.data.formats.drafting import LabelOptions, draft_recipe
from dhmd.data.formats.mmsa import PADDINGS
from dhmd.data.manifest import MANIFEST_FOLDER, write_manifests
from dhmd.media.audio import TERMS
from dhmd.media.corpus import DEFAULT_FRACTIONS, TEMPLATE, import_videos
from dhmd.recipes import RECIPES_FOLDER, Recipe, load_recipe, parse_recipe, repository_root
from dhmd.settings import load_params

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    formats = parser.add_subparsers(dest="format", required=True)
    mmsa = formats.add_parser("mmsa", help="one of MMSA's or MulT's feature pickles")
    mmsa.add_argument(
        "--padding",
        choices=PADDINGS[:5],
        default=PADDINGS[0],
        help="where padding is, if the file does not mark it by lengths or text_bert: rows of "
        "zeros at the start, end or either side of each utterance, or none",
    )
    arrays = formats.add_parser("arrays", help="a folder of train, valid and test .npz or .h5")
    for one in (mmsa, arrays):
        add_label_options(one)
        one.add_argument("--label-key", metavar="KEY", help="the array of the labels")
        one.add_argument(
            "--multi-label",
            action="store_const",
            dest="task",
            const="multilabel",
            help="several of --classes may apply to an utterance; one label column per class",
        )
    dialogues = formats.add_parser(
        "dialogues", help="DialogueRNN's pickle of IEMOCAP or MELD, for a recipe that exists"
    )
    for one in (mmsa, arrays, dialogues):
        one.add_argument("path", type=Path, help="the file or folder")
        one.add_argument("--dataset", required=True, help="the dataset's name, old or new")
    videos = formats.add_parser("videos", help="a folder of videos, transcripts and labels")
    videos.epilog = f"Terms: {TERMS}."
    videos.add_argument("path", type=Path, metavar="FOLDER", help="videos and their transcripts")
    videos.add_argument(
        "--labels",
        required=True,
        type=Path,
        metavar="FILE",
        help="CSV with the columns file and label, and, if given, start, end and split",
    )
    videos.add_argument(
        "--dataset", default=TEMPLATE, help=f"the dataset's name, old or new (default: {TEMPLATE})"
    )
    add_label_options(videos)
    videos.add_argument(
        "--fractions",
        nargs=3,
        type=float,
        default=DEFAULT_FRACTIONS,
        metavar=("TRAIN", "VALID", "TEST"),
        help="shares of the videos, if the labels have no column split (default: 0.7 0.1 0.2)",
    )
    videos.add_argument("--seed", type=int, default=1, help="of the assignment to splits")
    add_options(videos)


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Declare how labels are read."""
    parser.add_argument("--classes", help="the classes' names in order, separated by commas")
    parser.add_argument("--task", choices=("regression", "classification"))
    parser.add_argument(
        "--label-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="the range of the labels, which is mapped to -3 … 3",
    )


def run(arguments: argparse.Namespace) -> int:
    """Import; return 1 if the files have problems, and then nothing is written."""
    root, name, path = repository_root(), str(arguments.dataset), Path(arguments.path)
    # The name is also a value in params.yaml: it must not read as a number or as null there.
    if not _NAME.fullmatch(name) or name.lower() in ("null", "true", "false"):
        raise DhmdError(
            f"--dataset {name!r} is not a name: use a letter, then letters, digits, '_' and '-'"
        )
    if arguments.format == "videos":
        return _import_videos(arguments, name, root)
    if not path.exists():
        raise DhmdError(f"{path} does not exist")
    load_params(root)  # a mistake in params.yaml is found before the work
    recipe_file = root / RECIPES_FOLDER / f"{name}.yaml"
    draft = None
    if recipe_file.is_file():
        recipe = load_recipe(name, root)
        _check_existing(recipe, arguments)
    elif arguments.format == "dialogues":
        raise DhmdError(
            f"{RECIPES_FOLDER}/{name}.yaml does not exist: name iemocap, iemocap_4 or meld, or a "
            "copy of their recipes"
        )
    else:
        draft = draft_recipe(
            arguments.format,
            name,
            path,
            _label_options(arguments),
            padding=getattr(arguments, "padding", PADDINGS[0]),
            label_key=arguments.label_key,
        )
        recipe = parse_recipe(name, parse_yaml(draft, f"{RECIPES_FOLDER}/{name}.yaml"))
    files = _files(recipe, path)
    paths = {wanted.sequence: source for wanted, source in files}
    alignment, problems, warnings = _checked(recipe, paths, root)
    for sentence in problems or warnings:
        print(f"dhmd import: {sentence}", file=sys.stderr)
    if problems:
        return 1
    for wanted, source in files:
        placed = PLACED_FOLDER / name / wanted.file
        _place(source.resolve(), root / placed)
        print(f"placed {placed}")
    if draft is not None:
        write_text(recipe_file, draft)
        print(f"wrote {recipe.source}: check it")
    write_manifests([name], root)
    tracked = f"{recipe.source} {MANIFEST_FOLDER / name}.json"
    extra = "" if alignment == "word" else " -S data.alignment=none"
    print(f"next: git add {tracked} && dvc exp run -S 'datasets=[{name}]'{extra}")
    return 0


def _label_options(arguments: argparse.Namespace) -> LabelOptions:
    low, high = arguments.label_range or (0.0, 1.0)
    if not low < high:
        raise DhmdError(f"--label-range is {low:g} {high:g}, but LOW must be below HIGH")
    classes = (one.strip() for one in (arguments.classes or "").split(","))
    return LabelOptions(
        task=arguments.task,
        classes=tuple(filter(None, classes)),
        scale=None if arguments.label_range is None else (low, high),
    )


def _import_videos(arguments: argparse.Namespace, name: str, root: Path) -> int:
    options = read_options(arguments)
    if "text" not in options.modalities:
        raise DhmdError("--modalities lacks text: the other modalities are aligned to the words")
    recipe = import_videos(
        arguments.path,
        arguments.labels,
        dataset=name,
        root=root,
        placed=root / PLACED_FOLDER / name,
        options=options,
        label_options=_label_options(arguments),
        fractions=arguments.fractions,
        seed=arguments.seed,
        say=report,
    )
    write_manifests([name], root)
    written = f"{recipe.relative_to(root)} recipes/folds/{name}.json {MANIFEST_FOLDER / name}.json"
    print(f"wrote {written}: check them")
    print(f"next: git add {written} && dvc exp run -S 'datasets=[{name}]'")
    return 0


def _check_existing(recipe: Recipe, arguments: argparse.Namespace) -> None:
    if recipe.format != arguments.format:
        raise DhmdError(
            f"{recipe.source} is of format {recipe.format}, not {arguments.format}: choose "
            "another --dataset"
        )
    given = [
        f"--{key.replace('_', '-')}"
        for key in ("classes", "task", "label_key", "label_range", "padding")
        if getattr(arguments, key, None) not in (None, PADDINGS[0])
    ]
    if given:
        raise DhmdError(
            f"{recipe.source} exists, and {' and '.join(given)} is for a new dataset: edit it, or "
            "choose another --dataset"
        )


def _files(recipe: Recipe, path: Path) -> list[tuple[RequiredFile, Path]]:
    """Find the recipe's files at `path`, each with the content that the recipe pins.

    Raises:
        DhmdError: a file is missing, or has another content.
    """
    files = []
    here = Folder(path=path, written=str(path))
    for wanted, found, failures in local_files(recipe, [here]):
        if found is None:
            raise DhmdError(f"{wanted.sequence} of {recipe.name}: {failures[0]}")
        try:
            check_contents(found, name=wanted.path, expected=wanted.expected)
        except SourceError as failure:
            raise DhmdError(
                f"{found} is not the file that {recipe.source} names: {failure}; if it is to "
                f"replace that file, set bytes and sha256 of sequences.{wanted.sequence} to null"
            ) from failure
        files.append((wanted, found))
    return files


def _checked(
    recipe: Recipe, paths: Mapping[str, Path], root: Path
) -> tuple[str, list[str], list[str]]:
    """Return the alignment that the files fit, their problems under it, and warnings."""
    align = load_section(
        AlignConfig,
        {},
        recipe=recipe.align,
        recipe_source=recipe.source,
        modalities=recipe.settable_modalities,
    )
    folds = recipe.folds
    job = CorpusJob(
        recipe=recipe,
        paths=paths,
        align=align,
        alignment="word",
        folds_path=None if folds is None else root / RECIPES_FOLDER / folds.file,
    )
    for one in (job, replace(job, alignment="none")):
        warnings: list[str] = []
        problems = check_corpus(one, warnings.append)
        if not problems:
            break
    return one.alignment, problems, warnings


def _place(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    with whole_file(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another disk
            shutil.copyfile(source, temporary)
