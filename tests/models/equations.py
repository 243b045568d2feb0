"""Every equation of the method for one seed, as loops over utterances, modalities and steps.

This is the reference for both engines: slow, but each function reads like its equation.

Legend: B utterances, M modalities, T steps, D width, I source and J target modality, O outputs,
K codes, W width of a dictionary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dhmd.models.batch import Batch
from dhmd.models.task import Task

# ---- decoupling (section 2) ----------------------------------------------------------------------


def over_steps(value: Callable[[int, int, int], Tensor], batch: Batch) -> Tensor:
    """Compute `Σ_b weight_b Σ_m mean over real t of value(m, b, t)`."""
    total = torch.zeros((), dtype=batch.weight_B.dtype)
    for utterance, weight in enumerate(batch.weight_B):
        for modality, mask in enumerate(batch.masks.values()):
            real = [step for step in range(mask.shape[1]) if mask[utterance, step]]
            for step in real:
                total = total + weight * value(modality, utterance, step) / len(real)
    return total


def mean_square(a: list[Tensor], b: list[Tensor], batch: Batch) -> Tensor:
    """Compute `L_rec` of X and its reconstruction, or `L_cyc` of prt and its cycle."""
    return over_steps(lambda m, u, t: ((a[m][u, t] - b[m][u, t]) ** 2).mean(), batch)


def orthogonality(com: list[Tensor], prt: list[Tensor], batch: Batch) -> Tensor:
    """Compute `L_ort = Σ_m mean_t |cos(com_m[t], prt_m[t])|`."""
    return over_steps(lambda m, u, t: cosine(com[m][u, t], prt[m][u, t]).abs(), batch)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a.norm() * b.norm())


def triplets(batch: Batch, task: Task) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the triplets of the margin loss: modality of i, i, modality of j, j, k."""
    classes = [class_of(label, task) for label in batch.labels_B]
    utterances, modalities = batch.presence.shape

    def is_real(utterance: int, modality: int) -> bool:
        return bool(batch.presence[utterance, modality] and batch.weight_B[utterance] > 0)

    for m in range(modalities):
        for i in range(utterances):
            for n in range(modalities):
                for j in range(utterances):
                    for k in range(utterances):
                        real = is_real(i, m) and is_real(j, n) and is_real(k, m)
                        if real and n != m and classes[j] == classes[i] != classes[k]:
                            yield m, i, n, j, k


def class_of(label: Tensor, task: Task) -> int:
    """Return the class of a label; Python rounds half to even."""
    value = float(label)
    return int(value) if task.classes else round(min(max(value, task.low), task.high))


def margin(pooled_BMD: Tensor, batch: Batch, task: Task, unit: float) -> Tensor:
    """Compute the mean over triplets of `max(0, α_ik − cos(com_i, com_j) + cos(com_i, com_k))`."""
    hinges = []
    for m, i, n, j, k in triplets(batch, task):
        gap = (batch.labels_B[i] - batch.labels_B[k]).abs()
        alpha = unit * (1.0 if task.classes else gap)
        near = cosine(pooled_BMD[i, m], pooled_BMD[j, n])
        far = cosine(pooled_BMD[i, m], pooled_BMD[k, m])
        hinges.append((alpha - near + far).clamp_min(0))
    if not hinges:
        return torch.zeros((), dtype=pooled_BMD.dtype)
    return torch.stack(hinges).mean() * batch.weight_B.sum()


# ---- coarse distillation (section 3) -------------------------------------------------------------


def edges(scores_BIJ: Tensor, batch: Batch) -> Tensor:
    """Compute `w_{i→j} = softmax over present i`; rows of absent sources are zero."""
    weights = torch.zeros_like(scores_BIJ)
    for utterance, present in enumerate(batch.presence):
        sources = [i for i in range(len(present)) if present[i]]
        for j in range(scores_BIJ.shape[2]):
            norm = sum(scores_BIJ[utterance, i, j].exp() for i in sources)
            for i in sources:
                weights[utterance, i, j] = scores_BIJ[utterance, i, j].exp() / norm
    return weights


def targets(batch: Batch) -> Iterator[tuple[int, int, list[int]]]:
    """Yield (utterance, target, present sources) of targets with several teachers."""
    for utterance, present in enumerate(batch.presence):
        sources = [i for i in range(len(present)) if present[i]]
        if len(sources) > 1:
            for j in sources:
                yield utterance, j, sources


def teacher_of(batch: Batch, source: int) -> Tensor:
    """Return the predictions `[B, O]` of one teacher."""
    assert batch.teachers is not None
    return list(batch.teachers.values())[source]


def vertex_task(outputs_BMO: Tensor, batch: Batch, task: Task) -> Tensor:
    """Compute the task losses of the auxiliary heads, summed over present modalities."""
    total = torch.zeros((), dtype=outputs_BMO.dtype)
    for utterance, present in enumerate(batch.presence):
        for j in range(len(present)):
            if present[j]:
                value = task_loss(outputs_BMO[utterance, j], batch.labels_B[utterance], task)
                total = total + batch.weight_B[utterance] * value
    return total


