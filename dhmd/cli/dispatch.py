"""From the command line to the sub-command's module, and from its failure to one line."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence

import dhmd
from dhmd.base.errors import DhmdError, first_line
from dhmd.cli.commands import COMMANDS, Command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dhmd ARGUMENTS`; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"dhmd {dhmd.__version__}")
        return 0
    command = next((command for command in COMMANDS if command.name == words[0]), None)
    if command is None:
        names = [known.name for known in COMMANDS]
        near = difflib.get_close_matches(words[0], names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        print(f"dhmd: no command {words[0]!r}; {hint}", file=sys.stderr)
        return 2
    return _run(command, words[1:])


def _run(command: Command, words: list[str]) -> int:
    module = importlib.import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=f"dhmd {command.name}", description=f"{command.help[0].upper()}{command.help[1:]}."
    )
    module.configure(parser)
    try:
        status = int(module.run(parser.parse_args(words)))
        sys.stdout.flush()
        return status
    except DhmdError as error:
        print(f"dhmd {command.name}: {error}", file=sys.stderr)
        return int(getattr(module, "ERROR_EXIT", 1))
    except KeyboardInterrupt:
        print(f"dhmd {command.name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _give_up_stdout()
        return 0
    except OSError as error:
        # What the system refuses may be refused anywhere: a file without permission, a full disk.
        print(f"dhmd {command.name}: {_sentence(error)}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_stdout()
        return int(getattr(module, "ERROR_EXIT", 1))


def _give_up_stdout() -> None:
    """The interpreter must not try to flush again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(error: OSError) -> str:
    if error.filename is None or not error.strerror:
        return error.strerror or first_line(error)
    return f"{os.fspath(error.filename)}: {error.strerror}"


def _overview() -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [
        "usage: dhmd COMMAND [OPTIONS]",
        "",
        "Decoupled Hierarchical Multimodal Distillation: train, ablate, trust.",
        "The pipeline itself runs with `dvc repro`; these commands look at it and around it.",
        "",
        *(f"  {command.name:<{width}}  {command.help}" for command in COMMANDS),
        "",
        "`dhmd COMMAND --help` says more.",
    ]
    return "\n".join(lines)
