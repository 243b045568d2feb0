"""A trained model: predict and explain utterances with nothing but the model's folder.

Legend: S seeds, N utterances, O outputs (1, or C classes).
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

CUT_SHARE = 1 / 5  # share of the words that may be cut off without the user's consent


@dataclass(frozen=True, eq=False)
class Outputs:
    """The predictions of every seed.

    Attributes:
        utterances: what was predicted.
        seeds: S seeds, without those that diverged in training.
        values_SNO: values, or probabilities of the classes.
        class_names: () for a regression.
        multilabel: whether an utterance has a set of classes.
        notes: warnings for the user, one sentence each.
    """

    utterances: Utterances
    seeds: tuple[int, ...]
    values_SNO: Array
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    multilabel: bool = False

    def table(self) -> pd.DataFrame:
        """Return one row per utterance, by id.

        The columns are start and end in seconds, text (where the words are known), mean and spread
        (the standard deviation over seeds), and one per seed. In a classification mean and seeds
        are names of classes, the mean is that of the probabilities, and spread is the one of the
        named class's probability; `probability_<class>` is the mean probability of each class, and
        `seed_<seed>_probability` that of the class which the seed names. In a multi-label task the
        names are the classes above ½, `happy+sad` or `none`, and spread and `seed_…_probability`
        belong to the most probable class.
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
        """Return the values of a regression, or the names of the predicted classes."""
        if not self.class_names:
            return values_NO[:, 0]
        if self.multilabel:
            return set_names(values_NO > 0.5, self.class_names)
        return np.array(self.class_names, dtype=object)[values_NO.argmax(-1)]