def task_loss(output_O: Tensor, label: Tensor, task: Task) -> Tensor:
    """Compute L1, cross-entropy, or the mean binary cross-entropy."""
    if not task.classes:
        return (output_O[0] - label).abs()
    if task.multilabel:
        return -sum(p.log() for p in likelihoods(output_O.sigmoid(), label)) / task.classes
    norm = sum(value.exp() for value in output_O)
    return -(output_O[int(label)].exp() / norm).log()


def likelihoods(probability_O: Tensor, label: Tensor) -> list[Tensor]:
    """Return the likelihood of each class of a label set; class 0 is the last binary digit."""
    digits = f"{int(label):b}"[:0:-1]
    return [p if digit == "1" else 1 - p for p, digit in zip(probability_O, digits, strict=True)]


def distillation(
    edges_BIJ: Tensor, outputs_BMO: Tensor, batch: Batch, task: Task, tau: float
) -> Tensor:
    """Compute `Σ_j Σ_i w_{i→j} (ỹ_i − ŷ_j)²`, or `τ² KL(teacher ‖ student)` at temperature τ."""
    total = torch.zeros((), dtype=outputs_BMO.dtype)
    for utterance, j, sources in targets(batch):
        for i in sources:
            teacher = teacher_of(batch, i)[utterance].detach()
            student = outputs_BMO[utterance, j]
            if not task.classes:
                distance = (teacher[0] - student[0]) ** 2
            elif task.multilabel:
                p = (teacher.logit() / tau).sigmoid()
                q = (student / tau).sigmoid()
                value = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
                distance = tau**2 * value.mean()
            else:
                p = (teacher.log() / tau).softmax(0)
                q = (student / tau).softmax(0)
                distance = sum(p[c] * (p[c] / q[c]).log() for c in range(task.classes))
                distance = tau**2 * distance
            weight = edges_BIJ[utterance, i, j].detach() * batch.weight_B[utterance]
            total = total + weight * distance
    return total


def edge_mixture(edges_BIJ: Tensor, batch: Batch, task: Task) -> Tensor:
    """Compute `L_edge = Σ_j |Σ_i w_{i→j} ỹ_i − y|`, or the mixture's cross-entropy."""
    total = torch.zeros((), dtype=edges_BIJ.dtype)
    for utterance, j, sources in targets(batch):
        mixed = sum(edges_BIJ[utterance, i, j] * teacher_of(batch, i)[utterance] for i in sources)
        label = batch.labels_B[utterance]
        if task.multilabel:
            value = -sum(p.log() for p in likelihoods(mixed, label)) / len(mixed)
        else:
            value = -mixed[int(label)].log() if task.classes else (mixed[0] - label).abs()
        total = total + batch.weight_B[utterance] * value
    return total


def edge_kl(edges_BIJ: Tensor, batch: Batch, task: Task, tau: float) -> Tensor:
    """Compute the control `Σ_j KL(softmax_i(−|ỹ_i − y| / τ) ‖ w)`; for classes, 1 − p(y)."""
    total = torch.zeros((), dtype=edges_BIJ.dtype)
    for utterance, j, sources in targets(batch):
        errors = []
        for i in sources:
            teacher, label = teacher_of(batch, i)[utterance], batch.labels_B[utterance]
            if task.multilabel:
                errors.append(1 - sum(likelihoods(teacher, label)) / len(teacher))
            elif task.classes:
                errors.append(1 - teacher[int(label)])
            else:
                errors.append((teacher[0] - label).abs())
        target = (-torch.stack(errors) / tau).softmax(0)
        for p, i in zip(target, sources, strict=True):
            value = p * (p / edges_BIJ[utterance, i, j]).log()
            total = total + batch.weight_B[utterance] * value
    return total


def representation(
    edges_BIJ: Tensor,
    vertices_BMD: Tensor,
    project: Callable[[int, int, Tensor], Tensor],
    batch: Batch,
) -> Tensor:
    """Compute `Σ_{i≠j} w_{i→j} (1 − cos(P_ij v_i, v_j))`, v_i fixed."""
    total = torch.zeros((), dtype=vertices_BMD.dtype)
    for utterance, j, sources in targets(batch):
        for i in sources:
            if i != j:
                mapped = project(i, j, vertices_BMD[utterance, i].detach())
                value = 1 - cosine(mapped, vertices_BMD[utterance, j])
                weight = edges_BIJ[utterance, i, j].detach() * batch.weight_B[utterance]
                total = total + weight * value
    return total


