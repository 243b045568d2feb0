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
        "Join the reports that the pipeline wrote into one page, and add what says where each "
        "output comes from: commit, parameters, machine, versions and wall time a stage."
    )
    parser.add_argument("dataset", nargs="*", help="datasets to join (default: all in reports/)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="page to write (default: reports/index.html)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from dhmd.report.site import build_site, reported_datasets

    root = repository_root(Path.cwd())
    known = reported_datasets(root)
    names = list(dict.fromkeys(arguments.dataset)) or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DhmdError(
            f"reports/ has no dataset {unknown[0]}; there are {', '.join(known) or 'none'}"
        )
    if not names:
        raise DhmdError("reports/ holds no dataset yet; run dvc repro")
    output = arguments.output or root / "reports" / "index.html"
    check_output(output)
    site = build_site(root, names)
    write_text(output, site.html)
    for warning in site.warnings:
        print(f"dhmd report: {warning}", file=sys.stderr)
    print(f"{output}: {', '.join(names)}, {len(site.html.encode()) / 1e6:.1f} MB")
    return 0
