"""`dhmd lock-check`: is dvc.lock current with code and params, and do others get its data?"""

from __future__ import annotations

import argparse
from pathlib import Path

from dhmd.data.manifest import stale_manifests
from dhmd.recipes import repository_root
from dhmd.vcs import check_lock, missing_in_remote


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Compare dvc.lock with code and params. With --remote, check that every output is in the "
        "default DVC remote, so that a colleague can pull it."
    )
    parser.epilog = "Needs no data. Exit status: 0 current, 1 stale, missing or unreadable."
    parser.add_argument(
        "--remote",
        metavar="REV",
        nargs="?",
        const="",
        help="check the remote instead, for a revision or DVC experiment (default: the workspace)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check, and print one line per stale manifest, stale stage or missing output."""
    root = repository_root(Path.cwd())
    if arguments.remote is not None:
        return _check_remote(root, arguments.remote or None)
    state, manifests = check_lock(root), stale_manifests(root)
    for sentence in manifests:
        print(f"stale: {sentence}")
    if not state.stale and not manifests:
        print("dvc.lock is current with code and params")
        return 0
    for stage, changes in state.stale.items():
        print(f"stale: {stage} ({', '.join(changes)})")
    if state.downstream:
        print(f"downstream of these: {', '.join(state.downstream)}")
    print("run dvc repro and commit dvc.lock and metrics/")
    return 1


def _check_remote(root: Path, name: str | None) -> int:
    missing = missing_in_remote(root, name)
    label = name or "the workspace"
    if not missing:
        print(f"every output of {label} is in the DVC remote")
        return 0
    for path in missing:
        print(f"not in the DVC remote: {path}")
    if name is None:
        print("run dvc push")
    else:
        # An experiment reads the remotes from the .dvc/config of its own commit.
        print(
            f"run dvc push for a commit, dvc exp push origin {name} for an experiment; one that is "
            "older than the remote needs `dvc remote add --local -d NAME URL` first"
        )
    return 1
