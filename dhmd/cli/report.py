"""`dhmd report`: one page over all datasets that works without a network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.base.files import check_output, write_text
from dhmd.recipes import repository_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Render the reports of the pipeline as one page, with the origin of each output: commit, "
        "parameters, machine, versions and wall time per stage."
    )
    parser.add_argument("dataset", nargs="*", help="datasets to show (default: all in reports/)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="page to write (default: reports/index.html)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from dhmd.report.site import build_site, reported_datasets

    root = repository_root(Path.cwd())
    known = reported_datasets(root)
    if not known:
        raise DhmdError("reports/ has no dataset yet; run dvc repro")
    names = list(dict.fromkeys(arguments.dataset)) or known
    if unknown := [name for name in names if name not in known]:
        raise DhmdError(f"reports/ has no dataset {unknown[0]}; it has {', '.join(known)}")
    output = arguments.output or root / "reports" / "index.html"
    check_output(output)
    page, warnings = build_site(root, names)
    write_text(output, page)
    for warning in warnings:
        print(f"dhmd report: {warning}", file=sys.stderr)
    print(f"{output}: {', '.join(names)}, {len(page.encode()) / 1e6:.1f} MB")
    return 0
