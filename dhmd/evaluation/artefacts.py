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

from dhmd.base.artefacts import checked_artefact
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS, check_group
from dhmd.evaluation.files import as_written
from dhmd.evaluation.metrics import Floats, Ints

OUTPUTS = "outputs.h5"
SPACES = ("homogeneous", "heterogeneous")


@dataclass(frozen=True)
class Outputs:
    """Predictions of one model folder, NaN where it says nothing.

    prediction: [S, N]; the class index for classification, whatever the folder holds.
    withheld: the same with the named modalities withheld, on the test split.
    """

    path: Path
    task: str
    identity: str
    fold: str
    seeds: tuple[int, ...]
    modalities: tuple[str, ...]
    ids: tuple[str, ...]
    prediction: Floats
    withheld: Mapping[tuple[str, ...], Floats]

    def by_seed(self, values: Floats, rows: Ints, what: str) -> dict[int, Floats]:
        """`prediction` or one of `withheld` on some rows, [len(rows)] a seed.

        Raises:
            DhmdError: a seed whose values are not finite: a diverged run is refused by name, never
                averaged.
        """
        chosen = values[:, rows]
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(chosen).all(1))
        if not finite.all():
            names = ", ".join(
                str(s) for s, good in zip(self.seeds, finite, strict=True) if not good
            )
            raise DhmdError(
                f"{self.path}, {what}: seed {names} diverged (predictions that are not finite); "
                "lower train.lr or leave the seed out of train.seeds"
            )
        return dict(zip(self.seeds, chosen, strict=True))


def read_outputs(folder: Path) -> Outputs:
    """The predictions in a model folder.

    Raises:
        DhmdError: no such file, or another layout.
    """
    with _opened(folder) as file:
        header = _header(file)
        path = folder / OUTPUTS
        shape = (len(header["seeds"]), len(header["ids"]))

        def prediction(name: str) -> Floats:
            values = file[name][()]
            _refuse_unless(values.shape[:2] == shape, path, name, values.shape)
            return _predicted(values, header["task"])

        withheld = {
            tuple(name.split("+")): prediction(f"withheld/{name}")
            for name in file.get("withheld", {})
        }
        return Outputs(path, prediction=prediction("prediction"), withheld=withheld, **header)


def read_unimodal(folder: Path) -> dict[str, Outputs]:
    """The pretrained encoders' predictions, a modality each; NaN where the modality is absent.

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
                prediction=_predicted(values[:, :, index], header["task"]),
                withheld={},
                **header,
            )
            for index, modality in enumerate(header["modalities"])
        }


def read_edges(folder: Path, space: str) -> Floats | None:
    """Edge weights [S, N, source, target] of a space; None where the model has no such edges."""
    with _opened(folder) as file:
        name = f"edges/{space}"
        if name not in file:
            return None
        values, header = file[name][()], _header(file)
        sizes = [len(header[key]) for key in ("seeds", "ids", "modalities", "modalities")]
        _refuse_unless(values.shape == tuple(sizes), folder / OUTPUTS, name, values.shape)
        return np.asarray(values, dtype=np.float64)


def read_codes(folder: Path, space: str, rows: Ints) -> Floats | None:
    """Dictionary activations [len(rows), M, K] of the first seed; None where there is none."""
    with _opened(folder) as file:
        name = f"codes/{space}"
        if name not in file:
            return None
        values, header = file[name][()], _header(file)
        sizes = (len(header["ids"]), len(header["modalities"]))
        fits = values.ndim == 3 and values.shape[:2] == sizes
        _refuse_unless(fits, folder / OUTPUTS, name, values.shape)
        return np.asarray(values[rows], dtype=np.float64)


def read_dictionary_statistics(folder: Path) -> dict[str, list[dict[str, float]]]:
    """What training counted of the dictionaries: space → one mapping a seed."""
    with _opened(folder) as file:
        statistics: dict[str, list[dict[str, float]]] = json.loads(
            file.attrs.get("dictionary_stats", "{}")
        )
        return statistics


@contextmanager
def _opened(folder: Path) -> Iterator[h5py.File]:
    path = checked_artefact(folder, OUTPUTS)
    try:
        with h5py.File(path, "r") as file:
            check_group(file, str(path))
            yield file
    except READ_ERRORS as error:
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
    }


def _predicted(values: NDArray[Any], task: str) -> Floats:
    """Predictions as they are scored: the most probable class, or the number as written."""
    if task == "classification":
        known = np.isfinite(values).all(-1)
        return np.where(known, values.argmax(-1).astype(np.float64), np.nan)
    return as_written(values)


def _refuse_unless(fits: bool, path: Path, name: str, shape: tuple[int, ...]) -> None:
    if not fits:
        raise DhmdError(f"{path}: {name} has the shape {shape}, which fits neither ids nor seeds")
