"""The losses of DHMD for one seed, in the order of the method's sections (docs/method.md).

Every loss is a scalar: the mean over the utterances of an update (`Batch.mean`), so that
accumulating an update over several batches is exact. Absent modalities are left out.

Legend: B utterances, M modalities, T steps, D width, W vertex width, I source modality (teacher),
J target modality (student), O outputs, K codes.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.layers import masked_mean
from dhmd.models.task import Task

# DMD's fixed prior, a control: logit 1 for these (source, target) pairs and 0 for all others, at
# temperature 0.25. Self edges, which DMD does not have, also get 1 (ours).
_PRIOR_EDGES = {("text", "audio"), ("text", "vision"), ("vision", "audio")}
_PRIOR_TEMPERATURE = 0.25


# ---- decoupling (method section 2) ---------------------------------------------------------------


def reconstruction(x: dict[str, Tensor], decoded: dict[str, Tensor], batch: Batch) -> Tensor:
    """Compute the mean squared error of decoded features `[B, T_m, D]`, by modality (DMD).

    `L_rec = Σ_m ‖X_m − D_m([com_m, prt_m])‖²`; with private features and their cycle,
    `L_cyc = Σ_m ‖prt_m − E_prt_m(D_m([com_m, prt_m]))‖²`. No gradient is stopped.
    """
    return _mean_over_steps({m: (x[m] - decoded[m]).square().mean(-1) for m in x}, batch)


def orthogonality(com: dict[str, Tensor], prt: dict[str, Tensor], batch: Batch) -> Tensor:
    """Compute `L_ort = Σ_m mean over t of |cos(com_m[t], prt_m[t])|` (DMD)."""
    cosine = nn.functional.cosine_similarity
    return _mean_over_steps({m: cosine(com[m], prt[m], dim=-1).abs() for m in com}, batch)


def _mean_over_steps(values: dict[str, Tensor], batch: Batch) -> Tensor:
    """Average `[B, T_m]` over real steps, sum over modalities, average over utterances."""
    means = [masked_mean(value_BT, batch.masks[m]) for m, value_BT in values.items()]
    return batch.mean(sum(means, torch.zeros_like(batch.weight_B)))


def margin(pooled_com_BMD: Tensor, batch: Batch, task: Task, margin_per_unit: float) -> Tensor:
    """Compute the margin loss `L_mar` of shared features (DMD).

    The mean over triplets (i, j, k) of `max(0, α_ik − cos(com_i, com_j) + cos(com_i, com_k))` with
    the margin `α_ik = margin_per_unit · |y_i − y_k|`. i is an utterance in one modality, j an
    utterance of i's class in another modality, k an utterance of another class in i's modality. In
    classification, the labels of two classes differ by 1. Without a triplet the loss is 0.
    """
    classes_B = task.margin_classes(batch.labels_B)
    same_BB = classes_B[:, None] == classes_B[None, :]
    gap_BB = (batch.labels_B[:, None] - batch.labels_B[None, :]).abs()
    if task.classes is not None:
        gap_BB = (~same_BB).to(gap_BB.dtype)
    com = nn.functional.normalize(pooled_com_BMD, dim=-1).unbind(1)
    present = (batch.presence & (batch.weight_B > 0)[:, None]).unbind(1)
    hinge, triplets = torch.zeros_like(batch.share), torch.zeros_like(batch.share)
    for m, n in permutations(range(len(com)), 2):
        cosine_ij, cosine_ik = com[m] @ com[n].T, com[m] @ com[m].T
        valid_ij = same_BB & present[m][:, None] & present[n][None, :]
        valid_ik = ~same_BB & present[m][:, None] & present[m][None, :]
        valid_ijk = valid_ij[:, :, None] & valid_ik[:, None, :]
        value_ijk = (margin_per_unit * gap_BB + cosine_ik)[:, None, :] - cosine_ij[:, :, None]
        hinge = hinge + (value_ijk.relu() * valid_ijk).sum()
        triplets = triplets + valid_ijk.sum()
    return hinge / triplets.clamp(min=1) * batch.share


# ---- coarse distillation: graph distillation (section 3) -----------------------------------------


def vertex_task(outputs_BMO: Tensor, batch: Batch, task: Task) -> Tensor:
    """Compute the task loss of the auxiliary heads, summed over present modalities."""
    loss_MB = task.loss(outputs_BMO.transpose(0, 1), batch.labels_B)
    return batch.mean((loss_MB.T * batch.presence).sum(1))


def graph_distillation(
    edges_BIJ: Tensor, outputs_BMO: Tensor, batch: Batch, task: Task, tau: float
) -> Tensor:
    """Compute `L_GD = Σ_j Σ_i w_{i→j} (ỹ_i − ŷ_j)²`, from teachers ỹ_i to auxiliary heads ŷ_j.

    In classification, the distance is `τ² KL(ỹ_i ‖ ŷ_j)`. The graph is DMD's idea; out-of-fold
    teachers are ours. The gradient reaches ŷ_j only: edges and teachers are fixed. A target without
    another present modality has no loss.
    """
    teachers_BIO = teachers(batch)
    distance_BIJ = task.distance(outputs_BMO.unsqueeze(1), teachers_BIO.unsqueeze(2), tau)
    return _sum_over_targets((edges_BIJ.detach() * distance_BIJ).sum(1), batch)


def representation(
    edges_BIJ: Tensor, vertices_BMW: Tensor, projected: dict[tuple[int, int], Tensor], batch: Batch
) -> Tensor:
    """Compute `Σ_{i≠j} w_{i→j} (1 − cos(P_ij v_i, v_j))` between vertices (ours, off by default).

    Args:
        projected: `P_ij v_i` of detached v_i, `[B, W]`, by pair (source, target).
    """
    total = torch.zeros_like(batch.weight_B)
    for (i, j), projected_BW in projected.items():
        cosine_B = nn.functional.cosine_similarity(projected_BW, vertices_BMW[:, j], dim=-1)
        present_B = batch.presence[:, i] & batch.presence[:, j]
        total = total + edges_BIJ[:, i, j].detach() * (1 - cosine_B) * present_B
    return batch.mean(total)


def edge_mixture(edges_BIJ: Tensor, batch: Batch, task: Task) -> Tensor:
    """Compute `L_edge = Σ_j |Σ_i w_{i→j} ỹ_i − y|`, the error of the weighted teachers (ours).

    In classification, it is the cross-entropy of the mixture. The gradient reaches the edge network
    only, since that network reads detached vertices.
    """
    mixed_BJO = edges_BIJ.transpose(1, 2) @ teachers(batch)
    return _sum_over_targets(task.prediction_loss(mixed_BJO, batch.labels_B[:, None]), batch)


def edge_kl(edges_BIJ: Tensor, batch: Batch, task: Task, tau: float) -> Tensor:
    """Compute the control `Σ_j KL(softmax_i(−|ỹ_i − y| / τ) ‖ w)`.

    In classification, the error of a teacher is `1 − p(y)`.
    """
    error_BI = task.prediction_error(teachers(batch), batch.labels_B[:, None])
    target_BIJ = softmax_over_present(
        (-error_BI / tau)[..., None].expand_as(edges_BIJ), batch.presence
    )
    log_ratio_BIJ = target_BIJ.clamp(min=1e-9).log() - edges_BIJ.clamp(min=1e-9).log()
    return _sum_over_targets((target_BIJ * log_ratio_BIJ).sum(1), batch)


def softmax_over_present(scores_BIJ: Tensor, present_BM: Tensor) -> Tensor:
    """Normalise the scores of each target over the present sources; absent sources get 0."""
    present_BI1 = present_BM.unsqueeze(-1)
    return scores_BIJ.masked_fill(~present_BI1, -1e9).softmax(1) * present_BI1


def control_edges(
    kind: str, learned_BIJ: Tensor, batch: Batch, modalities: tuple[str, ...]
) -> Tensor:
    """Return the edge weights that `kd.graph.edges` selects, detached.

    Args:
        kind: `learned`, or a control: `uniform`; `prior` (DMD's); `mean` (of the batch); `shuffled`
            (those of the previous utterance); `self` (self edges only).
    """
    learned_BIJ = learned_BIJ.detach()
    if kind == "learned":
        return learned_BIJ
    if kind == "uniform":
        return softmax_over_present(torch.zeros_like(learned_BIJ), batch.presence)
    if kind == "prior":
        prior_IJ = dmd_prior(modalities).to(learned_BIJ)
        return softmax_over_present(prior_IJ.expand_as(learned_BIJ), batch.presence)
    if kind == "mean":
        real_B11 = (batch.weight_B > 0).to(learned_BIJ.dtype)[:, None, None]
        mean_IJ = (learned_BIJ * real_B11).sum(0) / real_B11.sum().clamp(min=1)
        weights_BIJ = mean_IJ.expand_as(learned_BIJ)
    elif kind == "shuffled":
        weights_BIJ = learned_BIJ.roll(1, dims=0)
    else:
        identity_IJ = torch.eye(len(modalities)).to(learned_BIJ)
        weights_BIJ = identity_IJ.expand_as(learned_BIJ)
    weights_BIJ = weights_BIJ * batch.presence.unsqueeze(-1)
    return weights_BIJ / weights_BIJ.sum(1, keepdim=True).clamp(min=1e-9)


def dmd_prior(modalities: tuple[str, ...]) -> Tensor:
    """Return DMD's prior as logits `[I, J]`; modalities that DMD does not have get 0."""
    logits = [[float(i == j or (i, j) in _PRIOR_EDGES) for j in modalities] for i in modalities]
    return torch.tensor(logits) / _PRIOR_TEMPERATURE


def teachers(batch: Batch) -> Tensor:
    """Return the out-of-fold predictions of all modalities, `[B, M, O]`."""
    if batch.teachers is None:
        raise ValueError("distillation needs out-of-fold teachers in the batch")
    return torch.stack(list(batch.teachers.values()), dim=1)


def _sum_over_targets(loss_BJ: Tensor, batch: Batch) -> Tensor:
    """Sum over present targets that have another present modality, average over utterances."""
    present_BJ = batch.presence
    return batch.mean((loss_BJ * present_BJ * (present_BJ.sum(1, keepdim=True) > 1)).sum(1))


# ---- fine distillation: dictionary matching (section 4) ------------------------------------------


def dictionary_matching(
    relevance_BMK: Tensor,
    activation_BMK: Tensor,
    feature_BMW: Tensor,
    edges_BIJ: Tensor,
    batch: Batch,
    task: Task,
    *,
    scale: float,
    temperature: float,
    balance: float,
) -> Tensor:
    """Compute the matching loss `L_DM` of a dictionary (ours).

    The mean over ordered pairs of `InfoNCE(u_j, u_i)`, plus `Σ_{i≠j} w_{i→j} FY(z_j; A_i) / s` with
    the edge weights w of the GD-Unit, which couple the two stages of distillation, plus `balance`
    times `usage_imbalance`. The gradient reaches both modalities in InfoNCE, the target in the
    Fenchel–Young loss, and not the edges.

    Args:
        relevance_BMK, activation_BMK, feature_BMW: z, A and u, see `dhmd.DictionaryOutputs`.
        scale: s.
    """
    pairs = list(permutations(range(relevance_BMK.shape[1]), 2))
    if not pairs:
        return torch.zeros_like(batch.share)
    total = torch.zeros_like(batch.weight_B)
    for i, j in pairs:
        present_B = batch.presence[:, i] & batch.presence[:, j]
        contrast_B = info_nce(
            feature_BMW[:, j], feature_BMW[:, i], present_B, batch, task, temperature
        )
        divergence_B = fenchel_young(
            relevance_BMK[:, j], activation_BMK[:, j], activation_BMK[:, i]
        )
        weight_B = edges_BIJ[:, i, j].detach()
        total = total + (contrast_B / len(pairs) + weight_B * divergence_B / scale) * present_B
    imbalance = usage_imbalance(relevance_BMK, activation_BMK, batch)
    return batch.mean(total) + balance * imbalance


def info_nce(
    anchors_BW: Tensor,
    candidates_BW: Tensor,
    present_B: Tensor,
    batch: Batch,
    task: Task,
    temperature: float,
) -> Tensor:
    """Compute InfoNCE of each anchor, `[B]`.

    The positive is the same utterance in the other modality. Utterances of its class, and those
    without both modalities (`present_B` false), are not negatives.
    """
    classes_B = task.margin_classes(batch.labels_B)
    differ_BB = classes_B[:, None] != classes_B[None, :]
    negatives_BB = differ_BB & (present_B & (batch.weight_B > 0))[None, :]
    positives_BB = torch.eye(len(classes_B), dtype=torch.bool, device=classes_B.device)
    scores_BB = anchors_BW @ candidates_BW.T / temperature
    scores_BB = scores_BB.masked_fill(~(negatives_BB | positives_BB), -torch.inf)
    return scores_BB.logsumexp(1) - scores_BB.diagonal()


def fenchel_young(z: Tensor, p: Tensor, target: Tensor) -> Tensor:
    """Compute the Fenchel–Young loss of sparsemax over the last axis (Blondel et al., 2020).

    `FY(z; A) = ½‖A‖² − ½‖p‖² + z·(p − A)` with `p = sparsemax(z)` and the target A. The gradient
    in z is `p − A`, also off the support, where divergences between sparse vectors have none. A and
    p are detached: by the envelope theorem the gradient through p vanishes.
    """
    a, p = target.detach(), p.detach()
    return 0.5 * a.square().sum(-1) - 0.5 * p.square().sum(-1) + (z * (p - a)).sum(-1)


def usage_imbalance(relevance_BMK: Tensor, activation_BMK: Tensor, batch: Batch) -> Tensor:
    """Measure how unevenly a batch uses the codes: `K Σ_k usage_k · p_k` (ours).

    usage is the mean activation, p the mean softmax of the relevances (the load balancing loss of
    mixtures of experts, Fedus et al., 2021). It is 1 for even use. The gradient reaches queries and
    codes through p alone.
    """
    weight_BM1 = (batch.presence * batch.weight_B[:, None]).unsqueeze(-1)
    weight_BM1 = weight_BM1 / weight_BM1.sum().clamp(min=1e-9)
    usage_K = (activation_BMK.detach() * weight_BM1).sum((0, 1))
    probability_K = (relevance_BMK.softmax(-1) * weight_BM1).sum((0, 1))
    return relevance_BMK.shape[-1] * (usage_K * probability_K).sum() * batch.share
