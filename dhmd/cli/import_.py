"""`dhmd import mmsa|arrays|dialogues PATH --dataset NAME`: make a dataset from local files.

The files are checked with every check of the pipeline. Then they are linked (or copied) to
data/placed/NAME, a recipe is drafted if there is none, and the source manifest is written.

`dhmd import videos FOLDER --labels FILE` extracts the features of videos instead (dhmd/media).
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
from dhmd.base.files import atomic_file, write_text
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
    mmsa = formats.add_parser("mmsa", help="import a feature pickle of MMSA or MulT")
    mmsa.add_argument(
        "--padding",
        choices=PADDINGS[:5],
        default=PADDINGS[0],
        help="padding of utterances: marked by lengths or text_bert in the file; rows of zeros at "
        "the start, at the end, or at both (zeros); or none (default: marked)",
    )
    arrays = formats.add_parser(
        "arrays", help="import a folder with train, valid and test as .npz or .h5 files"
    )
    for subparser in (mmsa, arrays):
        add_label_options(subparser)
        subparser.add_argument("--label-key", metavar="KEY", help="name of the array of labels")
        subparser.add_argument(
            "--multi-label",
            action="store_const",
            dest="task",
            const="multilabel",
            help="allow several classes per utterance; the labels have one column per class",
        )
    dialogues = formats.add_parser(
        "dialogues",
        help="import DialogueRNN's pickle of IEMOCAP or MELD (requires an existing dataset config)",
    )
    for subparser in (mmsa, arrays, dialogues):
        subparser.add_argument("path", type=Path, help="file or folder to import")
        subparser.add_argument("--dataset", required=True, help="name of a new or existing dataset")
    videos = formats.add_parser(
        "videos", help="import a folder of videos and transcripts, with labels"
    )
    videos.epilog = f"Terms: {TERMS}."
    videos.add_argument(
        "path", type=Path, metavar="FOLDER", help="folder of videos and their transcripts"
    )
    videos.add_argument(
        "--labels",
        required=True,
        type=Path,
        metavar="FILE",
        help="CSV file with the columns file and label, and optionally start, end and split",
    )
    videos.add_argument(
        "--dataset",
        default=TEMPLATE,
        help=f"name of a new or existing dataset (default: {TEMPLATE})",
    )
    add_label_options(videos)
    videos.add_argument(
        "--fractions",
        nargs=3,
        type=float,
        default=DEFAULT_FRACTIONS,
        metavar=("TRAIN", "VALID", "TEST"),
        help="fractions of the videos, if FILE has no column split (default: 0.7 0.1 0.2)",
    )
    videos.add_argument(
        "--seed", type=int, default=1, help="seed of the random splits (default: 1)"
    )
    add_options(videos)


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of labels."""
    parser.add_argument(
        "--classes", help="names of the classes in the order of their indices, separated by commas"
    )
    parser.add_argument(
        "--task",
        choices=("regression", "classification"),
        help="task (default: determined from the labels)",
    )
    parser.add_argument(
        "--label-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="range of the labels, which is mapped to -3 … 3",
    )


