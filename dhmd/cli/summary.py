"""`dhmd summary`: one line per dataset: test score, number of seeds, report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.recipes import repository_root
from dhmd.settings import load_params

TITLES = {"mae": "MAE", "f1": "F1", "accuracy": "accuracy"}  # the first that a dataset has


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = "Print test score, number of seeds and report of each dataset."
    parser.add_argument(
        "dataset", nargs="*", help="datasets to print (default: those of params.yaml)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each dataset that has results."""
    root = repository_root(Path.cwd())
    for dataset in arguments.dataset or load_params(root).datasets:
        path = root / "metrics" / dataset / "metrics.json"
        if not path.is_file():
            continue
        try:
            line = summary(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DhmdError(
                f"{path} is damaged ({first_line(error)}): run dvc repro again."
            ) from error
        report = Path("reports", dataset, "index.html")
        where = f"report: {report}" if (root / report).is_file() else "no report yet"
        print(f"{dataset}: {line}; {where}")
    return 0


def summary(metrics: Mapping[str, Any]) -> str:
    """Return the main test score of a metrics.json and the number of its seeds."""
    name = next(iter(name for name in TITLES if name in metrics["test"]), "mae")
    count, std = metrics["n_seeds"], metrics["test"].get(f"{name}_std")
    spread = "" if std is None else f" ± {std:.3f}"
    seeds = f"{count} seed{'' if count == 1 else 's'}"
    return f"test {TITLES[name]} {metrics['test'][name]:.3f}{spread} over {seeds}"
