"""Run a stage: `python -m stages.<name> <dataset>`.

Python then has the working folder first on its import path, so that a queued or temporary
experiment runs its own copy of the code. `run` checks this, reads the settings, allows one process
per stage and dataset, prints errors on one line, and records the run.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.base.files import try_lock
from dhmd.base.machine import end_with_parent
from dhmd.recipes import repository_root
from dhmd.settings import Settings, load_params
from dhmd.tracking import tracked
from stages import PARENT
from stages._record import recorded

if TYPE_CHECKING:
    from dhmd.data.text.encoder import TextEncoder
    from dhmd.training.observer import Observer

_INTERRUPTED = 130  # the exit status of shells after Ctrl-C


class Stage:
    """A stage of one dataset: its settings, and the paths of the outputs of all stages."""

    def __init__(self, name: str, dataset: str, settings: Settings) -> None:
        self.name, self.dataset, self.settings = name, dataset, settings
        # The user's repository, even if the stage runs in a copy of it.
        self.root = repository_root()
        # The store of finished trainings; unlike outputs, DVC does not remove it before a stage.
        self.trainings = self.root / ".dhmd" / "trainings"
        # A running stage holds this lock.
        self.lock = Path(".dhmd", "locks", f"{name}-{dataset}.lock")
        self.raw = Path("data", "raw", dataset)
        self.aligned = Path("data", "aligned", f"{dataset}.h5")
        self.pretrained = Path("pretrained", dataset)
        self.models = Path("models", dataset)
        self.ablations = Path("ablations", dataset)
        self.metrics = Path("metrics", dataset)
        self.report = Path("reports", dataset)

    @property
    def encoder(self) -> TextEncoder | None:
        """The text encoder that is fine-tuned with the model; None without fine-tuning."""
        if not self.settings.configuration.trains_encoder:
            return None
        from dhmd.data.text.encoder import load_encoder

        return load_encoder(self.settings.features.encoder, self.root)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The outputs that the stage has written, as dvc.yaml lists them."""
        outputs = {
            "download": (self.raw,),
            "align": (self.aligned,),
            "pretrain": (self.pretrained,),
            "train": (self.models,),
            "ablate": (self.ablations,),
            "evaluate": tuple(sorted(self.metrics.glob("*"))),
            "report": (self.report / "index.html",),
        }
        return outputs.get(self.name, ())

    @property
    def params(self) -> dict[str, object]:
        """The settings that can change a result; without addresses, which may contain secrets."""
        settings = self.settings
        sections = {
            name: value
            for name, value in vars(settings).items()
            if name not in ("dataset", "recipe", "data", "gate", "compute", "tracking")
        }
        data = {"alignment": settings.data.alignment, "fold": settings.data.fold}
        return {"recipe": settings.recipe.definition(), "data": data, **sections}

    @contextmanager
    def training_observer(self, output: Path) -> Iterator[Observer]:
        """Yield an observer of the training that writes `output`, for the log and MLflow."""
        from dhmd.training.observer import LogObserver, ManyObservers

        with tracked(
            self.settings.tracking,
            root=self.root,
            stage=self.name,
            dataset=self.dataset,
            output=output,
            lock=self.lock,
        ) as tracker:
            yield ManyObservers(LogObserver(), tracker)


def run(name: str, work: Callable[[Stage], None]) -> NoReturn:
    """Run the stage for the dataset on the command line, and exit."""
    sys.exit(run_stage(name, work, sys.argv[1:]))


def run_stage(name: str, work: Callable[[Stage], None], arguments: list[str]) -> int:
    """Run the stage and return the exit status."""
    try:
        if len(arguments) != 1:
            raise DhmdError(f"usage: python -m stages.{name} DATASET")
        _check_code_location()
        _handle_signals(name)
        settings = load_params(Path.cwd()).for_dataset(arguments[0])
        _prepare_environment(settings)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        for package in ("dhmd", "stages"):
            logging.getLogger(package).setLevel(logging.INFO)
        stage = Stage(name, arguments[0], settings)
        with _locked(stage), recorded(stage):
            work(stage)
    except DhmdError as error:
        print(f"stage {name}: {error}", file=sys.stderr)
        return 1
    return 0


def _check_code_location() -> None:
    """Check that dhmd was imported from the working folder.

    Raises:
        DhmdError: dhmd was imported from another folder.
    """
    imported_from, folder = Path(dhmd.__file__).resolve().parents[1], Path.cwd().resolve()
    if imported_from != folder:
        raise DhmdError(
            f"dhmd was imported from {imported_from}, but the stage runs in {folder} and must use "
            "the code there; run it as `python -m stages.<name>` from the repository's root, "
            "without PYTHONPATH and PYTHONSAFEPATH."
        )


def _handle_signals(name: str) -> None:
    """Exit at once on Ctrl-C, on SIGTERM and when the parent process exits.

    Outputs and checkpoints are written whole or not at all, so no cleanup is needed. A killed
    `dvc repro` must not leave a training behind that would write into the files of the next one.
    """

    def end(_signal: int, _frame: FrameType | None) -> None:
        os.write(2, f"stage {name}: interrupted\n".encode())
        os._exit(_INTERRUPTED)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    end_with_parent(signal.SIGKILL)
    if os.getppid() != PARENT:  # the parent was killed before the line above
        os._exit(_INTERRUPTED)


def _prepare_environment(settings: Settings) -> None:
    """Set the environment variables that numeric libraries read at import."""
    # Deterministic cuBLAS needs a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Waiting threads that spin would slow down other trainings on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    threads = settings.compute.threads
    if threads is not None:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[variable] = str(threads)


@contextmanager
def _locked(stage: Stage) -> Iterator[None]:
    """Lock this stage and dataset in this working folder inside the block."""
    try:
        stage.lock.parent.mkdir(parents=True, exist_ok=True)
        lock = try_lock(stage.lock)
    except OSError as error:
        raise DhmdError(f"cannot write {stage.lock}: {error.strerror}") from error
    if lock is None:
        raise DhmdError(
            f"another process runs stage {stage.name} of {stage.dataset} in this folder; "
            "wait until it has finished, or stop it."
        )
    try:
        yield
    finally:
        lock.release()
