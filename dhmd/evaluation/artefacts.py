"""Reads a model folder's `outputs.h5`: what training predicted, without torch.

S seeds, N utterances, M modalities, C classes, K dictionary codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError, first_line
from dhmd.evaluation.files import as_written
from dhmd.evaluation.metrics import Floats

OUTPUTS = "outputs.h5"
SPACES = ("homogeneous", "heterogeneous")


@dataclass(frozen=True)
class Outputs:
    """Predictions of one model folder.

    prediction: [S, N]; the class index for classification, whatever the folder holds.
    withheld: the same with the named modalities withheld.
    """

    path: Path
    task: str
    identity: str
    fold: str
    seeds: tuple[int, ...]
    modalities: tuple[str, ...]
    ids: tuple[str, ...]
    split: NDArray[np.str_]
    prediction: Floats
    withheld: Mapping[tuple[str, ...], Floats]

    def rows(self, split: str) -> NDArray[np.int64]:
        """The utterances of a split."""
        return np.flatnonzero(self.split == split)


def read_outputs(folder: Path) -> Outputs:
    """The predictions in a model folder.

    Raises:
        DhmdError: no such file, another layout, or a seed whose predictions are not finite: a
            diverged run is refused by name, never averaged.
    """
    with _opened(folder) as file:
        header = _header(file)
        seeds = header["seeds"]
        path = folder / OUTPUTS
        shape = (len(seeds), len(header["ids"]))

        def prediction(name: str) -> Floats:
            values = file[name][()]
            _refuse_unless(values.shape[:2] == shape, path, name, values.shape)
            return _predicted(values, header["task"], f"{path}, {name}", seeds)

        withheld = {
            tuple(name.split("+")): prediction(f"withheld/{name}")
            for name in file.get("withheld", {})
        }
        return Outputs(path, prediction=prediction("prediction"), withheld=withheld, **header)


def read_unimodal(folder: Path) -> dict[str, Outputs]:
    """The pretrained encoders' predictions, a modality each.

    Raises:
        DhmdError: as `read_outputs`.
    """
    with _opened(folder) as file:
        header = _header(file)
        values = file["prediction"][()]
        path = folder / OUTPUTS
        shape = (len(header["seeds"]), len(header["ids"]), len(header["modalities"]))
        _refuse_unless(values.shape[:3] == shape, path, "prediction", values.shape)
        return {
            modality: Outputs(
                path,
                prediction=_predicted(
                    values[:, :, index], header["task"], f"{path}, {modality}", header["seeds"]
                ),
                withheld={},
                **header,
            )
            for index, modality in enumerate(header["modalities"])
        }


def read_edges(folder: Path, space: str) -> Floats | None:
    """Edge weights [S, N, source, target] of a space; None where the model has no such edges."""
    with _opened(folder) as file:
        name = f"edges/{space}"
        return file[name][()].astype(np.float64) if name in file else None


def read_codes(folder: Path, space: str, rows: NDArray[np.int64]) -> Floats | None:
    """Dictionary activations [len(rows), M, K] of the first seed; None where there is none."""
    with _opened(folder) as file:
        name = f"codes/{space}"
        return file[name][()][rows].astype(np.float64) if name in file else None


def read_dictionary_statistics(folder: Path) -> dict[str, list[dict[str, float]]]:
    """What training counted of the dictionaries: space → one mapping a seed."""
    with _opened(folder) as file:
        statistics: dict[str, list[dict[str, float]]] = json.loads(
            file.attrs.get("dictionary_stats", "{}")
        )
        return statistics


@contextmanager
def _opened(folder: Path) -> Iterator[h5py.File]:
    path = folder / OUTPUTS
    if not path.is_file():
        raise DhmdError(f"{path} does not exist; run the stage that writes {folder}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise DhmdError(f"{path} is not readable as a model's outputs: {first_line(error)}") from (
            error
        )


def _header(file: h5py.File) -> dict[str, Any]:
    return {
        "task": str(file.attrs["task"]),
        "identity": str(file.attrs["identity"]),
        "fold": str(file.attrs["fold"]),
        "seeds": tuple(int(seed) for seed in file.attrs["seeds"]),
        "modalities": tuple(json.loads(file.attrs["modalities"])),
        "ids": tuple(file["ids"].asstr()[()]),
        "split": file["split"].asstr()[()].astype(np.str_),
    }


def _predicted(values: NDArray[Any], task: str, where: str, seeds: tuple[int, ...]) -> Floats:
    """Predictions as they are scored, checked to be finite."""
    finite = np.isfinite(values).reshape(len(seeds), -1).all(1)
    if not finite.all():
        diverged = ", ".join(
            str(seed) for seed, good in zip(seeds, finite, strict=True) if not good
        )
        raise DhmdError(
            f"{where}: seed {diverged} diverged (predictions that are not finite); "
            "lower train.lr or leave the seed out of train.seeds"
        )
    if task == "classification":
        chosen: Floats = values.argmax(-1).astype(np.float64)
        return chosen
    return as_written(values)


def _refuse_unless(fits: bool, path: Path, name: str, shape: tuple[int, ...]) -> None:
    if not fits:
        raise DhmdError(f"{path}: {name} has the shape {shape}, which fits neither ids nor seeds")
