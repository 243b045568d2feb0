"""The trainer's side of tracking: an observer that writes a journal and never raises."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dhmd.base.errors import first_line
from dhmd.tracking.config import TrackingConfig
from dhmd.tracking.destination import redact, resolve_destination, workspace_root
from dhmd.tracking.facts import flatten, outputs_md5, run_tags
from dhmd.tracking.journal import Journal
from dhmd.tracking.process import UploaderProcess
from dhmd.training.observer import Observer, SilentObserver

log = logging.getLogger("dhmd.tracking")

START_SECONDS = 60.0  # for the uploader's imports, on a busy machine
SERVER_SECONDS = 8.0  # without a sign of progress, once the trainer has ended
DATABASE_SECONDS = 60.0


class Tracker:
    """Writes what it observes to a journal, which an uploader process carries to MLflow.

    Whatever goes wrong costs one warning, and the training goes on.
    """

    def __init__(self, config: TrackingConfig, root: Path, stage: str, dataset: str) -> None:
        self._destination = resolve_destination(config, root)
        self._warned = False
        self._journal: Journal | None = None
        self._uploader: UploaderProcess | None = None
        home = workspace_root(root)
        try:
            journal = self._journal = Journal(home, stage, dataset)
        except OSError as error:
            self._warn(f"no run is recorded: {first_line(error)}")
            return
        self._append(
            "open",
            key=journal.key,
            stage=stage,
            dataset=dataset,
            store=self._destination.shown,
            tags=run_tags(Path.cwd() if "DVC_ROOT" in os.environ else root),
        )
        if self._journal is None:  # the disk had room for a name, but not for a line
            with suppress(OSError):
                journal.path.unlink()
            return
        if not _mlflow_is_installed():
            self._warn(f"mlflow is not installed; {self._kept()}")
            return
        try:
            self._uploader = UploaderProcess(
                journal.path, home, self._destination, config.experiment
            )
        except OSError as error:
            self._warn(f"the upload cannot start ({first_line(error)}); {self._kept()}")

    def started(
        self,
        stage: str,
        members: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        self._append(
            "started",
            members=list(members),
            parameters=flatten(parameters),
            resumed_epoch=resumed_epoch,
        )

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        self._append("epoch", epoch=epoch, rows=_plain(rows))
        self._listen(0.0)

    def finished(self, outputs: Path) -> None:
        # The stage's output as a whole is hashed at the end: its folder may hold several trainings.
        self._append("finished")

    def tested(self, stage: str, md5: str, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Test metrics for the run whose outputs have this md5."""
        self._append("test", stage=stage, md5=md5, rows=_plain(rows))

    def close(self, status: str, tags: Mapping[str, str], *, wait: bool) -> None:
        """Write the end, and wait for the upload as long as it gets on."""
        if self._journal is None:
            return
        self._append("ended", status=status, tags=tags)
        self._journal.close()
        if self._uploader is None:
            return
        self._uploader.say(status)
        if not wait:
            return  # the uploader ends by itself, within three minutes
        self._listen_to_the_end()
        if self._uploader.stop():
            if self._warned:
                log.info("tracking: the store answers again, and has everything now")
        else:
            self._warn(f"{self._destination.shown} did not take everything; {self._kept()}")

    def _append(self, event: str, **fields: object) -> None:
        if self._journal is None:
            return
        try:
            self._journal.append(event, **fields)
        except (OSError, ValueError) as error:
            self._warn(f"recording ends here: {self._journal.path}: {first_line(error)}")
            if event != "ended":
                self._journal.close()
                self._journal = None
                if self._uploader is not None:
                    self._uploader.say("FAILED")

    def _listen(self, seconds: float) -> float:
        """Read what the uploader tells; how many seconds ago it got on at the latest."""
        if self._uploader is None:
            return 0.0
        for kind, value in self._uploader.messages(seconds):
            if kind == "trouble":
                self._warn(f"{self._destination.shown}: {value}; {self._kept()}")
            elif kind == "note":
                log.info("tracking: %s", value)
        return self._uploader.silent_for()

    def _listen_to_the_end(self) -> None:
        uploader = self._uploader
        assert uploader is not None
        patience = DATABASE_SECONDS if self._destination.database else SERVER_SECONDS
        uploader.restart_clock()
        while uploader.is_open:
            limit = patience if uploader.got_on else max(patience, START_SECONDS)
            if self._listen(0.5) > limit:
                return

    def _kept(self) -> str:
        path = self._journal.path if self._journal is not None else "its journal"
        return (
            f"the training goes on, its metrics are kept in {path}, "
            "and `dhmd track --retry` uploads them"
        )

    def _warn(self, sentence: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("tracking: %s", redact(sentence))


def _plain(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {
        member: {name: float(value) for name, value in row.items()} for member, row in rows.items()
    }


def _mlflow_is_installed() -> bool:
    try:
        return importlib.util.find_spec("mlflow") is not None
    except ValueError:
        return False  # blocked in sys.modules


@contextmanager
def open_tracker(
    config: TrackingConfig, *, root: Path, dataset: str, stage: str, outputs: Path
) -> Iterator[Observer]:
    """Record one stage's training: one parent run, a child run a member.

    `outputs` is the stage's output, hashed at the end as DVC does it: keep the tracker open until
    the output is in its place. `root` is the repository's root; within a DVC stage the code's
    commit is that of the working folder, which may be DVC's copy. An exception that passes through
    marks the runs FAILED, an interruption KILLED.
    """
    if not config.enabled:
        yield SilentObserver()
        return
    tracker = Tracker(config, root, stage, dataset)
    try:
        yield tracker
    except (KeyboardInterrupt, SystemExit):
        tracker.close("KILLED", {}, wait=False)
        raise
    except BaseException as error:
        tracker.close("FAILED", {"ended": redact(first_line(error))}, wait=True)
        raise
    tracker.close("FINISHED", _output_tags(outputs), wait=True)


def _output_tags(outputs: Path) -> dict[str, str]:
    tags = {"output_path": str(outputs)}
    with suppress(OSError):  # the stage is about to say what is wrong with its output
        md5 = outputs_md5(outputs)
        if md5 is not None:
            tags["output_md5"] = md5
    if os.environ.get("DVC_EXP_NAME"):
        tags["experiments"] = os.environ["DVC_EXP_NAME"]
    return tags


Record = Callable[[str, Path, Mapping[str, Mapping[str, float]]], None]


@contextmanager
def open_test_log(config: TrackingConfig, *, root: Path, dataset: str) -> Iterator[Record]:
    """Add test metrics to the runs that trained what is evaluated.

    Yields record(stage, outputs, rows): `rows` (member -> metric -> value) belong to the run of
    that stage which wrote what is in `outputs`, found by its md5: ("train", models/<dataset>, …).
    Open it early, so that the 3 s of MLflow's imports pass beside the evaluation.
    """
    if not config.enabled:
        yield lambda stage, outputs, rows: None
        return
    tracker = Tracker(config, root, "evaluate", dataset)

    def record(stage: str, outputs: Path, rows: Mapping[str, Mapping[str, float]]) -> None:
        md5 = outputs_md5(outputs)
        if md5 is not None:
            tracker.tested(stage, md5, rows)

    try:
        yield record
    except BaseException:
        tracker.close("FAILED", {}, wait=False)
        raise
    tracker.close("FINISHED", {}, wait=True)
