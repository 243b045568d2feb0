"""The sub-commands: name, one line of help, module. A new one is a line here."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One sub-command."""

    name: str
    help: str
    module: str


COMMANDS = (
    Command("config", "check params.yaml and the recipes it names", "dhmd.cli.config"),
    Command("data", "look at a corpus, check it, fix its files' hashes", "dhmd.cli.data"),
    Command("import", "take in videos, arrays or MMSA pickles as a dataset", "dhmd.cli.import_"),
    Command("extract", "features of videos as .csd files", "dhmd.cli.extract"),
    Command("predict", "score new .csd files with a trained model", "dhmd.cli.predict"),
    Command("track", "put MLflow's records in order, upload what was kept", "dhmd.cli.track"),
    Command("gate", "has a metric become worse? compares two revisions", "dhmd.cli.gate"),
    Command(
        "lock-check",
        "is dvc.lock current with code and params? needs no data",
        "dhmd.cli.lock_check",
    ),
    Command(
        "repair",
        "put right what a killed `dvc repro` left half written of DVC's own files",
        "dhmd.cli.repair",
    ),
    Command("report", "join all datasets' reports into one page", "dhmd.cli.report"),
    Command("table", "print the tables of results from metrics/", "dhmd.cli.table"),
)
