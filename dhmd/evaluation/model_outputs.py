"""Read `outputs.h5` of a model directory: the outputs of a trained model, without PyTorch.

E ensemble members (seeds), N utterances, M modalities, K dictionary codes, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS, check_group
from dhmd.base.label_sets import encode_sets
from dhmd.evaluation.files import decimal_round_trip
from dhmd.evaluation.metrics import Floats, Ints

OUTPUTS = "outputs.h5"
SPACES = ("homogeneous", "heterogeneous")
# HDF5 groups of arrays: predictions with modalities dropped (or replaced by noise: the name of the
# array has the prefix), weights of the distillation graph, outputs of the auxiliary heads,
# dictionary activations, pooled features.
MISSING_GROUP, NOISE_PREFIX = "missing", "noise for "
EDGES, AUXILIARY, CODES, EMBEDDING = "edges", "vertex", "codes", "embedding"


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """Outputs of one model for every utterance; NaN where the model has no output.

    Attributes:
        path: the file.
        identity: hash of the aligned dataset.
        ids: ids of the N utterances.
        prediction_EN: numbers; class indices for classification; sets of classes, encoded as
            numbers, for a multi-label task.
        missing: test predictions [E, N] by condition of the missing-modality test.
        arrays: the arrays as stored, by HDF5 name; empty unless read with `interpretability`.
        dictionary_statistics: statistics per seed of each space, as computed after training.
    """

    path: Path
    task: str
    identity: str
    fold: str
    seeds: tuple[int, ...]
    modalities: tuple[str, ...]
    ids: tuple[str, ...]
    prediction_EN: Floats
    missing: Mapping[str, Floats] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    dictionary_statistics: Mapping[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def edges(self) -> dict[str, NDArray[Any]]:
        """Return the edge weights [E, N, source, target] of each space."""
        return arrays_in_group(self.arrays, EDGES)

    @property
    def codes(self) -> dict[str, NDArray[Any]]:
        """Return the dictionary activations [N, M, K] of the first seed of each space."""
        return arrays_in_group(self.arrays, CODES)

    def by_seed(
        self, rows: Ints, values_EN: Floats | None = None, what: str = "prediction"
    ) -> dict[int, Floats]:
        """Select the predictions of utterances.

        Args:
            rows: indices of the utterances.
            values_EN: other predictions of the model than `prediction_EN`.
            what: name of the values, for the message.

        Returns:
            Predictions [len(rows)] of each seed.

        Raises:
            DhmdError: the values of a seed are not finite, because it diverged in training.
        """
        selected = (self.prediction_EN if values_EN is None else values_EN)[:, rows]
        finite_E: NDArray[np.bool_] = np.asarray(np.isfinite(selected).all(1))
        if not finite_E.all():
            diverged = [str(s) for s, ok in zip(self.seeds, finite_E, strict=True) if not ok]
            raise DhmdError(
                f"{self.path}, {what}: seeds that diverged: {', '.join(diverged)} (their "
                "predictions are not finite); lower train.lr or remove the seeds from train.seeds"
            )
        return dict(zip(self.seeds, selected, strict=True))


def read_outputs(folder: Path, *, interpretability: bool = False) -> ModelOutputs:
    """Read the outputs in a model directory.

    Args:
        folder: a directory that `train` or `ablate` wrote.
        interpretability: whether to read `arrays` and `dictionary_statistics`, too.

    Raises:
        DhmdError: the file is missing or damaged.
    """
    optional: dict[str, Any] = {}
    with _open(folder) as (file, header):
        task, e, n = header["task"], len(header["seeds"]), len(header["ids"])
        m = len(header["modalities"])
        axes = {MISSING_GROUP: (e, n), EDGES: (e, n, m, m), AUXILIARY: (e, n, m)}
        axes |= {CODES: (n, m), EMBEDDING: (n, m)}
        names = [f"{name}/{key}" for name in axes for key in file.get(name, ())]
        if not interpretability:
            names = [name for name in names if name.startswith(f"{MISSING_GROUP}/")]
        arrays = {name: _array(file, name, *axes[name.partition("/")[0]]) for name in names}
        arrays["prediction"] = _array(file, "prediction", e, n)
        missing = arrays_in_group(arrays, MISSING_GROUP)
        if interpretability:
            statistics = json.loads(file.attrs.get("dictionary_stats", "{}"))
            optional = {"arrays": arrays, "dictionary_statistics": statistics}
        return ModelOutputs(
            **header,
            prediction_EN=_predictions(arrays["prediction"], task),
            missing={name: _predictions(values, task) for name, values in missing.items()},
            **optional,
        )


def arrays_in_group(arrays: Mapping[str, NDArray[Any]], group: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of an HDF5 group by their names in it, in the order of `SPACES`."""
    members = {
        name.partition("/")[2]: values
        for name, values in arrays.items()
        if name.startswith(f"{group}/")
    }
    spaces = [space for space in SPACES if space in members]
    return {name: members[name] for name in dict.fromkeys([*spaces, *members])}


def read_unimodal(folder: Path) -> dict[str, ModelOutputs]:
    """Read the predictions of the pretrained encoders.

    Returns:
        Outputs of each modality; NaN for utterances without the modality.
    """
    with _open(folder) as (file, header):
        names = header["modalities"]
        values = _array(file, "prediction", len(header["seeds"]), len(header["ids"]), len(names))
        predictions = [_predictions(values[:, :, m], header["task"]) for m in range(len(names))]
    return {
        name: ModelOutputs(**header, prediction_EN=p_EN)
        for name, p_EN in zip(names, predictions, strict=True)
    }


@contextmanager
def _open(folder: Path) -> Iterator[tuple[h5py.File, dict[str, Any]]]:
    """Open the outputs of a model directory; yield the file and the fields that all files have."""
    path = folder / OUTPUTS
    if not path.is_file():
        raise DhmdError(f"{path} does not exist; run the stage that writes {folder}")
    try:
        with h5py.File(path, "r") as file:
            check_group(file, str(path))
            yield (
                file,
                {
                    "path": path,
                    "task": str(file.attrs["task"]),
                    "identity": str(file.attrs["identity"]),
                    "fold": str(file.attrs["fold"]),
                    "seeds": tuple(int(seed) for seed in file.attrs["seeds"]),
                    "modalities": tuple(json.loads(file.attrs["modalities"])),
                    "ids": tuple(file["ids"].asstr()[()]),
                },
            )
    except READ_ERRORS as error:
        raise DhmdError(
            f"{path} is not readable as a model's outputs ({first_line(error)}); run the stage "
            f"that writes {folder}"
        ) from error


def _array(file: h5py.File, name: str, *sizes: int) -> NDArray[Any]:
    """Read a dataset whose first axes have the given sizes."""
    values: NDArray[Any] = file[name][()]
    if values.shape[: len(sizes)] != sizes:
        raise ValueError(f"{name} has the shape {values.shape}, but must start with {sizes}")
    return values


def _predictions(values: NDArray[Any], task: str) -> Floats:
    """Convert model outputs to the predictions [E, N] that are scored.

    Args:
        values: numbers [E, N] of a regression, else class probabilities [E, N, C].

    Returns:
        The number as written, the index of the most probable class, or the set of the classes with
        a probability above ½.
    """
    if values.ndim != (2 if task == "regression" else 3):
        raise ValueError(f"the predictions of a {task} task have the shape {values.shape}")
    if task == "regression":
        return decimal_round_trip(values)
    if task == "multilabel":
        return encode_sets(values - 0.5)
    finite = np.isfinite(values).all(-1)
    return np.where(finite, values.argmax(-1).astype(np.float64), np.nan)
