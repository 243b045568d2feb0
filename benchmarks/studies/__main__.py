"""Run a study, which takes many trainings: `python -m benchmarks.studies STUDY`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError
from dhmd.base.machine import usable_cores

_SEEDS = [1, 2, 3]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies", description=__doc__)
    studies = parser.add_subparsers(dest="study", required=True, metavar="STUDY")
    distillation = studies.add_parser(
        "distillation",
        help="measure the effect of distillation and the meaning of edges, on generated corpora",
    )
    distillation.add_argument(
        "--corpora",
        type=_count,
        help="number of generated corpora per regime (default: 24 noisy, 10 clean, 10 no_cue, 4 "
        "audio, 3 large)",
    )
    distillation.add_argument(
        "--seeds",
        type=_seed,
        nargs="+",
        default=_SEEDS,
        help="seeds of the full model and of no_distillation on noisy and clean corpora; all other "
        "trainings have only the first of these seeds",
    )
    distillation.add_argument(
        "--regimes",
        nargs="+",
        default=None,
        help="regimes to run: noisy, clean, no_cue, audio (audio as the reliable teacher), large "
        "(5,000 train utterances) (default: all)",
    )
    selection = studies.add_parser(
        "selection", help="choose each model's settings among candidates, on validation"
    )
    models = studies.add_parser(
        "models",
        help="train and evaluate all models on a dataset, with the selected settings",
    )
    for study, seeds in ((selection, _SEEDS), (models, [1, 2, 3, 4, 5])):
        study.add_argument("--seeds", type=_seed, nargs="+", default=seeds)
        study.add_argument(
            "--models",
            nargs="+",
            default=[],
            help="models to train (default: all that can run on the modalities)",
        )
    candidates = "dataset, whose candidates are in recipes/candidates/DATASET.yaml or default.yaml"
    selection.add_argument("dataset", help=candidates)
    models.add_argument(
        "dataset", nargs="?", help=f"{candidates}; if omitted, only docs/results.md is written"
    )
    selection.add_argument("--candidates", nargs="+", default=[], help="candidates (default: all)")
    selection.add_argument(
        "--shuffle-words",
        action="store_true",
        help="shuffle the words of every utterance, to test whether models use their order",
    )
    models.add_argument(
        "--candidate",
        help="candidate for all models (default: the selected ones, else the recipe's)",
    )
    models.add_argument(
        "--name",
        default="",
        help="write models-DATASET-NAME.json, for results of other models or seeds",
    )
    curves = studies.add_parser(
        "learning_curves", help="measure the error of each model by number of training utterances"
    )
    curves.add_argument(
        "--quick",
        action="store_true",
        help="run a smaller study, of 90 minutes instead of six hours on two cores",
    )
    curves.add_argument(
        "--minutes", type=float, help="time limit in minutes; 0 only summarises the stored results"
    )
    for study in (distillation, selection, curves):
        study.add_argument(
            "--processes",
            type=_count,
            default=usable_cores(),
            help="number of processes (default: one per core)",
        )
    return parser


def _seed(text: str) -> int:
    return _integer(text, 0)


def _count(text: str) -> int:
    return _integer(text, 1)


def _integer(text: str, least: int) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")
    return int(text)


def main(words: Sequence[str] | None = None) -> int:
    """Run the trainings whose results are not stored, and write the results of the study."""
    arguments = _parser().parse_args(words)
    try:
        seeds = getattr(arguments, "seeds", [])
        for seed in seeds:
            if seeds.count(seed) > 1:
                raise DhmdError(f"--seeds has {seed} twice")
        studies = {
            "distillation": _distillation,
            "learning_curves": _learning_curves,
            "models": _models,
            "selection": _selection,
        }
        studies[arguments.study](arguments)
    except DhmdError as error:
        print(f"benchmarks.studies: {error}", file=sys.stderr)
        return 1
    return 0


def _distillation(arguments: argparse.Namespace) -> None:
    """Write metrics/studies/distillation.json and the appendix of docs/results.md.

    With other corpora or seeds than the default ones, the tables are printed instead.
    """
    from benchmarks.studies.distillation import CORPORA, REGIMES, run_study
    from benchmarks.studies.page import expectations, page

    root = Path.cwd()
    selected = arguments.regimes or REGIMES
    unknown = [name for name in selected if name not in REGIMES]
    if unknown:
        raise DhmdError(
            f"--regimes: {unknown[0]!r} is not a regime; choose from {', '.join(REGIMES)}"
        )
    regimes = [name for name in REGIMES if name in selected]
    corpora = {name: arguments.corpora or CORPORA[name] for name in regimes}
    summary = run_study(
        root,
        corpora=corpora,
        seeds=arguments.seeds,
        num_processes=arguments.processes,
    )
    # The page has the results of the default study.
    if corpora != CORPORA or arguments.seeds != _SEEDS:
        print(page(summary))
        print(
            "benchmarks.studies: metrics/studies/distillation.json and docs/results.md are not "
            "changed, because not all regimes ran with the default corpora and seeds",
            file=sys.stderr,
        )
        return
    texts = {"distillation": page(summary)}
    _write(root, "distillation", {**summary, "expectations": expectations(summary)}, texts)


def _learning_curves(arguments: argparse.Namespace) -> None:
    """Write metrics/studies/learning_curves.json, its figure and its tables in docs/results.md."""
    from benchmarks.studies.curves_page import details, page, write_figure
    from benchmarks.studies.learning_curves import FULL, QUICK, run_study

    root = Path.cwd()
    summary = run_study(
        root,
        QUICK if arguments.quick else FULL,
        num_processes=arguments.processes,
        minutes=arguments.minutes,
    )
    write_figure(summary, root / "docs" / "learning_curve.svg")
    texts = {"learning_curves": page(summary), "learning_curves_details": details(summary)}
    _write(root, "learning_curves", summary, texts)


def _write(root: Path, study: str, summary: dict[str, Any], texts: dict[str, str]) -> None:
    """Write metrics/studies/STUDY.json, and the texts between their markers in docs/results.md."""
    from dhmd.base.files import write_text
    from dhmd.cli.readme import replace_tables
    from dhmd.evaluation.files import json_text

    path = root / "docs" / "results.md"
    text = replace_tables(path.read_text(encoding="utf-8"), texts.get, "docs/results.md")
    write_text(root / "metrics" / "studies" / f"{study}.json", json_text(summary))
    write_text(path, text)
    print(f"wrote metrics/studies/{study}.json and docs/results.md")


def _selection(arguments: argparse.Namespace) -> None:
    """Write metrics/studies/selection-DATASET.json and print its table."""
    from benchmarks.studies.selection import select, table
    from dhmd.base.files import write_text
    from dhmd.evaluation.files import json_text

    selection = select(
        Path.cwd(),
        arguments.dataset,
        seeds=tuple(arguments.seeds),
        num_processes=arguments.processes,
        models=arguments.models,
        names=arguments.candidates,
        shuffled=arguments.shuffle_words,
    )
    name = f"selection-{arguments.dataset}{'-shuffled' * arguments.shuffle_words}.json"
    path = Path("metrics", "studies", name)
    write_text(path, json_text(selection))
    print(table(selection))
    print(f"wrote {path}")


def _models(arguments: argparse.Namespace) -> None:
    """Write metrics/studies/models-DATASET.json and the table 'All models' of docs/results.md."""
    from benchmarks.studies.models import compare_models, page
    from dhmd.evaluation.files import read_json

    root = Path.cwd()
    stored = sorted((root / "metrics" / "studies").glob("models-*.json"))
    summaries = {path.stem: read_json(path) for path in stored}
    if arguments.dataset is not None:
        study = f"models-{arguments.dataset}{arguments.name and f'-{arguments.name}'}"
        summaries[study] = compare_models(
            root,
            arguments.dataset,
            seeds=tuple(arguments.seeds),
            models=arguments.models,
            candidate=arguments.candidate,
        )
    text = "\n\n".join(page(summaries[study]) for study in sorted(summaries))
    for study, summary in summaries.items():
        _write(root, study, summary, {"models": text})


if __name__ == "__main__":
    sys.exit(main())
