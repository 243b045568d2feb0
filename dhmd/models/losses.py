"""The losses of DHMD for one seed, in the order of the method's sections.

Every loss is a mean over the utterances of an update (`Batch.mean`), so that accumulating an update
over several batches is exact. Absent modalities take no part.

Legend: B utterances, M modalities, T steps, D width, W vertex width, I source and J target
modality, O outputs, K codes.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.task import Task

# DMD's fixed prior, a control only: the (source, target) pairs that it favours, as logits 1 against
# 0 at temperature 0.25. The self edge, which DMD does not have, counts as favoured (ours).
_DMD_PRIOR = {("text", "audio"), ("text", "vision"), ("vision", "audio")}
_DMD_PRIOR_TEMPERATURE = 0.25


# ---- decoupling (method section 2) ---------------------------------------------------------------


def reconstruction(x: dict[str, Tensor], decoded: dict[str, Tensor], batch: Batch) -> Tensor:
    """Compute `L_rec = Σ_m ‖X_m − D_m([com_m, prt_m])‖²`, or `L_cyc` of prt_m and its cycle (DMD).

    No gradient is stopped.
    """
    return _mean_over_steps({m: (x[m] - decoded[m]).square().mean(-1) for m in x}, batch)


def orthogonality(com: dict[str, Tensor], prt: dict[str, Tensor], batch: Batch) -> Tensor:
    """Compute `L_ort = Σ_m mean_t |cos(com_m[t], prt_m[t])|` (DMD, over the feature axis)."""
    cosine = nn.functional.cosine_similarity
    return _mean_over_steps({m: cosine(com[m], prt[m], dim=-1).abs() for m in com}, batch)


def _mean_over_steps(values_BT: dict[str, Tensor], batch: Batch) -> Tensor:
    total = torch.zeros_like(batch.weight_B)
    for modality, value_BT in values_BT.items():
        mask_BT = batch.masks[modality]
        total = total + (value_BT * mask_BT).sum(1) / mask_BT.sum(1).clamp(min=1)
    return batch.mean(total)


def margin(pooled_com_BMD: Tensor, batch: Batch, task: Task, unit: float) -> Tensor:
    """Compute `L_mar` (DMD), the mean over triplets (i, j, k) of
    `max(0, α_ik − cos(com_i, com_j) + cos(com_i, com_k))`, `α_ik = unit · |y_i − y_k|`.

    i is an utterance in one modality, j an utterance of i's class in another modality, k an
    utterance of another class in i's modality. For classes the label difference is 1. Without a
    triplet the loss is 0.
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
        near_ij, far_ik = com[m] @ com[n].T, com[m] @ com[m].T
        valid_ij = same_BB & present[m][:, None] & present[n][None, :]
        valid_ik = ~same_BB & present[m][:, None] & present[m][None, :]
        valid_ijk = valid_ij[:, :, None] & valid_ik[:, None, :]
        value_ijk = (unit * gap_BB + far_ik)[:, None, :] - near_ij[:, :, None]
        hinge = hinge + (value_ijk.relu() * valid_ijk).sum()
        triplets = triplets + valid_ijk.sum()
    return hinge / triplets.clamp(min=1) * batch.share


# ---- coarse distillation: graph distillation (section 3) -----------------------------------------


def vertex_task(outputs_BMO: Tensor, batch: Batch, task: Task) -> Tensor:
    """Sum the task loss of the present vertices' heads."""
    each_MB = task.loss(outputs_BMO.transpose(0, 1), batch.labels_B)
    return batch.mean((each_MB.T * batch.presence).sum(1))


def graph_distillation(
    edges_BIJ: Tensor, outputs_BMO: Tensor, batch: Batch, task: Task, tau: float
) -> Tensor:
    """Compute `L_GD = Σ_j Σ_i w_{i→j} (ỹ_i − ŷ_j)²`; classes: `τ² KL(ỹ_i ‖ ŷ_j)` (ours).

    The gradient reaches ŷ_j only: edges and teachers are fixed. A target without another present
    modality takes no part.
    """
    teachers_BIO = teachers(batch)
    distance_BIJ = task.distance(outputs_BMO.unsqueeze(1), teachers_BIO.unsqueeze(2), tau)
    return _over_targets((edges_BIJ.detach() * distance_BIJ).sum(1), batch)


