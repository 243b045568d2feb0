"""From commits and DVC experiments to the runs that made their outputs.

DVC restores a stage from its run cache without running it, so no new run appears in MLflow; but
dvc.lock names the outputs' md5, and so does the run that made them once.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

from dhmd.base.errors import DhmdError
from dhmd.tracking.facts import git
from dhmd.tracking.store import MlflowStore

LOCK_FILE = "dvc.lock"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Reference(NamedTuple):
    """A commit, or a DVC experiment, and the outputs that its dvc.lock names."""

    tag: str  # `commits` or `experiments`: the run's tag that lists it
    name: str
    outputs: frozenset[str]


def references(root: Path) -> list[Reference]:
    """HEAD (where the workspace's dvc.lock is HEAD's) and every DVC experiment."""
    found = []
    head = (git(root, "rev-parse", "--short=10", "HEAD") or "").strip()
    lock = git(root, "show", f"HEAD:./{LOCK_FILE}")
    if head and lock is not None:
        found.append(Reference("commits", head, locked_outputs(lock, f"{head}:{LOCK_FILE}")))
    listing = git(root, "for-each-ref", "--format=%(refname)", "refs/exps/") or ""
    for reference in listing.split():
        parts = reference.split("/")
        if len(parts) != 5 or len(parts[3]) != 38:
            continue  # DVC's own bookkeeping, not an experiment
        lock = git(root, "show", f"{reference}:./{LOCK_FILE}")
        if lock is not None:
            outputs = locked_outputs(lock, f"{reference}:{LOCK_FILE}")
            found.append(Reference("experiments", parts[4], outputs))
    return found


def locked_outputs(text: str, source: str) -> frozenset[str]:
    """The md5 of every output that a dvc.lock names.

    Raises:
        DhmdError: it is not YAML of that shape.
    """
    try:
        stages = (yaml.load(text, Loader=_Loader) or {}).get("stages", {})
        outputs = [out for stage in stages.values() for out in stage.get("outs", [])]
        return frozenset(str(out["md5"]) for out in outputs if "md5" in out)
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise DhmdError(f"{source} is damaged: `dvc repro` writes it again") from error


def link(store: MlflowStore, found: list[Reference]) -> list[str]:
    """Name each reference in the tags of the runs that made its outputs; what was new."""
    told = []
    for run in store.trained():
        names = {
            tag: [name for name in run.tags.get(tag, "").split(", ") if name]
            for tag in ("commits", "experiments")
        }
        new: dict[str, str] = {}
        for reference in found:
            listed = names[reference.tag]
            if run.tags["output_md5"] in reference.outputs and reference.name not in listed:
                listed.append(reference.name)
                new[reference.tag] = ", ".join(listed)
                told.append(f"{reference.name} uses the outputs of {run.name}")
        if new:
            store.describe(run.id, {}, new)
    return told