def control_edges(
    name: str, learned_BIJ: Tensor, batch: Batch, modalities: tuple[str, ...]
) -> Tensor:
    """Return the edge weights that `kd.graph.edges: name` selects."""
    result = torch.zeros_like(learned_BIJ)
    utterances, count = batch.presence.shape
    real = [u for u in range(utterances) if batch.weight_B[u] > 0]
    favoured = {("text", "audio"), ("text", "vision"), ("vision", "audio")}
    for u in range(utterances):
        for j in range(count):
            raw = []
            for i in range(count):
                if name == "learned":
                    value = learned_BIJ[u, i, j]
                elif name == "uniform":
                    value = 1.0
                elif name == "self":
                    value = float(i == j)
                elif name == "prior":
                    pair = (modalities[i], modalities[j])
                    value = math.exp((i == j or pair in favoured) / 0.25)
                elif name == "shuffled":
                    value = learned_BIJ[u - 1, i, j]
                else:
                    value = sum(learned_BIJ[v, i, j] for v in real) / len(real)
                raw.append(float(value) * float(batch.presence[u, i]))
            norm = sum(raw)
            for i in range(count):
                result[u, i, j] = raw[i] / norm if norm > 0 else 0.0
    return result


# ---- fine distillation (section 4) ---------------------------------------------------------------


def sparsemax(z: Tensor) -> Tensor:
    """Project onto the simplex by sorting (Martins & Astudillo, algorithm 1)."""
    ordered = z.sort(-1, descending=True).values
    ranks = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    sums = ordered.cumsum(-1)
    support = (1 + ranks * ordered > sums).sum(-1, keepdim=True)
    tau = (sums.gather(-1, support - 1) - 1) / support
    return (z - tau).clamp_min(0)


def contrast(
    anchors_BW: Tensor,
    candidates_BW: Tensor,
    present_B: Tensor,
    batch: Batch,
    task: Task,
    temperature: float,
) -> Tensor:
    """Return InfoNCE of each row.

    The positive is the same utterance. Utterances of its class, with weight 0, or without one of
    the modalities are no negatives.
    """
    classes = [class_of(label, task) for label in batch.labels_B]
    rows = []
    for b in range(len(anchors_BW)):
        positive = anchors_BW[b] @ candidates_BW[b] / temperature
        norm = positive.exp()
        for c in range(len(candidates_BW)):
            if c != b and present_B[c] and batch.weight_B[c] > 0 and classes[c] != classes[b]:
                norm = norm + (anchors_BW[b] @ candidates_BW[c] / temperature).exp()
        rows.append(norm.log() - positive)
    return torch.stack(rows)


def fenchel_young(z_K: Tensor, target_K: Tensor) -> Tensor:
    """Compute `max over p in Δ of (z·p − ½‖p‖²) − (z·A − ½‖A‖²)`, at its maximiser."""
    p = sparsemax(z_K)
    target = target_K.detach()
    return (z_K @ p - 0.5 * p @ p) - (z_K @ target - 0.5 * target @ target)


def matching(
    relevance_BMK: Tensor,
    activation_BMK: Tensor,
    feature_BMW: Tensor,
    edges_BIJ: Tensor,
    batch: Batch,
    task: Task,
    *,
    temperature: float,
    scale: float,
    balance: float,
) -> Tensor:
    """Compute `L_DM` of a dictionary.

    It is the mean over ordered pairs of InfoNCE(u_j, u_i), plus `Σ_{i≠j} w_{i→j} FY(z_j; A_i) / s`,
    plus balance × the imbalance of code usage.
    """
    count = batch.presence.shape[1]
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    total = torch.zeros((), dtype=feature_BMW.dtype)
    for i, j in pairs:
        present = batch.presence[:, i] & batch.presence[:, j]
        contrasts = contrast(
            feature_BMW[:, j], feature_BMW[:, i], present, batch, task, temperature
        )
        for u in range(len(present)):
            if present[u]:
                young = fenchel_young(relevance_BMK[u, j], activation_BMK[u, i])
                value = contrasts[u] / len(pairs) + edges_BIJ[u, i, j].detach() * young / scale
                total = total + batch.weight_B[u] * value
    return total + balance * imbalance(relevance_BMK, activation_BMK, batch)


def imbalance(relevance_BMK: Tensor, activation_BMK: Tensor, batch: Batch) -> Tensor:
    """Compute `K Σ_k usage_k p_k` over present modalities, weighted by utterance."""
    utterances, count, codes = relevance_BMK.shape
    usage = [0.0] * codes
    soft = relevance_BMK.new_zeros(codes)
    total_weight = 0.0
    for u in range(utterances):
        for m in range(count):
            if batch.presence[u, m]:
                weight = float(batch.weight_B[u])
                total_weight += weight
                powers = relevance_BMK[u, m].exp()
                soft = soft + weight * powers / powers.sum()
                for k in range(codes):
                    usage[k] += weight * float(activation_BMK[u, m, k].detach())
    total = sum(use / total_weight * soft[k] / total_weight for k, use in enumerate(usage))
    return codes * total * batch.weight_B.sum()
