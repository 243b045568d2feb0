"""A trained model, which predicts and explains utterances.

Axes: S seeds, N utterances, O outputs (1 for a regression, otherwise C classes).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dhmd.base.device import Device, torch_device
from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import set_names
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.data.alignment import Origin, WordEncoder
from dhmd.evaluation.explanations import (
    CodeWords,
    Explanation,
    Explanations,
    corpus_code_words,
    words_of_codes,
)
from dhmd.evaluation.files import read_rows
from dhmd.evaluation.model_outputs import (
    CODES,
    EMBEDDING,
    MISSING_GROUP,
    OUTPUTS,
    arrays_in_group,
    read_outputs,
)
from dhmd.evaluation.tables import pluralize
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.prediction.sources import Source, read_source
from dhmd.prediction.utterances import Utterances
from dhmd.recipes import repository_root
from dhmd.training.compute import ComputeConfig
from dhmd.training.device import torch_session
from dhmd.training.device_corpus import DeviceCorpus, DeviceTokens
from dhmd.training.finetuning import FOLDER as ENCODER_FOLDER
from dhmd.training.history import HISTORY
from dhmd.training.outputs import predict_without, scatter
from dhmd.training.trainer import evaluation, predictions
from dhmd.training.weights import Description, load_model, read_description

Array = np.ndarray[Any, Any]

MAX_CUT = 1 / 5  # fraction of the words that may be cut off without --truncate


@dataclass(frozen=True, eq=False)
class Outputs:
    """The predictions of every seed.

    Attributes:
        utterances: the predicted utterances.
        seeds: S seeds, without those that diverged in training.
        values_SNO: predicted values, or probabilities of the classes.
        class_names: names of the classes; () for a regression.
        notes: warnings for the user, one sentence each.
        multilabel: whether an utterance has a set of classes.
    """

    utterances: Utterances
    seeds: tuple[int, ...]
    values_SNO: Array
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    multilabel: bool = False

    def table(self) -> pd.DataFrame:
        """Return one row per utterance; the index is the id.

        Columns:
            start, end: seconds.
            text: the words, if they are known.
            mean: the mean over seeds. In a classification, the class with the highest mean
                probability; in a multi-label task, the classes whose mean probability is above
                0.5, such as `happy+sad` or `none`.
            spread: the standard deviation over seeds, in a classification and a multi-label task
                of the probability of the most probable class.
            probability_<class>: the mean probability of each class.
            seed_<seed>: the prediction of one seed, in the form of `mean`.
            seed_<seed>_probability: the highest probability of a class according to the seed.
        """
        start_N, end_N = self.utterances.intervals_N2.T
        columns: dict[str, Any] = {"start": start_N, "end": end_N}
        if self.utterances.words is not None:
            columns["text"] = [" ".join(words) for words in self.utterances.words]
        mean_NO = self.values_SNO.mean(0, dtype=np.float64).astype(np.float32)
        best_N = mean_NO.argmax(-1)
        best_SN = self.values_SNO[:, np.arange(len(best_N)), best_N]
        columns["mean"] = self._named(mean_NO)
        spread_N = best_SN.std(0, ddof=1) if len(self.seeds) > 1 else np.full(len(best_N), np.nan)
        columns["spread"] = spread_N.astype(np.float32)
        for c, name in enumerate(self.class_names):
            columns[f"probability_{name}"] = mean_NO[:, c]
        for seed, value_NO in zip(self.seeds, self.values_SNO, strict=True):
            columns[f"seed_{seed}"] = self._named(value_NO)
            if self.class_names:
                columns[f"seed_{seed}_probability"] = value_NO.max(-1)
        return pd.DataFrame(columns, index=pd.Index(self.utterances.ids, name="id"))

    def _named(self, values_NO: Array) -> Any:
        """Return the values of a regression, otherwise the names of the predicted classes."""
        if not self.class_names:
            return values_NO[:, 0]
        if self.multilabel:
            return set_names(values_NO > 0.5, self.class_names)
        return np.array(self.class_names, dtype=object)[values_NO.argmax(-1)]


class Model:
    """A trained model of one or more seeds.

    Args:
        folder: a model directory, such as models/demo. Prediction reads no other file of the
            project.
        device: where to compute: auto (a GPU if there is one), cpu or cuda.

    Attributes:
        corpus: the training data, or their aligned features file, for explanations that describe a
            dictionary code by its words. None looks for the file in the repository.

    Raises:
        DhmdError: the folder is not a model directory, or is damaged.
    """

    def __init__(self, folder: str | Path, device: Device = "auto") -> None:
        torch_device(device)  # raises the error for a missing GPU
        self.folder = Path(folder)
        self.device = device
        self.description: Description = read_description(self.folder)
        self.corpus: Corpus | Path | None = None
        self._last: tuple[Utterances, Explanations | None] | None = None

    @staticmethod
    def load(name: str | Path, device: Device = "auto") -> Model:
        """Load a model from a directory, or by its name on the Hugging Face hub.

        Raises:
            DhmdError: there is no such model, or it is damaged.
        """
        folder = Path(name)
        if not folder.is_dir() and isinstance(name, str) and name.count("/") == 1:
            from dhmd.publish import fetch

            folder = fetch(name)
        return Model(folder, device)

    def __repr__(self) -> str:
        description = self.description
        seeds = pluralize(len(description.seeds), "seed")
        modalities = ", ".join(description.configuration.modalities)
        title = f"{description.configuration.architecture} of {description.dataset}"
        return f"Model({str(self.folder)!r}: {title}, {modalities}, {seeds})"

    def predict(
        self, source: Source, *, segments: str | Path | None = None, truncate: bool = False
    ) -> pd.DataFrame:
        """Predict the label of each utterance.

        Args:
            source: a transcript (.srt, .vtt, Whisper's .json, .csv of words and times, .txt), a
                folder of .csd files, or a list of both; a file or folder in the format of the
                training data; a table (see `transcripts_from_table`); or a corpus (`load_corpus`).
            segments: a CSV file with the columns video, start and end, or a .csd file; None takes
                the cues or sentences of a transcript, and divides .csd files at pauses.
            truncate: accept input of which more than a fifth of the words is cut off.

        Returns:
            One row per utterance, see `Outputs.table`.

        Raises:
            DhmdError: the input cannot be read, or its features differ from the training data.
        """
        outputs = self.run(source, segments=segments, truncate=truncate)
        for note in outputs.notes:
            warnings.warn(note, stacklevel=2)
        return outputs.table()

    def run(
        self, source: Source, *, segments: str | Path | None = None, truncate: bool = False
    ) -> Outputs:
        """Predict like `predict`, but return the outputs and notes instead of a table."""
        utterances = self.read(source, segments=segments, truncate=truncate)
        with torch_session(ComputeConfig(device=self.device)):
            values_SNO = self._outputs(utterances)
        self._last = utterances, None
        seeds = self.description.seeds
        converged_S, notes = _converged(self.folder, seeds, values_SNO)
        return Outputs(
            utterances=utterances,
            seeds=tuple(np.array(seeds)[converged_S].tolist()),
            values_SNO=values_SNO[converged_S],
            class_names=self.description.class_names,
            notes=(*utterances.notes, *notes),
            multilabel=self.description.task.multilabel,
        )

    def read(
        self, source: Source, *, segments: str | Path | None = None, truncate: bool = False
    ) -> Utterances:
        """Read utterances and prepare them like the training data; see `predict`.

        Raises:
            DhmdError: bad input, or more than a fifth of the words would be cut off.
        """
        description = self.description
        features = {name: description.features[name] for name in description.inputs}
        if isinstance(source, Corpus):
            if source.identity == description.identity:
                self.corpus = source
            return Utterances.from_corpus(source, features, description.alignment)
        if description.origin is None:
            raise DhmdError(
                f"{self.folder} does not describe how its training data was prepared, because an "
                "older version of dhmd trained the model: train it again to predict new files"
            )
        origin = Origin.from_json(description.origin, f"{self.folder}/model.json")
        path = None if segments is None else Path(segments)
        utterances = read_source(source, path, description, origin, self._encoder(origin))
        cut, steps = utterances.cut
        if cut > steps * MAX_CUT and not truncate:
            raise DhmdError(
                f"{cut:,} of {steps:,} words ({cut / steps:.0%}) would be cut off, because the "
                f"model reads {origin.align.max_steps} words of a segment (align.max_steps): "
                "provide shorter segments with --segments, or accept the cut with --truncate"
            )
        return utterances

    def explain(self, utterance: str, source: Source | None = None) -> Explanation:
        """Explain the prediction of one utterance.

        Args:
            utterance: its id, such as `talk[0]`.
            source: the source of the utterance, as in `predict`; None for that of the last
                prediction.

        Raises:
            DhmdError: there is no such utterance, or nothing has been predicted yet.
        """
        if source is not None:
            self._last = self.read(source, truncate=True), None
        if self._last is None:
            raise DhmdError("nothing has been predicted yet: call predict, or pass a source")
        utterances, explanations = self._last
        if explanations is None:
            explanations = self.explanations(utterances)
            self._last = utterances, explanations
        return explanations[utterance]

    def explanations(self, utterances: Utterances) -> Explanations:
        """Explain the predictions of all utterances; seeds that diverged are left out."""
        description, ids = self.description, utterances.ids
        with torch_session(ComputeConfig(device=self.device)), torch.no_grad():
            data = self._device_corpus(utterances)
            arrays = scatter(self._details(data), len(ids))
        # Codes of different seeds do not correspond to each other: take those of the first seed.
        codes = {space: array[0] for space, array in arrays_in_group(arrays, CODES).items()}
        arrays |= {f"{CODES}/{space}": codes_NMK for space, codes_NMK in codes.items()}
        present_NM = (data.lengths_MN > 0).T
        code_words = self._trained_code_words()
        if not code_words and utterances.words is not None:
            code_words = words_of_codes(codes, utterances.words, data.modalities, present_NM)
        explanations = Explanations(
            task=description.task.kind,
            ids=ids,
            seeds=description.seeds,
            modalities=tuple(data.modalities),
            class_names=description.class_names,
            arrays=arrays,
            present_NM=present_NM,
            words=utterances.words,
            code_words=code_words,
        )
        converged_S, _ = _converged(self.folder, explanations.seeds, explanations.outputs)
        return explanations.select_seeds(np.array(explanations.seeds)[converged_S].tolist())

    def _details(self, data: DeviceCorpus) -> Iterator[tuple[Array, dict[str, Tensor]]]:
        """Yield rows and the model's outputs for them, by name, also with each modality dropped."""
        learner, members = self._loaded
        rows, train = np.arange(data.lengths_MN.shape[1]), self.description.configuration.train
        for batch_rows, batch in evaluation(learner, members, data, rows, train.buckets):
            details = learner.details(batch).items()
            outputs = {key: value for key, value in details if not key.startswith(EMBEDDING)}
            for m, name in enumerate(data.modalities):
                drop_MB = torch.zeros_like(batch.present_EMB[0])
                drop_MB[m] = True
                outputs[f"{MISSING_GROUP}/{name}"] = predict_without(learner, batch, drop_MB)
            yield batch_rows, outputs

    def _trained_code_words(self) -> CodeWords:
        """Return the words of each dictionary code in the training data; {} without that data."""
        description, corpus = self.description, self.corpus
        path = repository_root() / "data" / "aligned" / f"{description.dataset}.h5"
        if isinstance(corpus, Path):
            corpus = read_corpus(corpus, fold=description.fold)
        elif corpus is None:
            try:
                corpus = read_corpus(path, fold=description.fold)
            except DhmdError:  # the file is absent or of another version
                return {}
        if corpus.identity != description.identity or not (self.folder / OUTPUTS).is_file():
            return {}
        return corpus_code_words(read_outputs(self.folder, interpretability=True), corpus)

    def _device_corpus(self, utterances: Utterances) -> DeviceCorpus:
        """Return the normalised utterances on the model's device."""
        description, device = self.description, self._loaded[1].device
        normalised = {
            name: description.normalisation[name](values)
            for name, values in utterances.values.items()
        }
        data = DeviceCorpus(
            utterances.lengths,
            normalised,
            np.full(len(utterances.ids), np.nan),
            device,
            same_steps=description.alignment == "word",
        )
        if description.configuration.trains_encoder:
            if utterances.tokens is None:
                raise DhmdError(
                    f"{self.folder} has a fine-tuned text encoder, but the utterances have no "
                    "tokens: align them with features.text: finetune"
                )
            data.tokens = DeviceTokens(utterances.tokens, device)
        return data

    @cached_property
    def _loaded(self) -> tuple[Learner, Members]:
        """The model of all seeds, and its ensemble members, read on first use."""
        encoder = None
        if self.description.configuration.trains_encoder:
            from dhmd.data.text.encoder import load_architecture

            encoder = load_architecture(self.folder / ENCODER_FOLDER, "")
        with torch_session(ComputeConfig(device=self.device)) as compute_device:
            learner, members, _ = load_model(self.folder, compute_device, encoder)
        return learner, members

    def _encoder(self, origin: Origin) -> WordEncoder | None:
        """Return the encoder that computed the training data's text features; None if unused."""
        if origin.encoder is None or "text" not in self.description.inputs:
            return None
        if origin.encoder.trained:
            from dhmd.data.text.contextual import PlaceholderEncoder
            from dhmd.data.text.encoder import load_architecture

            folder = self.folder / ENCODER_FOLDER
            return PlaceholderEncoder(
                load_architecture(folder, origin.encoder.digest), trained=True
            )
        from dhmd.data.text.contextual import reload_contextual

        return reload_contextual(origin.encoder, repository_root(), device=self.device)

    def _outputs(self, utterances: Utterances) -> Array:
        """Return predicted values, shape [S, N, 1], or class probabilities, shape [S, N, C]."""
        (learner, members), data = self._loaded, self._device_corpus(utterances)
        task, rows = self.description.task, np.arange(len(utterances.ids))
        values_SNO = np.full((members.count, len(rows), task.outputs), np.nan, dtype=np.float32)
        buckets = self.description.configuration.train.buckets
        with torch.no_grad():
            for batch_rows, output_EBO in predictions(learner, members, data, rows, buckets):
                values_SNO[:, batch_rows] = task.predictions(output_EBO).cpu().numpy()
        return values_SNO


def _converged(model: Path, seeds: tuple[int, ...], values_SNO: Array) -> tuple[Array, list[str]]:
    """Return whether each seed converged, shape [S], and a warning for each that did not.

    A seed has diverged if the training history (which may be missing) states it, or if its
    predictions are not finite.
    """
    history = model / HISTORY
    rows = read_rows(history, ("seed", "name")) if history.is_file() else []
    diverged = {row["seed"] for row in rows if row["name"] == "diverged"}
    finite_S = np.isfinite(values_SNO).all((1, 2))
    converged_S = np.array([str(seed) not in diverged for seed in seeds]) & finite_S
    if not converged_S.any():
        raise DhmdError(
            f"all seeds of {model} diverged in training: train it again with a lower train.lr"
        )
    return converged_S, [
        f"seed {seed} diverged in training and is left out"
        for seed, converged in zip(seeds, converged_S, strict=True)
        if not converged
    ]
