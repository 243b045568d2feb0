"""`dhmd sweep`: run one experiment per combination of values and rank them on validation."""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dhmd.base.errors import DhmdError
from dhmd.base.text import text_table
from dhmd.data.manifest import write_manifests
from dhmd.evaluation.metrics import deterioration_sign
from dhmd.recipes import repository_root
from dhmd.settings import Params, load_params
from dhmd.vcs import METRICS_FOLDER, code_version, commit

if TYPE_CHECKING:
    from dhmd.training.task import Task


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        *("-S", "--set-param"),
        action="append",
        required=True,
        metavar="KEY=VALUE[,VALUE…]",
        help="values of a key of params.yaml, in the syntax of `dvc exp run --queue -S`; may be "
        "repeated",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "slurm", "ray"),
        help="executor that runs the trainings (default: compute.executor in params.yaml)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run and record the experiments, print a table, and return 1 if one of them failed.

    First, all experiments run as far as possible without training. Then the trainings of all
    experiments run as tasks of one submission, and the experiments run again. This is repeated
    until the experiments are complete.
    """
    from dhmd.vcs.sweep import Worktree, combinations

    root = repository_root(Path.cwd())
    write_manifests((), root)
    head, changed = code_version(root)
    if head is None or changed:
        raise DhmdError("experiments start from the last commit: commit the changed files first.")
    executor = [] if arguments.executor is None else [f"compute.executor={arguments.executor}"]
    # In the repository, because a cluster's nodes need the code and the aligned features too.
    folder = root / ".dhmd" / "sweep"
    folder.mkdir(parents=True, exist_ok=True)
    worktrees: dict[str, Worktree] = {}
    recorded: list[str] = []
    try:
        for values in combinations(arguments.set_param):
            name = _name(values, head)
            worktrees[name] = Worktree(root, folder / name, [*values, *executor])
        pending = list(worktrees)
        while pending:
            planned: dict[str, list[list[Task]]] = {}
            for name in pending:
                plan = folder / f"{name}.plan"
                plan.write_bytes(b"")
                if worktrees[name].reproduce(DHMD_PLAN=str(plan)):
                    recorded += [name] if worktrees[name].save(name) else []
                elif groups := _read_plan(plan):
                    planned[name] = groups
                plan.unlink()
            if planned:
                groups = [group for plan_groups in planned.values() for group in plan_groups]
                _train(groups, load_params(worktrees[next(iter(planned))].folder))
            pending = [
                name
                for name, groups in planned.items()
                if not any(task.missing for group in groups for task in group)
            ]
    finally:
        for worktree in worktrees.values():
            worktree.remove()
    results = {name: _metrics(root, name) for name in worktrees if name in recorded}
    for dataset in dict.fromkeys(dataset for metrics in results.values() for dataset in metrics):
        rows = {name: values[dataset] for name, values in results.items() if dataset in values}
        print(_table(dataset, rows))
    for name, worktree in worktrees.items():
        if name not in recorded:
            print(f"{name} failed: see {worktree.log}")
    return int(len(results) < len(worktrees))


def _read_plan(plan: Path) -> list[list[Task]]:
    """Return the groups of tasks that the stages of an experiment have planned."""
    from dhmd.training.task import Task

    lines = plan.read_text(encoding="utf-8").splitlines()
    return [[Task.read(Path(path)) for path in json.loads(line)] for line in lines]


def _train(groups: list[list[Task]], params: Params) -> None:
    """Train the tasks of all experiments; an error is logged, and the other tasks finish."""
    from dhmd.data.aligned import read_corpus
    from dhmd.training.device import torch_session
    from dhmd.training.executors import run_tasks
    from dhmd.training.jobs import unfinished_tasks
    from dhmd.training.observer import LogObserver
    from dhmd.training.planning import choose_workers

    groups = unfinished_tasks(groups)
    tasks = [task for group in groups for task in group]
    compute = params.for_dataset(params.datasets[0]).compute
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log = logging.getLogger("dhmd")
    log.setLevel(logging.INFO)
    members = sum(len(task.members) for task in tasks)
    log.info("sweep: %d trainings in %d tasks", members, len(tasks))
    with torch_session(compute) as device:
        corpus = read_corpus(tasks[0].aligned, fold=tasks[0].fold)
        processes = choose_workers(compute, corpus, device, num_members=members)
        try:
            run_tasks(
                groups, LogObserver(), compute=compute, device=device, num_processes=processes
            )
        except (DhmdError, RuntimeError) as error:
            log.error("%s", error)
    for task in tasks:
        if not task.missing:
            shutil.rmtree(task.folder, ignore_errors=True)


def _name(values: list[str], head: str) -> str:
    """Return the name of an experiment: its values, and the commit from which it starts."""
    pairs = [value.partition("=") for value in values]
    name = "-".join(f"{key.rpartition('.')[2]}_{value}" for key, _, value in pairs)
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    return f"{name}-{head[:7]}"


def _metrics(root: Path, experiment: str) -> dict[str, Any]:
    """Return the content of metrics.json of a recorded experiment, by dataset."""
    revision = commit(root, experiment)
    datasets = yaml.safe_load(revision.read("params.yaml") or "")["datasets"]
    texts = {name: revision.read(f"{METRICS_FOLDER}/{name}/metrics.json") for name in datasets}
    return {name: json.loads(text) for name, text in texts.items() if text is not None}


def _table(dataset: str, results: dict[str, Any]) -> str:
    """Return a table of experiments, the best on validation first, with the test score of the best.

    `results` maps each experiment to the content of its metrics.json.
    """
    metric = next(iter(next(iter(results.values()))["valid"]))
    scores = {
        name: [float(metrics[split].get(metric, math.nan)) for split in ("valid", "test")]
        for name, metrics in results.items()
    }
    ranked = sorted(scores, key=lambda name: deterioration_sign(metric) * scores[name][0])
    rows = [
        [name, f"{scores[name][0]:.4f}", "-" if rank else f"{scores[name][1]:.4f}"]
        for rank, name in enumerate(ranked)
    ]
    return "\n".join(text_table([dataset, f"valid {metric}", f"test {metric}"], rows))
