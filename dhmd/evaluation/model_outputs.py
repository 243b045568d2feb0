"""Read `outputs.h5` of a model directory: what a trained model predicted, without PyTorch.

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
# Groups of arrays, as training names them: predictions without some modalities (or, with a prefix
# of the name, with noise instead), weights of the distillation graph, outputs of the auxiliary
# heads, dictionary activations, pooled features.
MISSING_GROUP, NOISE = "missing", "noise for "
EDGES, AUXILIARY, CODES, EMBEDDING = "edges", "vertex", "codes", "embedding"


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """Outputs of one model for every utterance; NaN where the model gives none.

    Attributes:
        identity: identity of the aligned dataset.
        prediction_EN: predictions; class indices for classification, sets of classes as numbers
            for a multi-label task.
        missing: what is missing → test predictions [E, N].
        arrays: every dataset of the file as it is stored, by name.
        dictionary_statistics: space → statistics per seed, as computed after training.
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
        return group(self.arrays, EDGES)

    @property
    def codes(self) -> dict[str, NDArray[Any]]:
        """Return the dictionary activations [N, M, K] of the first seed of each space."""
        return group(self.arrays, CODES)

    def by_seed(self, values_EN: Floats, rows: Ints, what: str) -> dict[int, Floats]:
        """Select rows of predictions; returns seed → [len(rows)].

        Raises:
            DhmdError: the values of a seed are not finite. A diverged seed is never averaged.
        """
        chosen = values_EN[:, rows]
        finite_E: NDArray[np.bool_] = np.asarray(np.isfinite(chosen).all(1))
        if not finite_E.all():
            diverged = [str(s) for s, ok in zip(self.seeds, finite_E, strict=True) if not ok]
            raise DhmdError(
                f"{self.path}, {what}: seeds that diverged: {', '.join(diverged)} (their "
                "predictions are not finite); lower train.lr or remove them from train.seeds"
            )
        return dict(zip(self.seeds, chosen, strict=True))


def read_outputs(folder: Path, *, interpretability: bool = False) -> ModelOutputs:
    """Read the predictions in a model directory; also edges, codes and statistics if asked."""
    found: dict[str, Any] = {}
    with _open(folder) as (file, header):
        task, e, n = header["task"], len(header["seeds"]), len(header["ids"])
        m = len(header["modalities"])
        # The first axes of the groups that not only this function reads.
        axes = {MISSING_GROUP: (e, n), EDGES: (e, n, m, m), AUXILIARY: (e, n, m)}
        axes |= {CODES: (n, m), EMBEDDING: (n, m)}
        names = [f"{name}/{key}" for name in axes for key in file.get(name, ())]
        if not interpretability:
            names = [name for name in names if name.startswith(f"{MISSING_GROUP}/")]
        arrays = {name: _array(file, name, *axes[name.partition("/")[0]]) for name in names}
        arrays["prediction"] = _array(file, "prediction", e, n)
        missing = group(arrays, MISSING_GROUP)
        if interpretability:
            statistics = json.loads(file.attrs.get("dictionary_stats", "{}"))
            found = {"arrays": arrays, "dictionary_statistics": statistics}
        return ModelOutputs(
            **header,
            prediction_EN=_predictions(arrays["prediction"], task),
            missing={name: _predictions(values, task) for name, values in missing.items()},
            **found,
        )


def group(arrays: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a group by the rest of their names, the spaces in their usual order."""
    found = {
        key.partition("/")[2]: values
        for key, values in arrays.items()
        if key.startswith(f"{name}/")
    }
    first = [space for space in SPACES if space in found]
    return {key: found[key] for key in dict.fromkeys([*first, *found])}


def read_unimodal(folder: Path) -> dict[str, ModelOutputs]:
    """Read the pretrained encoders' predictions, modality → outputs; NaN where it is absent."""
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
    """Open the file of a model directory; yield it and the attributes that all files have."""
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
        raise ValueError(f"{name} has the shape {values.shape}, but must begin with {sizes}")
    return values


def _predictions(values: NDArray[Any], task: str) -> Floats:
    """Return predictions as they are scored.

    They are the number as written, the most probable class, or the set of the classes whose
    probability is above ½.
    """
    classes = task != "regression"
    if values.ndim != (3 if classes else 2):
        raise ValueError(f"the predictions of a {task} have the shape {values.shape}")
    if classes:
        known = np.isfinite(values).all(-1)
        if task == "multilabel":
            return encode_sets(values - 0.5)
        return np.where(known, values.argmax(-1).astype(np.float64), np.nan)
    return decimal_round_trip(values)
