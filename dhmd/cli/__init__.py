"""The console script `dhmd`: parses arguments, runs one command, prints errors on one line.

The module of a command is imported only when the command is called, so that `dhmd --help` is fast.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import dhmd
from dhmd.base.errors import DhmdError, first_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dhmd ARGUMENTS` and return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    names = [command.name for command in COMMANDS]
    if words and words[0] not in names and not words[0].startswith("-"):
        similar = difflib.get_close_matches(words[0], names, n=1)
        hint = f"the commands are {', '.join(names)}"
        if similar:
            hint = f"did you mean {similar[0]}?"
        print(f"dhmd: there is no command {words[0]!r}; {hint}", file=sys.stderr)
        return 2
    return _run(words[0] if words else "", build_parser(words).parse_args(words or ["--help"]))


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser of the command line `words`; only the called command gets its arguments."""
    parser = argparse.ArgumentParser(
        prog="dhmd",
        description="Decoupled Hierarchical Multimodal Distillation. The pipeline runs with "
        "`dvc repro`; these commands work on its inputs and results.",
        epilog="`dhmd COMMAND --help` describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"dhmd {dhmd.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
        )
        if words[:1] == [command.name]:
            subparser.set_defaults(error_exit=1)
            if isinstance(command.configure, str):
                subparser.set_defaults(run=f"{command.configure}:run")
                importlib.import_module(command.configure).configure(subparser)
            else:
                subparser.set_defaults(run=f"dhmd.cli.commands:{command.name.replace('-', '_')}")
                command.configure(subparser)
    return parser


def _run(name: str, arguments: argparse.Namespace) -> int:
    """Run a command and return the exit status; an error is printed on one line."""
    module, _, function = arguments.run.partition(":")
    try:
        status = int(getattr(importlib.import_module(module), function)(arguments))
        sys.stdout.flush()
        return status
    except DhmdError as error:
        message = str(error)
    except KeyboardInterrupt:
        print(f"dhmd {name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe.
        _close_stdout()
        return 0
    except OSError as error:
        # A missing permission or a full disk can occur at any file access.
        message = first_line(error)
        if error.filename is not None and error.strerror:
            message = f"{os.fspath(error.filename)}: {error.strerror}"
    print(f"dhmd {name}: {message}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _close_stdout()
    return int(arguments.error_exit)


def _close_stdout() -> None:
    """Redirect stdout to the null device: flushing a closed pipe would fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _config(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser(
        "check", help="check params.yaml and the dataset configs that it lists"
    )
    _datasets(check, "datasets to check (default: those in params.yaml)")


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Reads the model directory, but neither the dataset config nor params.yaml. A modality "
        "without a file is treated as absent."
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="transcripts (.srt, .vtt, Whisper's .json, .csv of words and times, .txt); a folder "
        "of .csd files, named as the sequences in the dataset config (words.csd, …) or as the "
        "original files; transcripts together with such a folder; or a file or folder in the "
        "format of the training data",
    )
    parser.add_argument(
        "--model",
        required=True,
        help="model directory, such as models/demo, or a model's name on the Hugging Face hub",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="CSV file to write: id, start and end in seconds, text, mean and standard "
        "deviation over seeds, class probabilities, one column per seed (default: print a table)",
    )
    parser.add_argument(
        "--segments",
        type=Path,
        metavar="FILE",
        help="CSV file with the columns video, start and end, or a .csd file whose rows are the "
        "segments (default: the cues or sentences of a transcript; .csd files are divided at "
        "pauses)",
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="HTML page to write: a timeline of the predictions, and an explanation of each",
    )
    parser.add_argument(
        "--media",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="video and audio files, or folders of them, that the page plays; a file is matched "
        "by its name to a transcript or video (default: the files next to the inputs)",
    )
    parser.add_argument(
        "--truncate",
        action="store_true",
        help="accept segments that exceed the model's maximum input length, even if more than a "
        "fifth of the words is cut off",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device to compute on (default: auto, a GPU if there is one)",
    )


def _track(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Record the outputs in pretrained/, models/ and ablations/ that have no run in MLflow, "
        "because they were trained while the store was unavailable or were restored from DVC's "
        "run cache. Add new scores and reports, and mark the runs of killed stages as KILLED. "
        "Nothing is recorded twice."
    )
    _datasets(parser, "datasets to record (default: those in params.yaml)")


def _gate(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Reads params.yaml and metrics/ of both revisions; needs neither data nor PyTorch. "
        "Exit status: 0 no regression, 1 regression, 2 not comparable."
    )
    parser.set_defaults(error_exit=2)
    parser.add_argument(
        "--base",
        metavar="REV",
        help="revision or DVC experiment to compare with (default: the merge base with the main "
        "branch, which is HEAD on the main branch itself)",
    )
    parser.add_argument(
        "--head",
        metavar="REV",
        help="revision or DVC experiment to check for regressions (default: the workspace)",
    )
    parser.add_argument(
        "--dataset",
        help="dataset to compare if a CSV file with the columns id, seed and prediction replaces "
        "one of the two revisions (default: the only dataset)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--markdown", action="store_true", help="print Markdown for a pull-request comment"
    )
    form.add_argument("--json", action="store_true", help="print all values as JSON, unrounded")


def _lock_check(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check that dvc.lock is up to date with code and params.yaml. With --remote, check "
        "instead that every output is in the default DVC remote, so that a colleague can pull it."
    )
    parser.epilog = "Needs no data. Exit status: 0 up to date, 1 stale, missing or unreadable."
    parser.add_argument(
        "--remote",
        metavar="REV",
        nargs="?",
        const="",
        help="check the remote for the outputs of a revision or DVC experiment (default: of the "
        "workspace)",
    )


def _report(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Combine the reports of all datasets in one page, and list the commit, parameters, "
        "machine, package versions and wall time of each stage."
    )
    _datasets(parser, "datasets to show (default: all in reports/)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="page to write (default: reports/index.html)"
    )


def _table(parser: argparse.ArgumentParser) -> None:
    _datasets(parser, "datasets to show (default: all in metrics/)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument(
        "--latex", action="store_true", help="print a LaTeX table (requires the booktabs package)"
    )
    form.add_argument(
        "--readme",
        action="store_true",
        help="write the tables between the markers in README.md instead of printing them",
    )


def _summary(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print the test score, number of seeds and path of the report per dataset."
    _datasets(parser, "datasets to print (default: those in params.yaml)")


def _datasets(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help=help_)


class Command(NamedTuple):
    """A sub-command of `dhmd`.

    Attributes:
        help: the description in `dhmd --help`, one line.
        configure: a function that adds the arguments of a command that is a function in
            `dhmd.cli.commands`; or the name of a module with the functions `configure` and `run`.
    """

    name: str
    help: str
    configure: Callable[[argparse.ArgumentParser], None] | str


COMMANDS = (
    Command("config", "check params.yaml and the dataset configs", _config),
    Command("data", "show or check a corpus, and record its files", "dhmd.cli.data"),
    Command("import", "import videos, arrays or MMSA pickles as a dataset", "dhmd.cli.import_"),
    Command("extract", "extract features of videos to .csd files", "dhmd.cli.extract"),
    Command("predict", "apply a trained model to transcripts or feature files", _predict),
    Command("export", "write a model with a model card, and upload it", "dhmd.cli.export"),
    Command("sweep", "run one experiment per combination of values", "dhmd.cli.sweep"),
    Command("track", "record finished outputs in MLflow", _track),
    Command("gate", "compare the metrics of two revisions for regressions", _gate),
    Command(
        "compare",
        "compare models, experiments and the predictions of other code",
        "dhmd.cli.compare",
    ),
    Command("lock-check", "check that dvc.lock or the DVC remote is up to date", _lock_check),
    Command("report", "combine the reports of all datasets in one page", _report),
    Command("table", "print the tables of results in metrics/", _table),
    Command("migrate", "convert params.yaml and metrics/ of dhmd 0.1", "dhmd.cli.migrate"),
    Command("summary", "print one line of results per dataset", _summary),
)
