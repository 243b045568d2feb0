"""What a trained model says of every utterance, and the file that keeps it (outputs.h5).

Written once, after training; evaluation and report read it without torch.

Legend: E members, S seeds, N utterances, M modalities, I source and J target modality, O outputs,
K codes, D width.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from dhmd.base.hdf5 import writing
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.models.batch import Batch
from dhmd.models.stacked.decoupling import pool
from dhmd.models.stacked.dhmd import DHMD
from dhmd.models.stacked.members import Members
from dhmd.models.task import Task
from dhmd.training.batches import evaluation_batches
from dhmd.training.configuration import subsets
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.finetuning import Finetuned
from dhmd.training.learner import Learner
from dhmd.training.trainer import EVALUATION_BATCH, shared_batch

FILE = "outputs.h5"
_BUCKETS = 4

# Chances with which every modality of a test utterance is withheld (ours).
DROP_RATES = (0.1, 0.3, 0.5, 0.7)
_DROP_STREAM = 20_240_229  # any number: it only has to be the same for all

Arrays = dict[str, Array]


def collect(learner: Learner, members: Members, data: DeviceCorpus, rows: Array) -> Arrays:
    """Everything about the given rows, `[E, N, …]` by dataset name; rows left out hold NaN."""
    collected: Arrays = {}
    for some, batch in _batches(members, data, rows):
        found = _look(learner, batch)
        for name, value in found.items():
            if name not in collected:
                shape = (members.count, data.lengths_MN.shape[1], *value.shape[2:])
                collected[name] = np.full(shape, np.nan, dtype=np.float32)
            collected[name][:, some] = value.cpu().numpy()
    return collected


def withheld(
    learner: Learner, members: Members, data: DeviceCorpus, rows: Array, names: Sequence[str]
) -> Arrays:
    """Predictions of the given rows with modalities withheld.

    With proper subsets of the modalities (`text+audio`), and with every modality of every
    utterance withheld by chance (`random 30 %`). An utterance that would keep nothing keeps, of a
    subset, what it has, and by chance one modality: there must be something to read.
    """
    collected: Arrays = {}
    away = _away(data.lengths_MN.shape[1], names)
    for some, batch in _batches(members, data, rows):
        for key, away_NM in away.items():
            chosen_MB = torch.from_numpy(away_NM[some].T.copy()).to(batch.present_EMB.device)
            absent = chosen_MB.expand_as(batch.present_EMB)
            absent = absent & (batch.present_EMB & ~absent).any(1, keepdim=True)
            with torch.no_grad():
                output = _present(learner.task, learner.predict(batch.without(absent)))
            if key not in collected:
                shape = (members.count, data.lengths_MN.shape[1], *output.shape[2:])
                collected[key] = np.full(shape, np.nan, dtype=np.float32)
            collected[key][:, some] = output.cpu().numpy()
    return collected


def _away(utterances: int, names: Sequence[str]) -> dict[str, Array]:
    """What to withhold, `[N, M]` bool by name; by chance the same utterances for every model."""
    away: dict[str, Array] = {}
    for subset in subsets(names):
        away["+".join(subset)] = np.broadcast_to(np.isin(names, subset), (utterances, len(names)))
    if len(names) > 1:
        # One draw for all rates: what is lost at a low rate is lost at a higher one too.
        draw_NM = np.random.default_rng(_DROP_STREAM).random((utterances, len(names)))
        kept_NM = draw_NM == draw_NM.max(1, keepdims=True)
        for rate in DROP_RATES:
            away[f"random {rate:.0%}".replace("%", " %")] = (draw_NM < rate) & ~kept_NM
    return away


def _batches(members: Members, data: DeviceCorpus, rows: Array) -> Iterator[tuple[Array, Batch]]:
    groups = data.buckets(rows, _BUCKETS, EVALUATION_BATCH)
    for planned in evaluation_batches(groups, EVALUATION_BATCH):
        yield planned.rows_EB[0], shared_batch(data, members, planned)


@torch.no_grad()
def _look(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """A batch's outputs by dataset name, `[E, B, …]`."""
    if isinstance(learner, Finetuned):
        return _look(learner.model, learner.read(batch))
    if not isinstance(learner, DHMD):
        return {"prediction": _present(learner.task, learner.predict(batch))}
    passed = learner(batch)
    found = {"prediction": _present(learner.task, passed.output_EBO)}
    there_EBM = batch.present_EMB.transpose(1, 2)
    for space, graph in passed.graphs.items():
        vertex = _present(learner.task, graph.outputs_EMBO).transpose(1, 2)
        found[f"vertex/{space}"] = vertex
        edges = graph.edges_EBIJ.masked_fill(~there_EBM.unsqueeze(2), torch.nan)
        found[f"edges/{space}"] = edges
    for space, matched in passed.matched.items():
        found[f"codes/{space}"] = matched.activation_EMBK.transpose(1, 2)
    prt = pool(passed.parts.prt, batch.masks)
    found["embedding/homogeneous"] = passed.parts.pooled_com_EMBD.transpose(1, 2)
    found["embedding/heterogeneous"] = prt.transpose(1, 2)
    return found


def _present(task: Task, output: Tensor) -> Tensor:
    """Values without their axis O, or probabilities."""
    return output[..., 0] if task.classes is None else task.present(output)


def write_outputs(
    path: Path,
    corpus: Corpus,
    *,
    seeds: Sequence[int],
    modalities: Sequence[str],
    arrays: Mapping[str, Array],
) -> None:
    """Write outputs.h5, the same bytes for the same content.

    `codes` and `embedding` of the first seed only; of the codes of all seeds only statistics.
    """
    with writing(path, path) as (file, _):
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
    """How a dictionary is used on some utterances (ours).

    `active`: codes of a present modality on average; `used`, `dead`: codes that are active for any
    utterance, for none; `perplexity` of the mean activation; `overlap_same_utterance` and
    `overlap_different`: Σ_k min of two modalities' activations, mean over pairs of modalities, in
    one utterance and in neighbouring ones.
    """
    present_NM = codes_NMK.sum(-1) > 0.5  # activations sum to 1, and to 0 where absent
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
