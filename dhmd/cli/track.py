"""`dhmd track`: put MLflow's records in order, and upload what could not be uploaded."""

from __future__ import annotations

import argparse

from dhmd.base.errors import DhmdError
from dhmd.recipes import repository_root
from dhmd.settings import load_params


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Mark the runs of killed trainings as KILLED, and link this commit and every DVC "
        "experiment to the runs that made their outputs, also where DVC took those from its run "
        "cache. Upload what was kept in .dhmd/tracking while this store was away."
    )
    parser.add_argument(
        "--retry",
        action="store_true",
        help="also upload what was kept for another store",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it, a line for each thing done; 1 if something kept could not be uploaded."""
    root = repository_root()
    config = load_params(root).tracking
    if not config.enabled:
        print("tracking is off (params.yaml: tracking.enabled)")
        return 0
    from dhmd.tracking.destination import resolve_destination
    from dhmd.tracking.links import link, references
    from dhmd.tracking.store import connect
    from dhmd.tracking.sweep import mark_dead_runs, upload_left_journals

    destination = resolve_destination(config, root)
    found = references(root)
    store = connect(destination, config.experiment)
    print(f"store: {destination.shown}, experiment {config.experiment}")
    left = upload_left_journals(
        store, root, shown=None if arguments.retry else destination.shown, tell=print
    )
    for name in mark_dead_runs(store, root):
        print(f"{name}: its process is gone; marked KILLED")
    for line in link(store, found):
        print(line)
    for path, meant in left.elsewhere:
        print(f"{path} was kept for {meant}; `dhmd track --retry` uploads it here")
    if left.problems:
        raise DhmdError("; ".join(left.problems))
    return 0
