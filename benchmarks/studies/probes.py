"""What can be read from a trained model's parts, held against what was planted (ours).

Legend: N utterances, M modalities, D features, L latents, I source and J target modality.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.evaluation.interpretability import spearman
from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import GraphConfig
from dhmd.models.members import Members
from dhmd.models.stacked.graph_distillation import GraphDistillationUnit, softmax_over_present
from dhmd.models.task import Task

_RIDGE = 1.0
_REFERENCE_STEPS = 300
_REFERENCE_RATE = 1e-2
_REFERENCE_TAU = 0.25


def linear_probe(train_ND: Array, test_ND: Array, train_NL: Array, test_NL: Array) -> float:
    """R² on test utterances of a ridge regression from features to latents, mean over latents."""
    mean, std = train_ND.mean(0), train_ND.std(0) + 1e-9
    x, held = (train_ND - mean) / std, (test_ND - mean) / std
    centre = train_NL.mean(0)
    gram = x.T @ x + _RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (train_NL - centre))
    residual = ((held @ weights + centre - test_NL) ** 2).sum(0)
    return float((1 - residual / ((test_NL - test_NL.mean(0)) ** 2).sum(0)).mean())


def leading_components(train_ND: Array, x_ND: Array, count: int) -> Array:
    """Project `x` onto the first `count` principal components of `train`, `[N, count]`."""
    mean_D = train_ND.mean(0)
    _, _, directions_DD = np.linalg.svd(train_ND - mean_D, full_matrices=False)
    found: Array = (x_ND - mean_D) @ directions_DD[:count].T
    return found


def decoupling_probes(
    corpus: Corpus,
    parts: Mapping[str, Array],
    modalities: tuple[str, ...],
    *,
    leading: bool = False,
) -> dict[str, float]:
    """Measure how well probes read the shared and the private latents from the features.

    `parts` holds `homogeneous` (pooled com) and `heterogeneous` (pooled prt), `[N, M, D]`. Keys
    are `<latent>_from_<part>`: R², mean over modalities. A probe of all D features undoes any
    linear map of full rank, however much it shrinks a latent; `leading` reads as many leading
    principal components as there are shared latents: what a part mostly holds.
    """
    width = sum(name.startswith("shared_") for name in corpus.planted)
    result = {}
    for latent in ("shared", "exclusive"):
        for part, values_NMD in parts.items():
            scores = []
            for index, modality in enumerate(modalities):
                there = corpus.present_NM[:, corpus.modalities.index(modality)]
                prefix = "shared_" if latent == "shared" else f"exclusive_{modality}_"
                names = [name for name in corpus.planted if name.startswith(prefix)]
                latents_NL = np.stack([corpus.planted[name] for name in names], axis=1)
                rows = {s: corpus.index(s)[there[corpus.index(s)]] for s in ("train", "test")}
                features = values_NMD[:, index].astype(np.float64)
                if leading:
                    features = leading_components(features[rows["train"]], features, width)
                scores.append(
                    linear_probe(
                        features[rows["train"]],
                        features[rows["test"]],
                        latents_NL[rows["train"]],
                        latents_NL[rows["test"]],
                    )
                )
            result[f"{latent}_from_{part}"] = float(np.mean(scores))
    return result


def edge_correlations(
    corpus: Corpus, edges_NIJ: Array, modalities: tuple[str, ...]
) -> dict[str, float]:
    """Rank correlation, over test utterances, of a source's mean weight with its reliability."""
    result = {}
    for index, modality in enumerate(modalities):
        there: Array = np.all(corpus.present_NM, axis=1)
        rows = corpus.index("test")
        rows = rows[there[rows]]
        weights_N = edges_NIJ[rows, index].mean(-1)
        if np.ptp(weights_N) > 0:
            reliability_N = corpus.planted[f"reliability_{modality}"][rows]
            result[modality] = spearman(weights_N.astype(np.float64), reliability_N)
    return result


def reference_edges(
    corpus: Corpus, vertices_NMD: Array, modalities: tuple[str, ...], hidden: int
) -> Array:
    """Edges `[N, I, J]` of the same network g, trained on the planted reliabilities themselves.

    What g can reach with these vertices: the softmax over sources of reliability / 0.25 is its
    target on the train split, Kullback–Leibler its loss.
    """
    device = torch.device("cpu")
    members = Members([0], device)
    task = Task()
    unit = GraphDistillationUnit(
        members,
        task,
        modalities,
        vertices_NMD.shape[-1],
        config=GraphConfig(hidden=hidden),
        edges=("learned",),
        output_dropout=0.0,
    )
    order = [corpus.modalities.index(name) for name in modalities]
    present_EMB = torch.from_numpy(corpus.present_NM[:, order].T.copy()).unsqueeze(0)
    vertices = torch.from_numpy(vertices_NMD.transpose(1, 0, 2).copy()).unsqueeze(0)
    rows = torch.arange(len(corpus.ids)).unsqueeze(0)
    batch = EnsembleBatch(
        (), [], [], present_EMB, torch.ones(rows.shape), torch.zeros(1, 1), rows, rows
    )
    planted_NM = np.stack([corpus.planted[f"reliability_{name}"] for name in modalities], axis=1)
    scores = torch.from_numpy(planted_NM).float().unsqueeze(0).unsqueeze(-1) / _REFERENCE_TAU
    wanted = softmax_over_present(scores.expand(-1, -1, -1, len(modalities)), present_EMB)
    train = torch.from_numpy(corpus.index("train"))
    optimiser = torch.optim.Adam(unit.parameters(), lr=_REFERENCE_RATE)
    for _ in range(_REFERENCE_STEPS):
        edges: Tensor = unit(vertices, batch).learned_EBIJ
        gap = wanted.clamp_min(1e-9).log() - edges.clamp_min(1e-9).log()
        loss = (wanted * gap)[0, train].sum((1, 2)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        result: Array = unit(vertices, batch).learned_EBIJ[0].numpy()
    return result
