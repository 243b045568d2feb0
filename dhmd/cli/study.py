"""`dhmd study distillation | selection`: questions that take many trainings to answer."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """The sub-command's arguments."""
    studies = parser.add_subparsers(dest="study", required=True, metavar="STUDY")
    distillation = studies.add_parser(
        "distillation", help="many generated corpora: does distillation help, what do edges mean?"
    )
    distillation.add_argument(
        "--corpora",
        type=int,
        help="generated corpora a regime (default: 24 noisy, 10 clean and no_cue, 4 audio, "
        "3 large)",
    )
    distillation.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[1, 2, 3],
        help="seeds of the full model and of no_distillation on noisy and clean corpora; all "
        "else takes the first",
    )
    distillation.add_argument(
        "--regimes",
        nargs="+",
        default=None,
        help="noisy, clean, no_cue, audio (audio as the reliable teacher) and large (5,000 train "
        "utterances); all by default",
    )
    selection = studies.add_parser(
        "selection", help="which of a dataset's candidate settings is best on validation?"
    )
    selection.add_argument("dataset", help="its candidates are recipes/candidates/DATASET.yaml")
    selection.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    for study in (distillation, selection):
        study.add_argument("--processes", type=int, default=None, help="default: one a core")


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, then write what was found."""
    return _selection(arguments) if arguments.study == "selection" else _distillation(arguments)


def _distillation(arguments: argparse.Namespace) -> int:
    """Write metrics/studies/distillation.json and docs/results.md."""
    from dhmd.base.atomic import write_text
    from dhmd.base.errors import DhmdError
    from dhmd.evaluation.files import json_text
    from dhmd.studies.distillation import CORPORA, REGIMES, run_study
    from dhmd.studies.kept import default_processes
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


def _selection(arguments: argparse.Namespace) -> int:
    """Write metrics/studies/selection-DATASET.json and print its table."""
    from dhmd.base.atomic import write_text
    from dhmd.evaluation.files import json_text
    from dhmd.studies.kept import default_processes
    from dhmd.studies.selection import select, table

    found = select(
        Path.cwd(),
        arguments.dataset,
        seeds=tuple(arguments.seeds),
        processes=arguments.processes or default_processes(),
    )
    path = Path("metrics", "studies", f"selection-{arguments.dataset}.json")
    write_text(path, json_text(found))
    print(table(found))
    print(f"wrote {path}")
    return 0