def representation(
    edges_BIJ: Tensor, vertices_BMW: Tensor, projected: dict[tuple[int, int], Tensor], batch: Batch
) -> Tensor:
    """Compute `Σ_{i≠j} w_{i→j} (1 − cos(P_ij v_i, v_j))` (ours, off by default).

    Args:
        projected: `P_ij v_i` of detached v_i, `[B, W]` by pair (source, target).
    """
    total = torch.zeros_like(batch.weight_B)
    for (i, j), projection_BW in projected.items():
        cosine_B = nn.functional.cosine_similarity(projection_BW, vertices_BMW[:, j], dim=-1)
        both_B = batch.presence[:, i] & batch.presence[:, j]
        total = total + edges_BIJ[:, i, j].detach() * (1 - cosine_B) * both_B
    return batch.mean(total)


def edge_mixture(edges_BIJ: Tensor, batch: Batch, task: Task) -> Tensor:
    """Compute `L_edge = Σ_j |Σ_i w_{i→j} ỹ_i − y|`; classes: cross-entropy of the mixture (ours).

    The gradient reaches the edge network only, since it reads detached vertices.
    """
    mixed_BJO = edges_BIJ.transpose(1, 2) @ teachers(batch)
    return _over_targets(task.prediction_loss(mixed_BJO, batch.labels_B[:, None]), batch)


def edge_kl(edges_BIJ: Tensor, batch: Batch, task: Task, tau: float) -> Tensor:
    """Compute the control `Σ_j KL(softmax_i(−|ỹ_i − y| / τ) ‖ w)`; class error: 1 − p(y)."""
    error_BI = task.prediction_error(teachers(batch), batch.labels_B[:, None])
    wanted_BIJ = over_present((-error_BI / tau)[..., None].expand_as(edges_BIJ), batch.presence)
    ratio_BIJ = wanted_BIJ.clamp(min=1e-9).log() - edges_BIJ.clamp(min=1e-9).log()
    return _over_targets((wanted_BIJ * ratio_BIJ).sum(1), batch)


def over_present(scores_BIJ: Tensor, present_BM: Tensor) -> Tensor:
    """Compute the softmax over present sources, for each target; absent sources get 0."""
    present_BI1 = present_BM.unsqueeze(-1)
    return scores_BIJ.masked_fill(~present_BI1, -1e9).softmax(1) * present_BI1


def control_edges(
    kind: str, learned_BIJ: Tensor, batch: Batch, modalities: tuple[str, ...]
) -> Tensor:
    """Return the edge weights that `kd.graph.edges` asks for, detached.

    learned; uniform; prior (DMD's); mean (of the batch); shuffled (of the previous utterance);
    self (no other teacher).
    """
    learned_BIJ = learned_BIJ.detach()
    if kind == "learned":
        return learned_BIJ
    if kind == "uniform":
        return over_present(torch.zeros_like(learned_BIJ), batch.presence)
    if kind == "prior":
        prior_IJ = dmd_prior(modalities).to(learned_BIJ)
        return over_present(prior_IJ.expand_as(learned_BIJ), batch.presence)
    if kind == "mean":
        counted_B11 = (batch.weight_B > 0).to(learned_BIJ.dtype)[:, None, None]
        mean_IJ = (learned_BIJ * counted_B11).sum(0) / counted_B11.sum().clamp(min=1)
        chosen_BIJ = mean_IJ.expand_as(learned_BIJ)
    elif kind == "shuffled":
        chosen_BIJ = learned_BIJ.roll(1, dims=0)
    else:
        identity_IJ = torch.eye(len(modalities)).to(learned_BIJ)
        chosen_BIJ = identity_IJ.expand_as(learned_BIJ)
    kept_BIJ = chosen_BIJ * batch.presence.unsqueeze(-1)
    return kept_BIJ / kept_BIJ.sum(1, keepdim=True).clamp(min=1e-9)


def dmd_prior(modalities: tuple[str, ...]) -> Tensor:
    """Return DMD's prior as logits `[I, J]`; pairs that DMD does not know are not favoured."""
    favoured = [[float(i == j or (i, j) in _DMD_PRIOR) for j in modalities] for i in modalities]
    return torch.tensor(favoured) / _DMD_PRIOR_TEMPERATURE


