"""`dhmd table`: the tables of results, from what is committed below metrics/."""

from __future__ import annotations

import argparse
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.evaluation.tables import dataset_names, dataset_tables, to_markdown, to_text
from dhmd.recipes import repository_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("dataset", nargs="*", help="datasets to show (default: all in metrics/)")
    parser.add_argument("--markdown", action="store_true", help="print markdown")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables of each dataset."""
    metrics = repository_root(Path.cwd()) / "metrics"
    known = dataset_names(metrics)
    names = arguments.dataset or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DhmdError(
            f"metrics/ has no dataset {unknown[0]}; there are {', '.join(known) or 'none'}"
        )
    if not names:
        raise DhmdError("metrics/ holds no dataset yet; run dvc repro")
    show = to_markdown if arguments.markdown else to_text
    tables = [show(table) for name in names for table in dataset_tables(metrics / name)]
    print("\n\n".join(tables))
    return 0
