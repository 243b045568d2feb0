"""`dhmd lock-check`: is dvc.lock current with code and params?"""

from __future__ import annotations

import argparse
from pathlib import Path

from dhmd.data.manifest import stale_manifests
from dhmd.gate.lock import check_lock
from dhmd.recipes import repository_root


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = "Needs no data. Exit status: 0 current, 1 stale or not to be read."


def run(arguments: argparse.Namespace) -> int:
    """Check and print one line a stale stage."""
    root = repository_root(Path.cwd())
    state, manifests = check_lock(root), stale_manifests(root)
    for sentence in manifests:
        print(f"stale: {sentence}")
    if not state.stale and not manifests:
        print("dvc.lock is current with code and params")
        return 0
    for stage, said in state.stale.items():
        print(f"stale: {stage} ({', '.join(said)})")
    if state.downstream:
        print(f"downstream of these: {', '.join(state.downstream)}")
    print("run dvc repro and commit dvc.lock and metrics/")
    return 1
