"""`dhmd gate`: compare the metrics of two revisions."""

from __future__ import annotations

import argparse
from pathlib import Path

from dhmd.evaluation.files import json_text
from dhmd.gate.gate import run_gate
from dhmd.gate.render import to_json, to_markdown, to_text
from dhmd.recipes import repository_root

# 1 means a regression, so any error is a 2.
ERROR_EXIT = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "Reads the committed files in metrics/; needs neither data nor PyTorch. "
        "Exit status: 0 pass, 1 regressed, 2 not comparable."
    )
    parser.add_argument(
        "--base",
        metavar="REV",
        help="revision or DVC experiment to compare with (default: the merge base with the main "
        "branch, which is HEAD on the main branch itself)",
    )
    parser.add_argument(
        "--head",
        metavar="REV",
        help="revision or DVC experiment to judge (default: the workspace)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown for a comment")
    form.add_argument("--json", action="store_true", help="print all values as JSON, unrounded")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the result and return the exit status."""
    result = run_gate(repository_root(Path.cwd()), arguments.base, arguments.head)
    if arguments.json:
        print(json_text(to_json(result)), end="")
    elif arguments.markdown:
        print(to_markdown(result), end="")
    else:
        print(to_text(result))
    return result.exit_status
