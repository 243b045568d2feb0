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
# Any numbers, the same for all models and seeds.
_DROP_STREAM = 20_240_229
_NOISE_STREAM = 20_261_130

Arrays = dict[str, Array]


def collect(learner: Learner, members: Members, data: DeviceCorpus, rows: Array) -> Arrays:
    """Collect the learner's details of the given rows.

    Returns:
        `[E, N, …]` by dataset name; NaN in all other rows.
    """

    def details() -> Iterator[tuple[Array, dict[str, Tensor]]]:
        for some, batch in evaluation(learner, members, data, rows, _BUCKETS):
            yield some, learner.details(batch)

    with torch.no_grad():
        return scatter(details(), data.lengths_MN.shape[1])


def missing_modalities(
    learner: Learner, members: Members, data: DeviceCorpus, rows: Array
) -> Arrays:
    """Predict the given rows with modalities dropped or replaced by noise.

    Each proper subset of the modalities is dropped (`text+audio`), and modalities are dropped at
    random (`random 30 %`). An utterance that would lose all its modalities keeps them, or keeps one
    of them in random drops. Each modality in turn is replaced by noise (`noise for text`): it
    counts as present, so that the model has to notice by itself.

    Returns:
        `[E, N, …]` by what is missing; NaN in all other rows.
    """
    drops = _drops(data.lengths_MN.shape[1], data.modalities)

    def outputs() -> Iterator[tuple[Array, dict[str, Tensor]]]:
        for some, batch in evaluation(learner, members, data, rows, _BUCKETS):
            found = {}
            for key, drop_NM in drops.items():
                drop_MB = torch.from_numpy(drop_NM[some].T.copy()).to(batch.present_EMB.device)
                found[key] = predict_without(learner, batch, drop_MB)
            for index, name in enumerate(data.modalities if drops else ()):
                noisy = _with_noise(batch, index, some)
                found[f"noise for {name}"] = learner.task.stored(learner.predict(noisy))
            yield some, found

    with torch.no_grad():
        return scatter(outputs(), data.lengths_MN.shape[1])


def predict_without(learner: Learner, batch: EnsembleBatch, drop_MB: Tensor) -> Tensor:
    """Predict with modalities dropped; an utterance that would lose all of them keeps them."""
    absent = drop_MB.expand_as(batch.present_EMB)
    absent = absent & (batch.present_EMB & ~absent).any(1, keepdim=True)
    return learner.task.stored(learner.predict(batch.without(absent)))


def _drops(utterances: int, modalities: Sequence[str]) -> dict[str, Array]:
    """Return what to drop, `[N, M]` bool by name; random drops are the same for every model."""
    drops: dict[str, Array] = {}
    for subset in subsets(modalities):
        drop_M = np.isin(modalities, subset)
        drops["+".join(subset)] = np.broadcast_to(drop_M, (utterances, len(modalities)))
    if len(modalities) > 1:
        # One random number for all rates: a drop at a low rate is also one at a higher rate.
        draw_NM = np.random.default_rng(_DROP_STREAM).random((utterances, len(modalities)))
        kept_NM = draw_NM == draw_NM.max(1, keepdims=True)
        for rate in DROP_RATES:
            drops[f"random {rate:.0%}".replace("%", " %")] = (draw_NM < rate) & ~kept_NM
    return drops


def _with_noise(batch: EnsembleBatch, modality: int, rows: Array) -> EnsembleBatch:
    """Replace the features of a modality by standard normal noise.

    Features are normalised, so the noise has their mean and standard deviation over the train
    split. It depends only on the modality and the utterance.
    """
    name, features = batch.modalities[modality], list(batch.features)
    shape = features[modality].shape[-2:]
    stream = [_NOISE_STREAM, zlib.crc32(name.encode())]
    noise_BTI = np.stack([np.random.default_rng([*stream, row]).normal(size=shape) for row in rows])
    noise = torch.from_numpy(noise_BTI.astype(np.float32)).to(features[modality].device)
    features[modality] = noise * batch.masks[modality].unsqueeze(-1)
    # Without its tokens, an encoder that is fine-tuned does not read the text.
    return replace(batch, features=features, tokens=None if name == "text" else batch.tokens)


def scatter(parts: Iterator[tuple[Array, dict[str, Tensor]]], utterances: int) -> Arrays:
    """Put values `[E, B, …]` of some rows into arrays of all rows; NaN in the others."""
    collected: Arrays = {}
    for rows, found in parts:
        for name, value in found.items():
            if name not in collected:
                shape = (value.shape[0], utterances, *value.shape[2:])
                collected[name] = np.full(shape, np.nan, dtype=np.float32)
            collected[name][:, rows] = value.cpu().numpy()
    return collected


def write_outputs(
    path: Path,
    corpus: Corpus,
    *,
    seeds: Sequence[int],
    modalities: Sequence[str],
    arrays: Mapping[str, Array],
) -> None:
    """Write outputs.h5, with the same bytes for the same content.

    `codes` and `embedding` are stored for the first seed only, and statistics of all seeds' codes.
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
    """Summarise how some utterances use a dictionary (ours).

    Returns:
        `active`: mean number of active codes of a present modality; `used`, `dead`: number of
        codes that are active for some utterance, or for none; `perplexity` of the mean activation;
        `overlap_same_utterance`, `overlap_different`: Σ_k min of two modalities' activations, mean
        over pairs of modalities, within an utterance and between neighbouring ones. Empty if there
        are no activations.
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
            both = present_NM[:, first] & np.roll(present_NM[:, second], shift)
            overlaps.append(np.minimum(codes_NMK[:, first], other).sum(-1)[both])
        joined = np.concatenate(overlaps) if overlaps else np.zeros(0)
        if len(joined):
            statistics[name] = float(joined.mean())
    return statistics
