"""`dhmd study distillation`: many generated corpora, one page of results."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """The sub-command's arguments."""
    parser.add_argument("name", choices=["distillation"], help="which study")
    parser.add_argument(
        "--corpora",
        type=int,
        help="generated corpora a regime (default: 24 noisy, 10 clean and no_cue, 4 audio, "
        "3 large)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[1],
        help="seeds on every corpus (more corpora tell more than more seeds)",
    )
    parser.add_argument(
        "--regimes",
        nargs="+",
        default=None,
        help="noisy, clean, no_cue, audio (audio as the reliable teacher) and large (5,000 train "
        "utterances); all by default",
    )
    parser.add_argument("--processes", type=int, default=None, help="default: one a core")


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, then write metrics/studies/distillation.json and docs/results.md."""
    from dhmd.base.atomic import write_text
    from dhmd.base.errors import DhmdError
    from dhmd.evaluation.files import json_text
    from dhmd.studies.distillation import CORPORA, REGIMES, default_processes, run_study
    from dhmd.studies.page import page

    root = Path.cwd()
    regimes = arguments.regimes or list(REGIMES)
    unknown = [name for name in regimes if name not in REGIMES]
    if unknown:
        raise DhmdError(f"--regimes names {unknown[0]!r}, but knows {', '.join(REGIMES)}")
    summary = run_study(
        root,
        corpora={name: arguments.corpora or CORPORA[name] for name in regimes},
        seeds=arguments.seeds,
        processes=arguments.processes or default_processes(),
    )
    write_text(root / "metrics" / "studies" / "distillation.json", json_text(summary))
    write_text(root / "docs" / "results.md", page(summary))
    print("wrote metrics/studies/distillation.json and docs/results.md")
    return 0
