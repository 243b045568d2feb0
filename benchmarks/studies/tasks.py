"""Tasks of a study. Each stores its result in a file, so that an interrupted study resumes."""

from __future__ import annotations

import csv
import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256
from dhmd.base.progress import progress


class StudyTask(Protocol):
    """A task that stores its result in the file `result`."""

    @property
    def result(self) -> Path: ...


T = TypeVar("T", bound=StudyTask)

_ROOT = Path(__file__).parents[2]


def run_missing(
    tasks: Sequence[T], work: Callable[[T], None], label: str, *, num_processes: int
) -> None:
    """Run the tasks whose result is not stored yet, in several processes or in this one.

    Raises:
        DhmdError: a process was killed, or a task failed.
    """
    missing = [task for task in tasks if not task.result.is_file()]
    if num_processes == 1:
        for task in progress(missing, label, total=len(missing)):
            work(task)
        return
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
            futures = [pool.submit(work, task) for task in missing]
            for future in progress(as_completed(futures), label, total=len(futures)):
                future.result()
    except BrokenExecutor as error:
        raise DhmdError(
            "a process of the study was killed, perhaps because memory ran out; finished results "
            "are stored: run the study again with fewer --processes"
        ) from error


def code_key(*paths: str) -> str:
    """Return a hash of code that a study's results depend on, besides that of training.

    Args:
        paths: folders or files of the repository, such as `dhmd/evaluation`.
    """
    files = [
        file for path in paths for file in (sorted((_ROOT / path).rglob("*.py")) or [_ROOT / path])
    ]
    return json_sha256([(str(file.relative_to(_ROOT)), file_sha256(file)) for file in files])


def read_result(path: Path) -> dict[str, Any]:
    """Read a stored result.

    Raises:
        DhmdError: the file is damaged.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return value
    except (OSError, ValueError) as error:
        raise DhmdError(f"{path} cannot be read: delete it and run the study again") from error


def selected_scores(history: Path) -> list[float]:
    """Read the validation score of each seed's selected epoch.

    Raises:
        DhmdError: a seed diverged.
    """
    with open(history, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    # The first validation score of the history is the one that training selects by.
    name = next(row["name"] for row in rows if row["name"].startswith("valid/"))
    values = {(row["seed"], row["epoch"]): row["value"] for row in rows if row["name"] == name}
    for row in rows:
        if row["name"] == "diverged":
            raise DhmdError(
                f"{history}: seed {row['seed']} diverged in epoch {row['epoch']}; exclude this "
                "run's candidate with --candidates"
            )
    return [float(values[row["seed"], row["epoch"]]) for row in rows if row["name"] == "selected"]


def rounded(value: Any) -> Any:
    """Round all floats to five decimals, since more depend on the processor."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 5) if isinstance(value, float) else value
