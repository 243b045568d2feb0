"""The console script `dhmd`.

Each sub-command is a module with `configure(parser)` and `run(arguments) -> exit status`, which is
imported only if the command is called, so that `dhmd --help` is quick. A module whose exit status 1
means something else than an error sets its own `ERROR_EXIT`.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import dhmd
from dhmd.base.errors import DhmdError, first_line


class Command(NamedTuple):
    """One sub-command: its name, one line of help and its module."""

    name: str
    help: str
    module: str


COMMANDS = (
    Command("config", "check params.yaml and the dataset configs", "dhmd.cli.config"),
    Command("data", "show a corpus, check it, pin the hashes of its files", "dhmd.cli.data"),
    Command("import", "import videos, arrays or MMSA pickles as a dataset", "dhmd.cli.import_"),
    Command("extract", "extract features of videos to .csd files", "dhmd.cli.extract"),
    Command("predict", "score new .csd files with a trained model", "dhmd.cli.predict"),
    Command("track", "record finished outputs in MLflow", "dhmd.cli.track"),
    Command("gate", "compare the metrics of two revisions for regressions", "dhmd.cli.gate"),
    Command(
        "lock-check", "is dvc.lock current, and do others get its data?", "dhmd.cli.lock_check"
    ),
    Command("report", "join the reports of all datasets into one page", "dhmd.cli.report"),
    Command("table", "print the tables of results in metrics/", "dhmd.cli.table"),
    Command("summary", "print one line of results per dataset", "dhmd.cli.summary"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dhmd ARGUMENTS` and return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="dhmd",
        description="Decoupled Hierarchical Multimodal Distillation. The pipeline runs with "
        "`dvc repro`; these commands work on its inputs and results.",
        epilog="`dhmd COMMAND --help` describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"dhmd {dhmd.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = None
    for command in COMMANDS:
        sentence = f"{command.help[0].upper()}{command.help[1:]}"
        own = commands.add_parser(
            command.name, help=command.help, description=f"{sentence.rstrip('?.')}."
        )
        if words[:1] == [command.name]:
            chosen = importlib.import_module(command.module)
            chosen.configure(own)
    if chosen is None:
        names = [command.name for command in COMMANDS]
        if words and words[0] not in names and not words[0].startswith("-"):
            near = difflib.get_close_matches(words[0], names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            print(f"dhmd: no command {words[0]!r}; {hint}", file=sys.stderr)
            return 2
        parser.parse_args(words or ["--help"])
        return 0
    return _run(words[0], chosen, parser.parse_args(words))


def _run(name: str, module: object, arguments: argparse.Namespace) -> int:
    """Run a command; a failure is one line."""
    error_exit = int(getattr(module, "ERROR_EXIT", 1))
    try:
        status = int(module.run(arguments))  # type: ignore[attr-defined]
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
        # Any file may lack a permission, any disk may be full.
        message = first_line(error)
        if error.filename is not None and error.strerror:
            message = f"{os.fspath(error.filename)}: {error.strerror}"
    print(f"dhmd {name}: {message}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _close_stdout()
    return error_exit


def _close_stdout() -> None:
    """Keep the interpreter from flushing a stdout that cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
