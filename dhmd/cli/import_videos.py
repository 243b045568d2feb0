"""`dhmd import videos FOLDER --labels labels.csv`: a dataset of one's own videos."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.cli.extract import add_options, read_options, report
from dhmd.data.download import PLACED_FOLDER
from dhmd.data.manifest import MANIFEST_FOLDER, write_manifests
from dhmd.media.audio import TERMS
from dhmd.media.corpus import DEFAULT_FRACTIONS, TEMPLATE, Task, import_videos
from dhmd.recipes import repository_root

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = f"Terms: {TERMS}."
    parser.add_argument("path", type=Path, metavar="FOLDER", help="videos and their transcripts")
    parser.add_argument(
        "--labels",
        required=True,
        type=Path,
        metavar="FILE",
        help="CSV with the columns file and label, and, if given, start, end and split",
    )
    parser.add_argument(
        "--dataset", default=TEMPLATE, help=f"the dataset's name, old or new (default: {TEMPLATE})"
    )
    parser.add_argument("--task", choices=("regression", "classification"))
    parser.add_argument("--classes", help="the classes' names in order, separated by commas")
    parser.add_argument(
        "--label-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="the range of the labels, which is mapped to -3 … 3",
    )
    parser.add_argument(
        "--fractions",
        nargs=3,
        type=float,
        default=DEFAULT_FRACTIONS,
        metavar=("TRAIN", "VALID", "TEST"),
        help="shares of the videos, if the labels have no column split (default: 0.7 0.1 0.2)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the assignment to splits")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import the videos."""
    name, root = str(arguments.dataset), repository_root()
    # The name is also a value in params.yaml: it must not read as a number or as null there.
    if not _NAME.fullmatch(name) or name.lower() in ("null", "true", "false"):
        raise DhmdError(
            f"--dataset {name!r} is not a name: use a letter, then letters, digits, '_' and '-'"
        )
    options = read_options(arguments)
    if "text" not in options.modalities:
        raise DhmdError("--modalities lacks text: the other modalities are aligned to the words")
    classes = tuple(one.strip() for one in (arguments.classes or "").split(",") if one.strip())
    scale = None if arguments.label_range is None else tuple(arguments.label_range)
    if scale is not None and not scale[0] < scale[1]:
        raise DhmdError(f"--label-range is {scale[0]:g} {scale[1]:g}, but LOW must be below HIGH")
    recipe = import_videos(
        arguments.path,
        arguments.labels,
        dataset=name,
        root=root,
        placed=root / PLACED_FOLDER / name,
        options=options,
        task=Task(task=arguments.task, classes=classes, scale=scale),
        fractions=arguments.fractions,
        seed=arguments.seed,
        say=report,
    )
    write_manifests([name], root)
    written = f"{recipe.relative_to(root)} recipes/folds/{name}.json {MANIFEST_FOLDER / name}.json"
    print(f"wrote {written}: check them")
    print(f"next: git add {written} && dvc exp run -S 'datasets=[{name}]'")
    return 0
