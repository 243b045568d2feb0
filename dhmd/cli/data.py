"""`dhmd data show|check|pin|manifest`: show or check a corpus, and record its files."""

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
    show = actions.add_parser("show", help="print tables of the content of a dataset or a file")
    show.add_argument("target", help="name of a dataset, or a .csd, .pkl, .npz or .h5 file")
    check = actions.add_parser(
        "check", help="run every check of the pipeline and list all problems"
    )
    check.add_argument("dataset", help="name of a dataset")
    pin = actions.add_parser(
        "pin", help="write size and sha256 of the downloaded files to the recipe"
    )
    pin.add_argument("dataset", help="name of a dataset")
    manifest = actions.add_parser(
        "manifest", help="record local source files, so that DVC notices when one is replaced"
    )
    manifest.add_argument(
        "datasets", nargs="*", help="names of datasets (default: those in params.yaml)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit status: 1 if `check` finds a problem."""
    if arguments.action == "show":
        return _show(arguments.target)
    if arguments.action == "check":
        return _check(arguments.dataset)
    if arguments.action == "manifest":
        return _manifest(arguments.datasets)
    return _pin(arguments.dataset)


def _show(target: str) -> int:
    from dhmd.cli.data_show import show_dataset, show_file

    path = Path(target)
    if path.suffix.lower() in _FILES:
        if not path.is_file():
            raise DhmdError(f"{path} does not exist")
        lines = show_file(path)
    else:
        lines = show_dataset(target, repository_root())
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
    print(f"{dataset} has no problems")
    return 0


def _pin(dataset: str) -> int:
    from dhmd.data.download.pin import pin

    root = repository_root()
    recipe = load_recipe(dataset, root)
    recipe_file = root / RECIPES_FOLDER / f"{dataset}.yaml"
    records = pin(recipe, recipe_file=recipe_file, raw=root / "data" / "raw" / dataset)
    for name, record in records.items():
        print(f"{name}: {record.bytes} bytes, sha256 {record.sha256}")
    print(
        f"written to {recipe.source}; run `dvc commit -f download@{dataset}`, so that DVC does not "
        "download the unchanged files again"
    )
    return 0


def _manifest(datasets: list[str]) -> int:
    from dhmd.data.manifest import write_manifests

    manifests = write_manifests(datasets, repository_root())
    if not manifests:
        print("all manifests are up to date")
    for manifest in manifests:
        count = len(manifest.current["files"])
        print(f"wrote {manifest.path} ({count} local file{'' if count == 1 else 's'})")
    new = " ".join(str(manifest.path) for manifest in manifests if manifest.recorded is None)
    if new:
        print(f"next: git add {new}")
    return 0
