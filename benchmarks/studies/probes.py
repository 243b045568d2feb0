"""Comparison of a trained model's features and edges with the planted factors (ours).

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
    """Return the test R² of a ridge regression from features to latents, the mean over latents."""
    mean, std = train_ND.mean(0), train_ND.std(0) + 1e-9
    x, x_test = (train_ND - mean) / std, (test_ND - mean) / std
    centre = train_NL.mean(0)
    gram = x.T @ x + _RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (train_NL - centre))
    residual = ((x_test @ weights + centre - test_NL) ** 2).sum(0)
    return float((1 - residual / ((test_NL - test_NL.mean(0)) ** 2).sum(0)).mean())


def leading_components(train_ND: Array, x_ND: Array, num_components: int) -> Array:
    """Project `x_ND` onto the first principal components of `train_ND`, `[N, count]`."""
    mean_D = train_ND.mean(0)
    _, _, directions_DD = np.linalg.svd(train_ND - mean_D, full_matrices=False)
    components: Array = (x_ND - mean_D) @ directions_DD[:num_components].T
    return components


def decoupling_probes(
    corpus: Corpus,
    features: Mapping[str, Array],
    modalities: tuple[str, ...],
    *,
    leading: bool = False,
) -> dict[str, float]:
    """Measure how well linear probes predict the shared and the exclusive latents.

    A probe of all features inverts any linear map of full rank, even if it shrinks a latent. A
    probe of the leading components finds only latents with a large variance in the features.

    Args:
        features: pooled features by space, `homogeneous` (com) and `heterogeneous` (prt),
            `[N, M, D]`.
        leading: use as many leading principal components as there are shared latents.

    Returns:
        R² by `<latent>_from_<space>`, the mean over modalities.
    """
    width = sum(name.startswith("shared_") for name in corpus.planted)
    result = {}
    for latent in ("shared", "exclusive"):
        for space, values_NMD in features.items():
            scores = []
            for index, modality in enumerate(modalities):
                present = corpus.present_NM[:, corpus.modalities.index(modality)]
                prefix = "shared_" if latent == "shared" else f"exclusive_{modality}_"
                names = [name for name in corpus.planted if name.startswith(prefix)]
                latents_NL = np.stack([corpus.planted[name] for name in names], axis=1)
                rows = {s: corpus.index(s)[present[corpus.index(s)]] for s in ("train", "test")}
                x_ND = values_NMD[:, index].astype(np.float64)
                if leading:
                    x_ND = leading_components(x_ND[rows["train"]], x_ND, width)
                scores.append(
                    linear_probe(
                        x_ND[rows["train"]],
                        x_ND[rows["test"]],
                        latents_NL[rows["train"]],
                        latents_NL[rows["test"]],
                    )
                )
            result[f"{latent}_from_{space}"] = float(np.mean(scores))
    return result


def edge_correlations(
    corpus: Corpus, edges_NIJ: Array, modalities: tuple[str, ...]
) -> dict[str, float]:
    """Return the rank correlation of each source's mean edge weight with its reliability.

    It is over complete test utterances; a source with constant weights has none.
    """
    result = {}
    for index, modality in enumerate(modalities):
        complete: Array = np.all(corpus.present_NM, axis=1)
        rows = corpus.index("test")
        rows = rows[complete[rows]]
        weights_N = edges_NIJ[rows, index].mean(-1)
        if np.ptp(weights_N) > 0:
            reliability_N = corpus.planted[f"reliability_{modality}"][rows]
            result[modality] = spearman(weights_N.astype(np.float64), reliability_N)
    return result


def reference_edges(
    corpus: Corpus, vertices_NMD: Array, modalities: tuple[str, ...], hidden: int
) -> Array:
    """Return the edges `[N, I, J]` of an edge network that is trained on the true reliabilities.

    They show what such a network can reach with these vertices. The target is the softmax over
    sources of reliability / 0.25, the loss is the KL divergence on the train split.

    Args:
        hidden: width of the edge network.
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
    target = softmax_over_present(scores.expand(-1, -1, -1, len(modalities)), present_EMB)
    train = torch.from_numpy(corpus.index("train"))
    optimiser = torch.optim.Adam(unit.parameters(), lr=_REFERENCE_RATE)
    for _ in range(_REFERENCE_STEPS):
        edges: Tensor = unit(vertices, batch).learned_EBIJ
        log_ratio = target.clamp_min(1e-9).log() - edges.clamp_min(1e-9).log()
        loss = (target * log_ratio)[0, train].sum((1, 2)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        result: Array = unit(vertices, batch).learned_EBIJ[0].numpy()
    return result
