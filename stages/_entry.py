"""What every stage does around its work.

`python -m stages.<name> <dataset>` puts the working folder first on the import path, so that a
queued or temporary experiment runs its own copy of the code; `run` refuses to go on where that is
not so. It also sets what must be set before torch starts, keeps two processes of one stage apart,
turns a user's mistake into one line, and records the run.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.base.lifetime import end_with_parent
from dhmd.recipes import repository_root
from dhmd.settings import Settings, load_params
from stages import PARENT
from stages._record import recorded

if TYPE_CHECKING:
    from dhmd.data.text.encoder import Encoder
    from dhmd.training.observer import Observer

_INTERRUPTED = 130  # as a shell says it of Ctrl-C

_stopped: list[bool] = []  # holds something once the process was told to stop


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of one dataset: its settings and the places of all outputs."""

    name: str
    dataset: str
    settings: Settings

    @property
    def root(self) -> Path:
        """The repository that the user works in, also where this runs in a copy of it."""
        return repository_root()

    @property
    def trainings(self) -> Path:
        """The store of finished trainings, which DVC does not remove before a stage."""
        return self.root / ".dhmd" / "trainings"

    @property
    def raw(self) -> Path:
        return Path("data", "raw", self.dataset)

    @property
    def aligned(self) -> Path:
        return Path("data", "aligned", f"{self.dataset}.h5")

    @property
    def pretrained(self) -> Path:
        return Path("pretrained", self.dataset)

    @property
    def models(self) -> Path:
        return Path("models", self.dataset)

    @property
    def ablations(self) -> Path:
        return Path("ablations", self.dataset)

    @property
    def metrics(self) -> Path:
        return Path("metrics", self.dataset)

    @property
    def report(self) -> Path:
        return Path("reports", self.dataset)

    @property
    def encoder(self) -> Encoder | None:
        """The encoder of text that is to be trained along, if one is."""
        if not self.settings.configuration.trains_encoder:
            return None
        from dhmd.data.text.encoder import load_encoder

        return load_encoder(self.settings.features.encoder, self.root)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """What the stage has written, as dvc.yaml lists it."""
        made = {
            "download": (self.raw,),
            "align": (self.aligned,),
            "pretrain": (self.pretrained,),
            "train": (self.models,),
            "ablate": (self.ablations,),
            "evaluate": tuple(sorted(self.metrics.glob("*"))),
            "report": (self.report / "index.html",),
        }
        return made.get(self.name, ())

    @property
    def params(self) -> dict[str, object]:
        """All that may have made a difference, the recipe's values filled in.

        Not where the files come from: places tell nothing of the content, and may hold secrets.
        """
        settings = self.settings
        sections = {
            name: value
            for name, value in vars(settings).items()
            if name not in ("dataset", "recipe", "data", "gate", "tracking")
        }
        data = {"alignment": settings.data.alignment, "fold": settings.data.fold}
        return {"recipe": settings.recipe.corpus(), "data": data, **sections}

    @contextmanager
    def observed(self, output: Path) -> Iterator[Observer]:
        """Who watches the training that writes `output`: a line an epoch, and MLflow."""
        from dhmd.tracking import open_tracker
        from dhmd.training.observer import LogObserver, ManyObservers

        with open_tracker(
            self.settings.tracking,
            root=self.root,
            dataset=self.dataset,
            stage=self.name,
            outputs=output,
        ) as tracker:
            yield ManyObservers(LogObserver(), tracker)


def run(name: str, work: Callable[[Stage], None]) -> NoReturn:
    """Run the stage for the dataset that the command line names, and exit."""
    status = _status(name, work, sys.argv[1:])
    if status == _INTERRUPTED:
        # Not through Python's end: h5py, stopped in the middle, has left a complaint in stdout's
        # buffer, and others complain while they are tidied up. Stages themselves say all on stderr.
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _status(name: str, work: Callable[[Stage], None], arguments: list[str]) -> int:
    try:
        if len(arguments) != 1:
            raise DhmdError(f"usage: python -m stages.{name} DATASET")
        _refuse_foreign_code()
        _die_with_parent()
        dataset = arguments[0]
        settings = load_params(Path.cwd()).for_dataset(dataset)
        _prepare_environment(settings)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        for ours in ("dhmd", "stages"):
            logging.getLogger(ours).setLevel(logging.INFO)  # other libraries talk at length
        stage = Stage(name=name, dataset=dataset, settings=settings)
        with _alone(name, dataset), recorded(stage):
            work(stage)
        _listen_no_more()
    except (Exception, KeyboardInterrupt) as error:
        _listen_no_more()
        # In a callback of HDF5 an interruption turns into any other exception.
        if _stopped or isinstance(error, KeyboardInterrupt):
            print(f"stage {name}: interrupted", file=sys.stderr)
            return _INTERRUPTED
        if not isinstance(error, DhmdError):
            raise
        print(f"stage {name}: {error}", file=sys.stderr)
        return 1
    return 0


def _refuse_foreign_code() -> None:
    found = Path(dhmd.__file__).resolve().parents[1]
    here = Path.cwd().resolve()
    if found != here:
        raise DhmdError(
            f"dhmd was imported from {found}, but the stage runs in {here} and must use the code "
            "there; run it as `python -m stages.<name>` from the repository's root, without "
            "PYTHONPATH and PYTHONSAFEPATH"
        )


def _prepare_environment(settings: Settings) -> None:
    """Set what the numeric libraries read once, when they are loaded."""
    # Deterministic cuBLAS needs a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Threads that spin while they wait make two trainings on one machine stand still.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    threads = settings.train.threads
    if threads is not None:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[variable] = str(threads)


def _die_with_parent() -> None:
    """A killed `dvc repro` must not leave a training behind that writes into the next one's."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGALRM, _stop)
    sys.unraisablehook = _not_heard
    if sys.platform == "linux":
        end_with_parent(signal.SIGTERM)
        if _orphaned():  # it was killed before the line above
            raise KeyboardInterrupt


def _stop(_signal: int, frame: FrameType | None) -> None:
    _stopped.append(True)
    if _importing(frame):
        # C++ of torch's modules ends the process with a crash when an import in it is interrupted.
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _listen_no_more() -> None:
    """The work is over: a further signal ends the process at once and without words."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _not_heard(lost: sys.UnraisableHookArgs) -> None:
    """Stop again: Python calls `_stop` anywhere, and within a `__del__` its exception is lost."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(lost)


def _orphaned() -> bool:
    parent = os.getppid()
    if parent != PARENT:
        return True
    if parent != 1 or "DVC_STAGE" not in os.environ:
        return False
    # DVC started this, and has process 1 for a parent only where it is itself process 1.
    try:
        command = Path("/proc/1/cmdline").read_bytes()
    except OSError:
        return False
    return b"dvc" not in command and b"python" not in command


@contextmanager
def _alone(name: str, dataset: str) -> Iterator[None]:
    """Hold the lock of this stage and dataset in this working folder."""
    folder = Path(".dhmd", "locks")
    path = folder / f"{name}-{dataset}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed below, with the lock
    except OSError as error:
        raise DhmdError(f"cannot write {path}: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DhmdError(
                f"{name} of {dataset} is already running in this folder; wait for it or end it"
            ) from error
        yield
