"""Tiny corpora, pretrained encoders and models that tests share, and helpers to compare outputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dhmd.training.configuration import Configuration
from dhmd.training.jobs import ablate_job, pretrain_job, train_job
from dhmd.training.observer import NULL_OBSERVER, Observer
from tests.training.corpora import TINY, tiny_aligned

pretrain, train, ablate = pretrain_job, train_job, ablate_job


class TinyArtefacts:
    """Aligned features files, pretrained encoders and models, made once when a test needs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def aligned(self, task: str = "regression", alignment: str = "word") -> Path:
        path = self.folder / f"{task}-{alignment}.h5"
        return path if path.exists() else tiny_aligned(path, task, alignment)

    def pretrained(self, task: str = "regression", alignment: str = "word") -> Path:
        folder = self.folder / f"{task}-{alignment}"
        if not folder.exists():
            pretrain(TINY, self.aligned(task, alignment), folder, self.folder / "store")
        return folder

    def model(self, task: str = "regression") -> Path:
        """Return a model folder; copy it before changing it."""
        folder = self.folder / f"model-{task}"
        if not folder.exists():
            train(TINY, self.aligned(task), self.pretrained(task), folder, self.folder / "store")
        return folder

    def train(
        self, configuration: Configuration, folder: Path, observer: Observer = NULL_OBSERVER
    ) -> None:
        """Train a model of the regression task, `folder/m`, with the store `folder/s`."""
        aligned, pretrained = self.aligned(), self.pretrained()
        train(configuration, aligned, pretrained, folder / "m", folder / "s", observer)


@pytest.fixture(scope="session")
def tiny_artefacts(tmp_path_factory: pytest.TempPathFactory) -> TinyArtefacts:
    return TinyArtefacts(tmp_path_factory.mktemp("tiny"))


# A script without `if __name__ == "__main__"`. A shell starts its background commands with SIGINT
# ignored, and they pass that on.
_DRIVER = """
import json, logging, signal, sys
from pathlib import Path
from dhmd.training.configuration import Configuration
from dhmd.training.jobs import train_job
from dhmd.training.observer import LogObserver
signal.signal(signal.SIGINT, signal.default_int_handler)
logging.basicConfig(level=logging.INFO)
configuration, aligned, pretrained, folder = sys.argv[1:]
train_job(Configuration.from_json(json.loads(configuration), "here"), Path(aligned),
          Path(pretrained), Path(folder, "m"), observer=LogObserver(), store=Path(folder, "s"))
"""


def start_driver(configuration: Configuration, tiny_artefacts: TinyArtefacts, folder: Path) -> Any:
    """Train in another process, whose working folder is `folder`."""
    arguments = [
        json.dumps(configuration.as_json()),
        tiny_artefacts.aligned(),
        tiny_artefacts.pretrained(),
        folder,
    ]
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, *map(str, arguments)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_outputs(folder: Path) -> dict[str, Any]:
    """Return the datasets and attributes of outputs.h5 by name."""
    outputs: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            outputs[name] = item.asstr()[()] if item.dtype.kind == "O" else item[()]

    with h5py.File(folder / "outputs.h5", "r") as file:
        file.visititems(visit)
        outputs["attributes"] = dict(file.attrs)
    return outputs


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file by its path in the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copy_folder(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def equal(one: Any, other: Any) -> bool:
    """Return whether all entries are equal, with NaN equal to NaN."""
    return bool(np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f"))
