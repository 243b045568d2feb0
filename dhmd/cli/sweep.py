"""`dhmd sweep`: run an experiment per combination of values and compare them on validation."""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from dhmd.base.errors import DhmdError
from dhmd.data.manifest import write_manifests
from dhmd.recipes import repository_root
from dhmd.vcs import METRICS_FOLDER, code_version, combinations, commit, run_in_worktree

_RISES = ("accuracy", "f1")  # metrics of which more is better


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        *("-S", "--set-param"),
        action="append",
        required=True,
        metavar="KEY=VALUE[,VALUE…]",
        help="values to try, as `dvc exp run --queue -S` takes them; may be repeated",
    )
    parser.add_argument("--executor", choices=("local", "slurm"), help="sets compute.executor")
    parser.add_argument(
        *("-j", "--jobs"),
        type=int,
        default=1,
        help="experiments at a time (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run and record the experiments, and print a table; 1 if one of them failed."""
    root = repository_root(Path.cwd())
    write_manifests((), root)
    head, changed = code_version(root)
    if head is None or changed:
        raise DhmdError("experiments start from the last commit: commit the changed files first.")
    chosen = combinations(arguments.set_param)
    more = [] if arguments.executor is None else [f"compute.executor={arguments.executor}"]
    logs = root / ".dhmd" / "sweep"
    logs.mkdir(parents=True, exist_ok=True)

    def one(values: list[str]) -> tuple[str, dict[str, Any] | None]:
        name = _name(values, head)
        # Below the repository: a cluster's nodes must see the code and the aligned features too.
        worktree, log = logs / name, logs / f"{name}.txt"
        done = run_in_worktree(root, worktree, name, [*values, *more], log)
        return name, _metrics(root, name) if done else None

    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(one, chosen))
    results = {name: metrics for name, metrics in found if metrics is not None}
    for dataset in dict.fromkeys(name for each in results.values() for name in each):
        print(_table(dataset, {n: each[dataset] for n, each in results.items() if dataset in each}))
    for name, metrics in found:
        if metrics is None:
            print(f"{name} failed: see {logs / f'{name}.txt'}")
    return int(len(results) < len(found))


def _name(values: list[str], head: str) -> str:
    """The experiment's name: its values, and the commit it starts from."""
    pairs = [value.partition("=") for value in values]
    words = "-".join(f"{key.rpartition('.')[2]}_{value}" for key, _, value in pairs)
    words = "".join(c if c.isalnum() or c in "-_" else "_" for c in words)
    return f"{words}-{head[:7]}"


def _metrics(root: Path, experiment: str) -> dict[str, Any]:
    """The content of metrics.json of every dataset that a recorded experiment has run."""
    revision = commit(root, experiment)
    datasets = yaml.safe_load(revision.read("params.yaml") or "")["datasets"]
    texts = {name: revision.read(f"{METRICS_FOLDER}/{name}/metrics.json") for name in datasets}
    return {name: json.loads(text) for name, text in texts.items() if text is not None}


def _table(dataset: str, results: dict[str, Any]) -> str:
    """Experiments, the best on validation first; only the best has a test score."""
    metric = next(iter(next(iter(results.values()))["valid"]))
    sign = -1 if metric in _RISES else 1
    scores = {
        name: [float(each[split].get(metric, math.nan)) for split in ("valid", "test")]
        for name, each in results.items()
    }
    width = max(map(len, [*scores, dataset]))
    lines = [f"{dataset:<{width}}  valid {metric:<8}  test {metric}"]
    for rank, name in enumerate(sorted(scores, key=lambda name: sign * scores[name][0])):
        valid, test = scores[name]
        lines.append(f"{name:<{width}}  {valid:<14.4f}  {f'{test:.4f}' if rank == 0 else '-'}")
    return "\n".join(lines)