class Model:
    """A trained model of one or more seeds.

    Args:
        folder: a model directory, such as models/demo; nothing else of the project is read.
        device: where to compute: auto (a GPU if there is one), cpu or cuda.

    Attributes:
        corpus: the training data, or their aligned features file: explanations describe a
            dictionary code by its words. None looks for it in the repository.

    Raises:
        DhmdError: it is no model directory, or is damaged.
    """

    def __init__(self, folder: str | Path, device: Device = "auto") -> None:
        torch_device(device)  # a missing GPU is an error here
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
        own = self.description
        seeds = pluralize(len(own.seeds), "seed")
        modalities = ", ".join(own.configuration.modalities)
        architecture = own.configuration.architecture
        return (
            f"Model({str(self.folder)!r}: {architecture} of {own.dataset}, {modalities}, {seeds})"
        )

    def predict(
        self, source: Source, *, segments: str | Path | None = None, truncate: bool = False
    ) -> pd.DataFrame:
        """Predict utterances; `Outputs.table` describes the columns.

        Args:
            source: a transcript (.srt, .vtt, Whisper's .json, .csv of words and times, .txt), a
                folder of .csd files, or a list of both; a file or folder of the format that the
                model was trained on; a table (see `transcripts_of`); or a corpus (`load_corpus`).
            segments: a CSV file with the columns video, start and end, or a .csd file; None takes
                the cues or sentences of a transcript, and divides .csd files at pauses.
            truncate: allow that more than a fifth of the words is cut off.

        Raises:
            DhmdError: bad input, or input that the model was not trained on.
        """
        outputs = self.run(source, segments=segments, truncate=truncate)
        for note in outputs.notes:
            warnings.warn(note, stacklevel=2)
        return outputs.table()

    def run(
        self, source: Source, *, segments: str | Path | None = None, truncate: bool = False
    ) -> Outputs:
        """Predict like `predict`, and return the outputs with their notes instead of a table."""
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
        """Read and prepare utterances as the training data was prepared.

        Raises:
            DhmdError: bad input, or more than a fifth of the words would be cut off.
        """
        own = self.description
        features = {name: own.features[name] for name in own.inputs}
        if isinstance(source, Corpus):
            if source.identity == own.identity:
                self.corpus = source
            return Utterances.of_corpus(source, features, own.alignment)
        if own.origin is None:
            raise DhmdError(
                f"{self.folder} does not describe how its training data was prepared: an older "
                "version trained it; train again to predict new files"
            )
        origin = Origin.from_json(own.origin, f"{self.folder}/model.json")
        path = None if segments is None else Path(segments)
        found = read_source(source, path, own, origin, self._encoder(origin))
        cut, steps = found.cut
        if cut > steps * CUT_SHARE and not truncate:
            raise DhmdError(
                f"{cut:,} of {steps:,} words ({cut / steps:.0%}) would be cut off, because the "
                f"model reads {origin.align.max_steps} words of a segment (align.max_steps): give "
                "shorter segments with --segments, or allow it with --truncate"
            )
        return found

    def explain(self, utterance: str, source: Source | None = None) -> Explanation:
        """Explain the prediction of one utterance.

        Args:
            utterance: its id, such as `talk[0]`.
            source: what has the utterance, as in `predict`; None for what was predicted last.

        Raises:
            DhmdError: there is no such utterance, or nothing was predicted yet.
        """
        if source is not None:
            self._last = self.read(source, truncate=True), None
        if self._last is None:
            raise DhmdError("nothing was predicted yet: predict first, or give explain a source")
        utterances, explanations = self._last
        if explanations is None:
            explanations = self.explanations(utterances)
            self._last = utterances, explanations
        return explanations[utterance]

    def explanations(self, utterances: Utterances) -> Explanations:
        """Explain all utterances; seeds that diverged are left out."""
        own, ids = self.description, utterances.ids
        with torch_session(ComputeConfig(device=self.device)), torch.no_grad():
            data = self._device_corpus(utterances)
            arrays = scatter(self._details(data), len(ids))
        # Codes of different seeds do not correspond: those of the first are shown.
        codes = {space: array[0] for space, array in arrays_in_group(arrays, CODES).items()}
        arrays |= {f"{CODES}/{space}": codes_NMK for space, codes_NMK in codes.items()}
        present_NM = (data.lengths_MN > 0).T
        code_words = self._trained_code_words()
        if not code_words and utterances.words is not None:
            code_words = words_of_codes(codes, utterances.words, data.modalities, present_NM)
        found = Explanations(
            task=own.task.kind,
            ids=ids,
            seeds=own.seeds,
            modalities=tuple(data.modalities),
            class_names=own.class_names,
            arrays=arrays,
            present_NM=present_NM,
            words=utterances.words,
            code_words=code_words,
        )
        converged_S, _ = _converged(self.folder, found.seeds, found.outputs)
        return found.select_seeds(np.array(found.seeds)[converged_S].tolist())

    def _details(self, data: DeviceCorpus) -> Iterator[tuple[Array, dict[str, Tensor]]]:
        """Yield what the model computes for some rows, also with each modality dropped."""
        learner, members = self._loaded
        rows, train = np.arange(data.lengths_MN.shape[1]), self.description.configuration.train
        for some, batch in evaluation(learner, members, data, rows, train.buckets):
            details = learner.details(batch).items()
            found = {key: value for key, value in details if not key.startswith(EMBEDDING)}
            for m, name in enumerate(data.modalities):
                drop_MB = torch.zeros_like(batch.present_EMB[0])
                drop_MB[m] = True
                found[f"{MISSING_GROUP}/{name}"] = predict_without(learner, batch, drop_MB)
            yield some, found

    def _trained_code_words(self) -> CodeWords:
        """Return the words of the dictionary codes over the training data, if they are here."""
        own, corpus = self.description, self.corpus
        path = repository_root() / "data" / "aligned" / f"{own.dataset}.h5"
        if isinstance(corpus, Path):
            corpus = read_corpus(corpus, fold=own.fold)
        elif corpus is None:
            try:
                corpus = read_corpus(path, fold=own.fold)
            except DhmdError:  # there is none, or one of another version
                return {}
        if corpus.identity != own.identity or not (self.folder / OUTPUTS).is_file():
            return {}
        return corpus_code_words(read_outputs(self.folder, interpretability=True), corpus)

    def _device_corpus(self, utterances: Utterances) -> DeviceCorpus:
        """Return the utterances, normalised, on the model's device."""
        own, device = self.description, self._loaded[1].device
        data = DeviceCorpus(
            utterances.lengths,
            {name: own.normalisation[name](values) for name, values in utterances.values.items()},
            np.full(len(utterances.ids), np.nan),
            device,
            same_steps=own.alignment == "word",
        )
        if own.configuration.trains_encoder:
            if utterances.tokens is None:
                raise DhmdError(
                    f"the text encoder of {self.folder} was trained with the model, but the "
                    "utterances have no tokens: align them with features.text: finetune"
                )
            data.tokens = DeviceTokens(utterances.tokens, device)
        return data

    @cached_property
    def _loaded(self) -> tuple[Learner, Members]:
        """The model of all seeds, and its ensemble members."""
        encoder = None
        if self.description.configuration.trains_encoder:
            from dhmd.data.text.encoder import load_architecture

            encoder = load_architecture(self.folder / ENCODER_FOLDER, "")
        with torch_session(ComputeConfig(device=self.device)) as compute_device:
            learner, members, _ = load_model(self.folder, compute_device, encoder)
        return learner, members

    def _encoder(self, origin: Origin) -> WordEncoder | None:
        """Return the word encoder of the training data, if the model reads its vectors."""
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
        """Return values [S, N, 1] or probabilities [S, N, C]."""
        (learner, members), data = self._loaded, self._device_corpus(utterances)
        task, rows = self.description.task, np.arange(len(utterances.ids))
        found = np.full((members.count, len(rows), task.outputs), np.nan, dtype=np.float32)
        buckets = self.description.configuration.train.buckets
        with torch.no_grad():
            for some, output_EBO in predictions(learner, members, data, rows, buckets):
                found[:, some] = task.predictions(output_EBO).cpu().numpy()
        return found


def _converged(model: Path, seeds: tuple[int, ...], values_SNO: Array) -> tuple[Array, list[str]]:
    """Return which seeds did not diverge [S], and a warning for each one that did.

    A seed diverged if the training history (which may be missing) marks it, or if its predictions
    are not finite.
    """
    history = model / HISTORY
    rows = read_rows(history, ("seed", "name")) if history.is_file() else []
    diverged = {row["seed"] for row in rows if row["name"] == "diverged"}
    finite_S = np.isfinite(values_SNO).all((1, 2))
    converged_S = np.array([str(seed) not in diverged for seed in seeds]) & finite_S
    if not converged_S.any():
        raise DhmdError(f"every seed of {model} diverged in training: train again")
    lost = [seed for seed, converged in zip(seeds, converged_S, strict=True) if not converged]
    return converged_S, [f"seed {seed} diverged in training and is left out" for seed in lost]
