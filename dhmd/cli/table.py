"""`dhmd table`: print the tables of results from the files in metrics/."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import write_text
from dhmd.cli.readme import with_tables
from dhmd.evaluation.tables import ORACLE, Table, dataset_names, dataset_tables
from dhmd.recipes import repository_root

README = "README.md"
# The rows of the README: the others are in docs/results.md and the report.
README_ROWS = ("median label", "ridge, pooled features", "late fusion", "**DHMD**", ORACLE)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("dataset", nargs="*", help="datasets to show (default: all in metrics/)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument(
        "--readme",
        action="store_true",
        help=f"write short tables between the markers in {README} instead of printing them",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the tables of each dataset or write them into the README."""
    root = repository_root(Path.cwd())
    metrics = root / "metrics"
    if arguments.readme:
        if arguments.dataset:
            raise DhmdError(f"--readme takes no dataset: the markers in {README} name them")
        return _write_readme(root / README, metrics)
    known = dataset_names(metrics)
    names = arguments.dataset or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DhmdError(
            f"metrics/ has no dataset {unknown[0]}; available: {', '.join(known) or 'none'}"
        )
    if not names:
        raise DhmdError("metrics/ has no dataset yet; run dvc repro")
    print(_shown(metrics, names, Table.to_markdown if arguments.markdown else Table.to_text))
    return 0


def readme_tables(metrics: Path, dataset: str) -> str:
    """Return the README's table of a dataset, or a sentence if there is none yet."""
    if dataset not in dataset_names(metrics):
        return f"No metrics of {dataset} are committed yet."
    results = dataset_tables(metrics / dataset)[0]
    rows = [row for row in results.rows if row[0] in README_ROWS]
    return replace(results, rows=rows).to_markdown()


def _shown(metrics: Path, names: Sequence[str], show: Callable[[Table], str]) -> str:
    return "\n\n".join(show(table) for name in names for table in dataset_tables(metrics / name))


def _write_readme(path: Path, metrics: Path) -> int:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    changed = with_tables(text, lambda name: readme_tables(metrics, name), README)
    if changed != text:
        write_text(path, changed)
    print(f"{README} {'rewritten' if changed != text else 'is current'}")
    return 0
