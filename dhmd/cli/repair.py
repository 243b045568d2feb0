"""`dhmd repair`: put right what a killed `dvc repro` left half written of DVC's own files."""

from __future__ import annotations

import argparse
from pathlib import Path

from dhmd.gate.repair import repair
from dhmd.recipes import repository_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "Says what it did, and nothing where all is well. `make repro` begins with it; before "
        "`dvc repro` it is needed only where DVC says that a file is corrupted or not valid."
    )


def run(arguments: argparse.Namespace) -> int:
    """Repair; one line for each file that was put right."""
    for sentence in repair(repository_root(Path.cwd())):
        print(f"dhmd repair: {sentence}")
    return 0
