"""`dhmd data show|check|pin`: look at a corpus or a file, validate it, fix its hashes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.recipes import RECIPES_FOLDER, load_recipe, repository_root

_FILES = (".csd", ".pkl", ".pickle", ".p", ".npz", ".h5", ".hdf5")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="what is in a dataset or a file, as tables")
    show.add_argument("what", help="a recipe's name, or a .csd, .pkl, .npz or .h5 file")
    check = actions.add_parser("check", help="every check of the pipeline, all problems at once")
    check.add_argument("dataset", help="a recipe's name")
    pin = actions.add_parser("pin", help="write the files' bytes and sha256 into the recipe")
    pin.add_argument("dataset", help="a recipe's name")


def run(arguments: argparse.Namespace) -> int:
    """Do it; `check` ends with 1 where it found a problem."""
    if arguments.action == "show":
        return _show(arguments.what)
    if arguments.action == "check":
        return _check(arguments.dataset)
    return _pin(arguments.dataset)


def _show(what: str) -> int:
    from dhmd.cli.data_show import show_dataset, show_file

    path = Path(what)
    if path.suffix.lower() in _FILES:
        if not path.is_file():
            raise DhmdError(f"no file {path}")
        lines = show_file(path)
    else:
        lines = show_dataset(what, repository_root())
    print("\n".join(lines))
    return 0


def _check(dataset: str) -> int:
    from dhmd.cli.data_check import check_dataset

    problems = check_dataset(dataset, repository_root())
    for problem in problems:
        print(f"dhmd data: {problem}", file=sys.stderr)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        print(f"dhmd data: {dataset} has {count}", file=sys.stderr)
        return 1
    print(f"{dataset} is fine")
    return 0


def _pin(dataset: str) -> int:
    from dhmd.data.download import pin

    root = repository_root()
    recipe = load_recipe(dataset, root)
    recipe_file = root / RECIPES_FOLDER / f"{dataset}.yaml"
    records = pin(recipe, recipe_file=recipe_file, raw=root / "data" / "raw" / dataset)
    for name, record in records.items():
        print(f"{name}: {record.bytes} bytes, sha256 {record.sha256}")
    print(
        f"written to {recipe.source}; `dvc commit -f download@{dataset}` tells DVC that the files "
        "themselves did not change"
    )
    return 0