def run(arguments: argparse.Namespace) -> int:
    """Import the files; return 1 without writing anything if they have problems, otherwise 0."""
    root, name, path = repository_root(), str(arguments.dataset), Path(arguments.path)
    # In params.yaml the name must not be read as a number, a boolean or null.
    if not _NAME.fullmatch(name) or name.lower() in ("null", "true", "false"):
        raise DhmdError(
            f"--dataset is {name!r}, but must be a letter followed by letters, digits, '_' and '-'"
        )
    if arguments.format == "videos":
        return _import_videos(arguments, name, root)
    if not path.exists():
        raise DhmdError(f"{path} does not exist")
    load_params(root)  # reports errors in params.yaml before any work is done
    recipe_file = root / RECIPES_FOLDER / f"{name}.yaml"
    draft = None
    if recipe_file.is_file():
        recipe = load_recipe(name, root)
        _check_existing(recipe, arguments)
    elif arguments.format == "dialogues":
        raise DhmdError(
            f"{RECIPES_FOLDER}/{name}.yaml does not exist: choose --dataset iemocap, iemocap_4 or "
            "meld, or copy one of their recipes"
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
    paths = {required.sequence: source for required, source in files}
    alignment, problems, warnings = _check_alignments(recipe, paths, root)
    for sentence in problems or warnings:
        print(f"dhmd import: {sentence}", file=sys.stderr)
    if problems:
        return 1
    for required, source in files:
        target = PLACED_FOLDER / name / required.file
        _link_or_copy(source.resolve(), root / target)
        print(f"placed {target}")
    if draft is not None:
        write_text(recipe_file, draft)
        print(f"wrote {recipe.source}: check it")
    write_manifests([name], root)
    new_files = f"{recipe.source} {MANIFEST_FOLDER / name}.json"
    option = "" if alignment == "word" else " -S data.alignment=none"
    print(f"next: git add {new_files} && dvc exp run -S 'datasets=[{name}]'{option}")
    return 0


def _label_options(arguments: argparse.Namespace) -> LabelOptions:
    low, high = arguments.label_range or (0.0, 1.0)
    if not low < high:
        raise DhmdError(f"--label-range is {low:g} {high:g}, but LOW must be below HIGH")
    classes = (name.strip() for name in (arguments.classes or "").split(","))
    return LabelOptions(
        task=arguments.task,
        classes=tuple(filter(None, classes)),
        scale=None if arguments.label_range is None else (low, high),
    )


def _import_videos(arguments: argparse.Namespace, name: str, root: Path) -> int:
    options = read_options(arguments)
    if "text" not in options.modalities:
        raise DhmdError(
            "--modalities lacks text: add it, since the other modalities are aligned to the words"
        )
    recipe = import_videos(
        arguments.path,
        arguments.labels,
        dataset=name,
        root=root,
        target=root / PLACED_FOLDER / name,
        options=options,
        label_options=_label_options(arguments),
        fractions=arguments.fractions,
        seed=arguments.seed,
        notify=report,
    )
    write_manifests([name], root)
    files = f"{recipe.relative_to(root)} recipes/folds/{name}.json {MANIFEST_FOLDER / name}.json"
    print(f"wrote {files}: check them")
    print(f"next: git add {files} && dvc exp run -S 'datasets=[{name}]'")
    return 0


def _check_existing(recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Check that an existing recipe has the format, and that no option requires a new recipe."""
    if recipe.format != arguments.format:
        raise DhmdError(
            f"{recipe.source} is of format {recipe.format}, not {arguments.format}: choose "
            "another --dataset"
        )
    options = [
        f"--{key.replace('_', '-')}"
        for key in ("classes", "task", "label_key", "label_range", "padding")
        if getattr(arguments, key, None) not in (None, PADDINGS[0])
    ]
    if options:
        raise DhmdError(
            f"{recipe.source} exists, but {' and '.join(options)} can be used for a new dataset "
            "only: edit the recipe, or choose another --dataset"
        )


def _files(recipe: Recipe, path: Path) -> list[tuple[RequiredFile, Path]]:
    """Return the recipe's files at `path`, after comparing them with the pins of the recipe.

    Raises:
        DhmdError: a file is missing, or its content differs from the pin.
    """
    files = []
    folder = Folder(path=path, label=str(path))
    for required, file, _ in local_files(recipe, [folder]):
        if file is None:
            raise DhmdError(
                f"{path} has no file {required.name}, which {recipe.source} requires for the "
                f"sequence {required.sequence}."
            )
        try:
            check_contents(file, name=required.path, expected=required.expected)
        except SourceError as failure:
            raise DhmdError(
                f"{file} is not the file that {recipe.source} names: {failure}; to replace that "
                f"file, set bytes and sha256 of sequences.{required.sequence} to null"
            ) from failure
        files.append((required, file))
    return files


def _check_alignments(
    recipe: Recipe, paths: Mapping[str, Path], root: Path
) -> tuple[str, list[str], list[str]]:
    """Return the first alignment, word or none, without problems; its problems; its warnings."""
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
    for candidate in (job, replace(job, alignment="none")):
        warnings: list[str] = []
        problems = check_corpus(candidate, warnings.append)
        if not problems:
            break
    return candidate.alignment, problems, warnings


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    with atomic_file(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # the target is on another file system
            shutil.copyfile(source, temporary)
