"""Predict every utterance with a trained model, and write the outputs to outputs.h5.

Evaluation and report read this file without torch.

Legend: E members, N utterances, M modalities, O outputs, K codes.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from dhmd.base.hdf5 import create_hdf5
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.models.batch import EnsembleBatch
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.training.configuration import subsets
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.trainer import evaluation

FILE = "outputs.h5"
_BUCKETS = 4

# Probabilities of dropping each modality of a test utterance (ours).
DROP_RATES = (0.1, 0.3, 0.5, 0.7)
# Seeds of the missing-modality test, the same for all models and ensemble members.
_DROP_SEED = 20_240_229
_NOISE_SEED = 20_261_130

Arrays = dict[str, Array]


def collect_details(learner: Learner, members: Members, data: DeviceCorpus, rows: Array) -> Arrays:
    """Compute `Learner.details` of the given rows.

    Returns:
        Arrays `[E, N, …]` by dataset name; all other rows are NaN.
    """

    def details() -> Iterator[tuple[Array, dict[str, Tensor]]]:
        for batch_rows, batch in evaluation(learner, members, data, rows, _BUCKETS):
            yield batch_rows, learner.details(batch)

    with torch.no_grad():
        return scatter(details(), data.lengths_MN.shape[1])


def missing_modality_predictions(
    learner: Learner, members: Members, data: DeviceCorpus, rows: Array
) -> Arrays:
    """Predict the given rows with modalities dropped or replaced by noise.

    Each proper subset of the modalities is dropped (`text+audio`), and modalities are dropped at
    random (`random 30 %`). An utterance that would lose all its modalities keeps all of them; a
    random drop keeps one. Each modality in turn is replaced by noise (`noise for text`) and
    still counts as present.

    Returns:
        Predictions `[E, N, …]` by the condition's name; all other rows are NaN.
    """
    drops = _drop_masks(data.lengths_MN.shape[1], data.modalities)

    def outputs() -> Iterator[tuple[Array, dict[str, Tensor]]]:
        for batch_rows, batch in evaluation(learner, members, data, rows, _BUCKETS):
            predictions = {}
            for condition, drop_NM in drops.items():
                drop_MB = torch.from_numpy(drop_NM[batch_rows].T.copy()).to(data.device)
                predictions[condition] = predict_without(learner, batch, drop_MB)
            for index, name in enumerate(data.modalities if drops else ()):
                noisy = _with_noise(batch, index, batch_rows)
                predictions[f"noise for {name}"] = learner.task.stored(learner.predict(noisy))
            yield batch_rows, predictions

    with torch.no_grad():
        return scatter(outputs(), data.lengths_MN.shape[1])


def predict_without(learner: Learner, batch: EnsembleBatch, drop_MB: Tensor) -> Tensor:
    """Predict with modalities dropped; an utterance that would lose all modalities keeps them."""
    absent = drop_MB.expand_as(batch.present_EMB)
    absent = absent & (batch.present_EMB & ~absent).any(1, keepdim=True)
    return learner.task.stored(learner.predict(batch.without(absent)))


def _drop_masks(num_utterances: int, modalities: Sequence[str]) -> dict[str, Array]:
    """Return the modalities to drop by condition, boolean `[N, M]`; the same for all models."""
    drops: dict[str, Array] = {}
    for subset in subsets(modalities):
        drop_M = np.isin(modalities, subset)
        drops["+".join(subset)] = np.broadcast_to(drop_M, (num_utterances, len(modalities)))
    if len(modalities) > 1:
        # The rates share random numbers: what is dropped at a low rate is dropped at a higher one.
        random_NM = np.random.default_rng(_DROP_SEED).random((num_utterances, len(modalities)))
        largest_NM = random_NM == random_NM.max(1, keepdims=True)
        for rate in DROP_RATES:
            drops[f"random {100 * rate:.0f} %"] = (random_NM < rate) & ~largest_NM
    return drops


def _with_noise(batch: EnsembleBatch, modality: int, rows: Array) -> EnsembleBatch:
    """Replace the features of a modality by standard normal noise.

    The noise has the mean and standard deviation of the normalised features of the train split. It
    depends only on the modality and the utterance.
    """
    name, features = batch.modalities[modality], list(batch.features)
    shape = features[modality].shape[-2:]
    seed = [_NOISE_SEED, zlib.crc32(name.encode())]
    noise_BTI = np.stack([np.random.default_rng([*seed, row]).normal(size=shape) for row in rows])
    noise = torch.from_numpy(noise_BTI.astype(np.float32)).to(features[modality].device)
    features[modality] = noise * batch.masks[modality].unsqueeze(-1)
    # Without tokens, a fine-tuned encoder does not replace the noise by the text.
    return replace(batch, features=features, tokens=None if name == "text" else batch.tokens)


def scatter(batches: Iterator[tuple[Array, dict[str, Tensor]]], num_utterances: int) -> Arrays:
    """Join the values of batches, `(rows [B], values [E, B, …] by name)`.

    Returns:
        Arrays `[E, N, …]` by name; rows that are in no batch are NaN.
    """
    arrays: Arrays = {}
    for rows, values in batches:
        for name, value in values.items():
            if name not in arrays:
                shape = (value.shape[0], num_utterances, *value.shape[2:])
                arrays[name] = np.full(shape, np.nan, dtype=np.float32)
            arrays[name][:, rows] = value.cpu().numpy()
    return arrays


def write_outputs(
    path: Path,
    corpus: Corpus,
    *,
    seeds: Sequence[int],
    modalities: Sequence[str],
    arrays: Mapping[str, Array],
) -> None:
    """Write outputs.h5; the same content gives the same bytes.

    `codes` and `embedding` are stored for the first seed only. Statistics of the codes are stored
    for all seeds.
    """
    with create_hdf5(path, path) as (file, _):
        file.attrs["seeds"] = np.array(seeds, dtype=np.int64)
        file.attrs["modalities"] = json.dumps(list(modalities))
        file.attrs["task"] = corpus.task
        file.attrs["identity"] = corpus.identity
        file.attrs["fold"] = corpus.fold
        text = h5py.string_dtype("utf-8")
        options: dict[str, Any] = {"track_times": False}
        file.create_dataset("ids", data=np.array(corpus.ids, dtype=object), dtype=text, **options)
        split = np.array(corpus.split_N, dtype=object)
        file.create_dataset("split", data=split, dtype=text, **options)
        statistics: dict[str, list[dict[str, float]]] = {}
        for name in sorted(arrays):
            value = arrays[name]
            group, _, space = name.partition("/")
            if group == "codes":
                test = value[:, corpus.split_N == "test"]
                statistics[space] = [dictionary_statistics(codes) for codes in test]
            if group in ("codes", "embedding"):
                value = value[0]
            file.create_dataset(name, data=value, compression="gzip", shuffle=True, **options)
        if statistics:
            file.attrs["dictionary_stats"] = json.dumps(statistics, sort_keys=True)


def dictionary_statistics(codes_NMK: Array) -> dict[str, float]:
    """Summarise how utterances use a dictionary (ours).

    Returns:
        Statistics by name; empty if there are no activations. `active`: mean number of active codes
        per present modality. `used`, `dead`: number of codes that are active for at least one
        utterance, or for none. `perplexity`: of the mean activation. `overlap_same_utterance`,
        `overlap_different`: Σ_k of the smaller activation of two modalities, mean over pairs of
        modalities, within an utterance and between neighbouring utterances.
    """
    present_NM = codes_NMK.sum(-1) > 0.5  # activations sum to 1, or to 0 where absent
    codes = codes_NMK[present_NM]
    if not len(codes) or not np.isfinite(codes).all():
        return {}
    usage = codes.mean(0)
    share = usage[usage > 0] / usage.sum()
    used = int((usage > 0).sum())
    statistics = {
        "active": float((codes > 0).sum(-1).mean()),
        "used": float(used),
        "dead": float(len(usage) - used),
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
    }
    pairs = list(itertools.combinations(range(codes_NMK.shape[1]), 2))
    for name, shift in (("overlap_same_utterance", 0), ("overlap_different", 1)):
        overlaps = []
        for first, second in pairs:
            other = np.roll(codes_NMK[:, second], shift, axis=0)
            both_present = present_NM[:, first] & np.roll(present_NM[:, second], shift)
            overlaps.append(np.minimum(codes_NMK[:, first], other).sum(-1)[both_present])
        if any(map(len, overlaps)):
            statistics[name] = float(np.concatenate(overlaps).mean())
    return statistics
