"""`dhmd track`: record finished outputs in MLflow."""

from __future__ import annotations

import argparse

from dhmd.recipes import repository_root
from dhmd.settings import load_params


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Record the outputs in pretrained/, models/ and ablations/ that have no run in MLflow: "
        "trained while the store was away, or taken from DVC's run cache. Add new scores and "
        "reports, and mark the runs of killed stages as KILLED. Nothing is recorded twice."
    )
    parser.add_argument(
        "dataset", nargs="*", help="datasets to record (default: those of params.yaml)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Record, and print one line per change."""
    root = repository_root()
    params = load_params(root)
    if not params.tracking.enabled:
        print("tracking is off (params.yaml: tracking.enabled)")
        return 0
    from dhmd.tracking import track

    messages = track(params.tracking, root, arguments.dataset or params.datasets)
    print("\n".join(messages) or "every output is recorded")
    return 0