def teachers(batch: Batch) -> Tensor:
    """Return the out-of-fold predictions of all modalities, `[B, M, O]`."""
    if batch.teachers is None:
        raise ValueError("distillation needs out-of-fold teachers in the batch")
    return torch.stack(list(batch.teachers.values()), dim=1)


def _over_targets(each_BJ: Tensor, batch: Batch) -> Tensor:
    """Sum over present targets that have another present modality."""
    present_BJ = batch.presence
    return batch.mean((each_BJ * present_BJ * (present_BJ.sum(1, keepdim=True) > 1)).sum(1))


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
    """Compute `L_DM` (ours): mean over ordered pairs of InfoNCE(u_j, u_i), plus
    `Σ_{i≠j} w_{i→j} FY(z_j; A_i) / s`, plus `balance · usage_imbalance`.

    The GD-Unit's edges w couple the two stages. The gradient reaches queries and codes of both ends
    in InfoNCE, and of z_j in Fenchel–Young; it does not reach the edges.
    """
    pairs = list(permutations(range(relevance_BMK.shape[1]), 2))
    if not pairs:
        return torch.zeros_like(batch.share)
    total = torch.zeros_like(batch.weight_B)
    for i, j in pairs:
        both_B = batch.presence[:, i] & batch.presence[:, j]
        contrast_B = info_nce(
            feature_BMW[:, j], feature_BMW[:, i], both_B, batch, task, temperature
        )
        z_BK, p_BK = relevance_BMK[:, j], activation_BMK[:, j]
        young_B = fenchel_young(z_BK, p_BK, activation_BMK[:, i])
        weight_B = edges_BIJ[:, i, j].detach()
        total = total + (contrast_B / len(pairs) + weight_B * young_B / scale) * both_B
    imbalance = usage_imbalance(relevance_BMK, activation_BMK, batch)
    return batch.mean(total) + balance * imbalance


def info_nce(
    anchors_BW: Tensor,
    candidates_BW: Tensor,
    both_B: Tensor,
    batch: Batch,
    task: Task,
    temperature: float,
) -> Tensor:
    """Compute InfoNCE of each anchor, `[B]`.

    The same utterance is the positive. Utterances of its class and utterances without both
    modalities are excluded from the negatives.
    """
    classes_B = task.margin_classes(batch.labels_B)
    differ_BB = classes_B[:, None] != classes_B[None, :]
    negatives_BB = differ_BB & (both_B & (batch.weight_B > 0))[None, :]
    positives_BB = torch.eye(len(classes_B), dtype=torch.bool, device=classes_B.device)
    scores_BB = anchors_BW @ candidates_BW.T / temperature
    scores_BB = scores_BB.masked_fill(~(negatives_BB | positives_BB), -torch.inf)
    return scores_BB.logsumexp(1) - scores_BB.diagonal()


def fenchel_young(z: Tensor, p: Tensor, target: Tensor) -> Tensor:
    """Compute `½‖A‖² − ½‖p‖² + z·(p − A)`, p = sparsemax(z) (Blondel et al., 2020).

    Its gradient in z is `p − A`, also off the support, where divergences between sparse vectors
    have none. A and p are fixed: by the envelope theorem the gradient through p vanishes.
    """
    a, p = target.detach(), p.detach()
    return 0.5 * a.square().sum(-1) - 0.5 * p.square().sum(-1) + (z * (p - a)).sum(-1)


def usage_imbalance(relevance_BMK: Tensor, activation_BMK: Tensor, batch: Batch) -> Tensor:
    """Measure how unevenly a batch uses the codes: `K Σ_k usage_k · p_k` (ours).

    usage is the mean activation, p the mean softmax of the relevances (load balancing of mixtures
    of experts, Fedus et al., 2021). The gradient reaches queries and codes through p alone.
    """
    weight_BM1 = (batch.presence * batch.weight_B[:, None]).unsqueeze(-1)
    weight_BM1 = weight_BM1 / weight_BM1.sum().clamp(min=1e-9)
    usage_K = (activation_BMK.detach() * weight_BM1).sum((0, 1))
    soft_K = (relevance_BMK.softmax(-1) * weight_BM1).sum((0, 1))
    return relevance_BMK.shape[-1] * (usage_K * soft_K).sum() * batch.share
