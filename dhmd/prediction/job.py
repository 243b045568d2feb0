"""The prediction itself: model folder and input folder to one CSV file.

S seeds, N utterances, O outputs, M modalities.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dhmd.base.artefacts import checked_artefact
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import check_output, write_text
from dhmd.data.alignment import Origin, WordEncoder
from dhmd.models.registry import AnyModel
from dhmd.models.stacked.members import Members
from dhmd.prediction.table import table_text
from dhmd.prediction.utterances import Utterances, align_folder
from dhmd.recipes import repository_root
from dhmd.training.device import prepared
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.history import HISTORY
from dhmd.training.trainer import predictions
from dhmd.training.weights import Description, load_model, read_description

Array = np.ndarray[Any, Any]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Predicted:
    """What was written: so many segments, by these seeds; `notes` say what a user should know."""

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
    """Predict every segment with every seed of a model, and write `output`, whole or not at all.

    Args:
        model: a model folder; nothing else of the project is read.
        folder: new `.csd` files, named as the model's corpus had them.
        output: a CSV file, not in the model folder; see dhmd/prediction/table.py.
        segments: which pieces of the videos (CSV or `.csd`); None: each video is one.
        device: where to compute.

    Raises:
        DhmdError: bad input; nothing is written.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DhmdError("--device is cuda, but torch sees no GPU here; use auto or cpu")
    description, _ = read_description(model)
    if description.origin is None:
        raise DhmdError(
            f"{model} does not say how its corpus was aligned from .csd files: it was trained on "
            "files that came aligned, or by an older version; train on .csd files to predict such"
        )
    _check_description(description, model)
    origin = Origin.from_json(description.origin, f"{model}/model.json")
    inputs = [*folder.glob("*.csd"), *([] if segments is None else [segments])]
    check_output(output, inputs=inputs, input_folders=[model])
    utterances = align_folder(
        folder,
        segments,
        origin=origin,
        dataset=description.dataset,
        alignment="word" if description.alignment == "word" else "none",
        features={name: description.features[name] for name in description.inputs},
        encoder=_encoder(origin, description, device),
    )
    train = replace(description.configuration.train, device=device)
    with prepared(train) as place:
        learner, members, description = load_model(model, place)
        prediction_SNO = _predict(learner, members, description, utterances)
    sound, notes = _sound(model, description.seeds, prediction_SNO)
    seeds = tuple(seed for seed, fine in zip(description.seeds, sound, strict=True) if fine)
    text = table_text(
        utterances.ids,
        utterances.intervals_N2,
        seeds,
        prediction_SNO[sound],
        description.class_names,
    )
    write_text(output, text)
    return Predicted(len(utterances.ids), seeds, (*utterances.notes, *notes))


def _encoder(origin: Origin, description: Description, device: Device) -> WordEncoder | None:
    """The encoder that gave the corpus's words their vectors, if one did and the model reads them.

    Raises:
        DhmdError: it is not here, or the extra that runs it is not installed.
    """
    if origin.encoder is None or "text" not in description.inputs:
        return None
    if origin.encoder.trained:
        raise DhmdError(
            f"the model of {description.dataset} trained its encoder of text along (features.text: "
            "finetune), and new files cannot be predicted with such: train with features.text: "
            "contextual to predict"
        )
    from dhmd.data.contextual.opening import reopen_contextual

    return reopen_contextual(origin.encoder, repository_root(), device=device)


def _check_description(description: Description, model: Path) -> None:
    """What model.json says of features must be there for every modality, and fit together."""
    if description.alignment not in ("word", "none"):
        raise DhmdError(f"{model}/model.json has the alignment {description.alignment!r}")
    for name in description.configuration.modalities:
        rule, names = description.normalisation.get(name), description.features.get(name)
        if rule is None or names is None:
            raise DhmdError(f"{model}/model.json is damaged: it does not describe {name}")
        if not rule.mean_I.shape == rule.std_I.shape == (len(names),):
            raise DhmdError(f"{model}/model.json is damaged: {name}'s normalisation does not fit")


def _predict(
    learner: AnyModel, members: Members, description: Description, utterances: Utterances
) -> Array:
    """Values `[S, N, 1]`, or probabilities `[S, N, C]`."""
    data = DeviceCorpus(
        utterances.lengths,
        [
            description.normalisation[name](values)
            for name, values in zip(description.inputs, utterances.values, strict=True)
        ],
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
            found[:, some] = task.present(output_EBO).cpu().numpy()
    return found


def _sound(model: Path, seeds: tuple[int, ...], prediction_SNO: Array) -> tuple[Array, list[str]]:
    """`[S]` bool: seeds whose training did not diverge; the others have nothing to say.

    Raises:
        DhmdError: none is left.
    """
    diverged = _diverged(model)
    finite_S = np.isfinite(prediction_SNO).all((1, 2))
    sound_S = np.array([seed not in diverged for seed in seeds]) & finite_S
    if not sound_S.any():
        raise DhmdError(f"every seed of {model} diverged in training: train again")
    lost = [seed for seed, fine in zip(seeds, sound_S, strict=True) if not fine]
    return sound_S, [f"seed {seed} diverged in training and is left out" for seed in lost]


def _diverged(model: Path) -> set[int]:
    """The seeds that the history says diverged; none where the folder came without it."""
    if not (model / HISTORY).is_file():
        return set()
    history = checked_artefact(model, HISTORY)
    try:
        with open(history, newline="", encoding="utf-8") as stream:
            return {int(row["seed"]) for row in csv.DictReader(stream) if row["name"] == "diverged"}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DhmdError(f"{history} is damaged: {first_line(error)}") from error
