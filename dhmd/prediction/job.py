"""Predict new utterances with a trained model: utterances -> model -> CSV table.

The table of a regression has the columns `id,start,end,mean,seed_1,…`. In a classification `mean`
and each seed are names of classes, each followed by its probability,
`mean,mean_probability,seed_1,seed_1_probability,…`; the mean is over the seeds' probabilities. In a
multi-label task they are the classes above ½, `happy+sad`, followed by each class's probability,
`mean,mean_happy,mean_sad,…,seed_1,seed_1_happy,…`.

S seeds, N utterances, O outputs (1, or C classes), M modalities.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import check_output, write_text
from dhmd.base.label_sets import set_names
from dhmd.data.alignment import Origin, WordEncoder
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.prediction.utterances import Utterances, read_csd_folder
from dhmd.recipes import repository_root
from dhmd.training.compute import ComputeConfig
from dhmd.training.device import prepared
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.history import HISTORY
from dhmd.training.trainer import predictions
from dhmd.training.weights import Description, load_model, read_description

Array = np.ndarray[Any, Any]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Predicted:
    """What was written: number of segments, seeds, and warnings for the user."""

    segments: int
    seeds: tuple[int, ...]
    notes: tuple[str, ...]


def predict_folder(
    model: Path,
    folder: Path,
    output: Path,
    *,
    segments: Path | None = None,
    device: Device = "auto",
) -> Predicted:
    """Predict every segment with every seed of a model; `output` is written whole or not at all.

    Args:
        model: a model directory; nothing else of the project is read.
        folder: new `.csd` files with the names that the model's training data had.
        output: a CSV file outside the model directory.
        segments: the segments of the videos (CSV or `.csd`); None for one segment per video.
        device: where to compute.

    Raises:
        DhmdError: bad input; nothing is written.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DhmdError("--device is cuda, but torch sees no GPU here; use auto or cpu")
    description = read_description(model)
    if description.origin is None:
        raise DhmdError(
            f"{model} does not describe how its training data was aligned from .csd files: it was "
            "trained on aligned files or by an older version; train on .csd files to predict them"
        )
    _check_description(description, model)
    origin = Origin.from_json(description.origin, f"{model}/model.json")
    inputs = [*folder.glob("*.csd"), *([] if segments is None else [segments])]
    check_output(output, inputs=inputs, input_folders=[model])
    utterances = read_csd_folder(
        folder,
        segments,
        origin=origin,
        dataset=description.dataset,
        alignment="word" if description.alignment == "word" else "none",
        features={name: description.features[name] for name in description.inputs},
        encoder=_encoder(origin, description, device),
    )
    with prepared(ComputeConfig(device=device)) as torch_device:
        learner, members, description = load_model(model, torch_device)
        prediction_SNO = _predict(learner, members, description, utterances)
    converged_S, notes = _converged(model, description.seeds, prediction_SNO)
    seeds = tuple(np.array(description.seeds)[converged_S].tolist())
    text = table_text(
        utterances,
        seeds,
        prediction_SNO[converged_S],
        description.class_names,
        multilabel=description.task.multilabel,
    )
    write_text(output, text)
    return Predicted(len(utterances.ids), seeds, (*utterances.notes, *notes))


def _encoder(origin: Origin, description: Description, device: Device) -> WordEncoder | None:
    """Return the word encoder of the training data, if the model reads its vectors.

    Raises:
        DhmdError: it is not available, or was trained along with the model.
    """
    if origin.encoder is None or "text" not in description.inputs:
        return None
    if origin.encoder.trained:
        raise DhmdError(
            f"the model of {description.dataset} was trained together with its text encoder "
            "(features.text: finetune) and cannot predict new files; train with features.text: "
            "contextual"
        )
    from dhmd.data.text.contextual import reopen_contextual

    return reopen_contextual(origin.encoder, repository_root(), device=device)


def _check_description(description: Description, model: Path) -> None:
    """Check that model.json describes the features of every modality consistently."""
    if description.alignment not in ("word", "none"):
        raise DhmdError(f"{model}/model.json has the alignment {description.alignment!r}")
    for name in description.configuration.modalities:
        rule, names = description.normalisation.get(name), description.features.get(name)
        if rule is None or names is None:
            raise DhmdError(f"{model}/model.json is damaged: it does not describe {name}")
        if not rule.mean_I.shape == rule.std_I.shape == (len(names),):
            raise DhmdError(f"{model}/model.json is damaged: {name}'s normalisation does not fit")


def _predict(
    learner: Learner, members: Members, description: Description, utterances: Utterances
) -> Array:
    """Return values [S, N, 1] or probabilities [S, N, C]."""
    data = DeviceCorpus(
        dict(zip(description.inputs, utterances.lengths, strict=True)),
        {
            name: description.normalisation[name](values)
            for name, values in zip(description.inputs, utterances.values, strict=True)
        },
        np.full(len(utterances.ids), np.nan),
        members.device,
        together=description.alignment == "word",
    )
    task, rows = description.task, np.arange(len(utterances.ids))
    shape = (members.count, len(rows), task.outputs)
    found = np.full(shape, np.nan, dtype=np.float32)
    buckets = description.configuration.train.buckets
    for some, output_EBO in predictions(learner, members, data, rows, buckets):
        with torch.no_grad():
            found[:, some] = task.predictions(output_EBO).cpu().numpy()
    return found


def _converged(
    model: Path, seeds: tuple[int, ...], prediction_SNO: Array
) -> tuple[Array, list[str]]:
    """Return which seeds did not diverge [S], and a warning for each one that did.

    A seed diverged if the training history (which may be missing) marks it, or if its predictions
    are not finite.

    Raises:
        DhmdError: every seed diverged.
    """
    diverged: set[int] = set()
    history = model / HISTORY
    if history.is_file():
        try:
            with open(history, newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            diverged = {int(row["seed"]) for row in rows if row["name"] == "diverged"}
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise DhmdError(f"{history} is damaged: {first_line(error)}") from error
    finite_S = np.isfinite(prediction_SNO).all((1, 2))
    converged_S = np.array([seed not in diverged for seed in seeds]) & finite_S
    if not converged_S.any():
        raise DhmdError(f"every seed of {model} diverged in training: train again")
    lost = [seed for seed, converged in zip(seeds, converged_S, strict=True) if not converged]
    return converged_S, [f"seed {seed} diverged in training and is left out" for seed in lost]


def table_text(
    utterances: Utterances,
    seeds: Sequence[int],
    prediction_SNO: Array,
    class_names: Sequence[str],
    *,
    multilabel: bool = False,
) -> str:
    """Return the CSV table; numbers have the fewest digits that restore them (as float32)."""
    start_N, end_N = utterances.intervals_N2.T
    columns: dict[str, Any] = {"id": utterances.ids, "start": start_N, "end": end_N}
    mean_NO = prediction_SNO.mean(0, dtype=np.float64).astype(np.float32)
    names = ["mean", *(f"seed_{seed}" for seed in seeds)]
    for name, prediction_NO in zip(names, [mean_NO, *prediction_SNO], strict=True):
        if multilabel:
            columns[name] = set_names(prediction_NO > 0.5, class_names)
            for label, probability_N in zip(class_names, prediction_NO.T, strict=True):
                columns[f"{name}_{label}"] = probability_N.astype(np.float32)
        elif class_names:
            columns[name] = [class_names[index] for index in prediction_NO.argmax(-1)]
            columns[f"{name}_probability"] = prediction_NO.max(-1).astype(np.float32)
        else:
            columns[name] = prediction_NO[:, 0].astype(np.float32)
    return pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")
