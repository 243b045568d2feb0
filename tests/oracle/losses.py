"""The plain model's losses: ordinary vectorised code, one modality or pair after another.

Legend: B utterances, M modalities, T steps, D width, I source and J target modality, O outputs.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn

from dhmd.models.task import Task
from tests.oracle.batches import PlainBatch
from tests.oracle.plain import PlainDHMD, PlainGraph, PlainPassed


def losses(model: PlainDHMD, passed: PlainPassed, batch: PlainBatch) -> dict[str, Tensor]:
    """`total` and its parts, by the fast model's names. Learned edges only."""
    task, kd, decouple = model.task, model.kd, model.decouple
    found = {"task": (task_losses(passed.output_BO, batch.labels_B, task) @ batch.weight_B)}
    total = found["task"]
    for space, graph in model.graphs.items():
        assert isinstance(graph, PlainGraph)
        outputs, edges = passed.outputs[space], passed.edges[space]
        vertex = vertex_loss(outputs, batch, task)
        distilled = distillation_loss(edges.detach(), outputs, batch, task, kd.graph.tau)
        if kd.graph.representation > 0:
            term = representation_loss(edges.detach(), passed.vertices[space], graph, batch)
            distilled = distilled + kd.graph.representation * term
        edge = edge_loss(edges, batch, model)
        on = getattr(kd.graph, space)
        total = total + kd.aux * ((1 - kd.lambda_) * vertex + on * kd.lambda_ * distilled) + edge
        found |= {f"vertex_{space}": vertex, f"gd_{space}": distilled, f"edge_{space}": edge}
    if decouple.enabled:
        parts = decoupling_losses(model, passed, batch)
        found |= parts
        total = total + decouple.weight * parts["dec"]
    for space in model.dictionaries:
        matching = matching_loss(model, passed, batch, space)
        weight = kd.dictionary.weight if kd.dictionary.matching else 0.0
        found[f"dm_{space}"] = matching
        total = total + kd.lambda_ * weight * matching
    return {"total": total, **found}


def task_losses(output_BO: Tensor, labels_B: Tensor, task: Task) -> Tensor:
    if task.classes is None:
        return nn.functional.l1_loss(output_BO[:, 0], labels_B, reduction="none")
    return nn.functional.cross_entropy(output_BO, labels_B.long(), reduction="none")


def vertex_loss(outputs_BMO: Tensor, batch: PlainBatch, task: Task) -> Tensor:
    each = [
        task_losses(outputs_BMO[:, m], batch.labels_B, task) * batch.present_BM[:, m]
        for m in range(outputs_BMO.shape[1])
    ]
    return torch.stack(each).sum(0) @ batch.weight_B


def counted(batch: PlainBatch) -> Tensor:
    """Targets `[B, J]` that have a foreign teacher."""
    return batch.present_BM & (batch.present_BM.sum(1, keepdim=True) > 1)


def distillation_loss(
    edges_BIJ: Tensor, outputs_BMO: Tensor, batch: PlainBatch, task: Task, tau: float
) -> Tensor:
    total = torch.zeros_like(batch.weight_B)
    count = edges_BIJ.shape[1]
    for i in range(count):
        for j in range(count):
            student, teacher = outputs_BMO[:, j], batch.teachers_BMO[:, i]
            if task.classes is None:
                distance = (student - teacher)[:, 0] ** 2
            else:
                log_teacher = (teacher.clamp(min=1e-6).log() / tau).log_softmax(-1)
                log_student = (student / tau).log_softmax(-1)
                distance = tau**2 * nn.functional.kl_div(
                    log_student, log_teacher, reduction="none", log_target=True
                ).sum(-1)
            total = total + edges_BIJ[:, i, j] * distance * counted(batch)[:, j]
    return total @ batch.weight_B


def representation_loss(
    edges_BIJ: Tensor, vertices_BMD: Tensor, graph: PlainGraph, batch: PlainBatch
) -> Tensor:
    total = torch.zeros_like(batch.weight_B)
    for i, j in permutations(range(vertices_BMD.shape[1]), 2):
        mapped = graph.projection[f"{i}-{j}"](vertices_BMD[:, i].detach())
        similar = nn.functional.cosine_similarity(mapped, vertices_BMD[:, j], dim=-1)
        both = batch.present_BM[:, i] & batch.present_BM[:, j]
        total = total + edges_BIJ[:, i, j] * (1 - similar) * both
    return total @ batch.weight_B


def edge_loss(edges_BIJ: Tensor, batch: PlainBatch, model: PlainDHMD) -> Tensor:
    labels, classes = batch.labels_B, model.task.classes
    if model.kd.graph.edge_loss == "mixture":
        mixed_BJO = edges_BIJ.transpose(1, 2) @ batch.teachers_BMO
        if classes is None:
            each_BJ = (mixed_BJO[..., 0] - labels.unsqueeze(-1)).abs()
        else:
            chosen = nn.functional.one_hot(labels.long(), classes).unsqueeze(1)
            each_BJ = -(mixed_BJO * chosen).sum(-1).clamp(min=1e-6).log()
        return (each_BJ * counted(batch)).sum(1) @ batch.weight_B
    if classes is None:
        error_BI = (batch.teachers_BMO[..., 0] - labels.unsqueeze(-1)).abs()
    else:
        chosen = nn.functional.one_hot(labels.long(), classes).unsqueeze(1)
        error_BI = 1 - (batch.teachers_BMO * chosen).sum(-1)
    scores = (-error_BI / model.kd.graph.tau).masked_fill(~batch.present_BM, -torch.inf)
    wanted_BIJ = scores.softmax(-1).unsqueeze(-1)
    each = torch.where(
        batch.present_BM.unsqueeze(-1),
        wanted_BIJ * (wanted_BIJ.clamp(min=1e-9) / edges_BIJ.clamp(min=1e-9)).log(),
        0.0,
    )
    return (each.sum(1) * counted(batch)).sum(1) @ batch.weight_B


def decoupling_losses(
    model: PlainDHMD, passed: PlainPassed, batch: PlainBatch
) -> dict[str, Tensor]:
    zero = torch.zeros_like(batch.weight_B)
    rec, cyc, ort = zero, zero, zero
    for m, mask in enumerate(batch.masks):
        com, prt = passed.com[m], passed.prt[m]
        decoded = model.decoder[m](torch.cat([com, prt], -1))
        again = model.private[m](decoded)

        def over_steps(value_BT: Tensor, mask: Tensor = mask) -> Tensor:
            return (value_BT * mask).sum(1) / mask.sum(1).clamp(min=1)

        rec = rec + over_steps(((passed.encoded[m] - decoded) ** 2).mean(-1))
        cyc = cyc + over_steps(((prt - again) ** 2).mean(-1))
        ort = ort + over_steps(nn.functional.cosine_similarity(com, prt, dim=-1).abs())
    parts = {"rec": rec @ batch.weight_B, "cyc": cyc @ batch.weight_B, "ort": ort @ batch.weight_B}
    parts["mar"] = margin_loss(passed.pooled_com_BMD, batch, model.task, model.decouple.margin)
    gamma = model.decouple.gamma
    parts["dec"] = parts["rec"] + parts["cyc"] + gamma * (parts["mar"] + parts["ort"])
    return parts


def margin_loss(pooled_BMD: Tensor, batch: PlainBatch, task: Task, unit: float) -> Tensor:
    labels = batch.labels_B
    classes = labels
    gap = (labels[:, None] != labels[None, :]).float()
    if task.classes is None:
        classes = labels.clamp(task.low, task.high).round()
        gap = (labels[:, None] - labels[None, :]).abs()
    same = classes[:, None] == classes[None, :]
    counts = batch.weight_B > 0
    hinge, triplets = labels.new_zeros(()), labels.new_zeros(())
    unit_BMD = nn.functional.normalize(pooled_BMD, dim=-1)
    for m, n in permutations(range(pooled_BMD.shape[1]), 2):
        near_ij = unit_BMD[:, m] @ unit_BMD[:, n].T
        far_ik = unit_BMD[:, m] @ unit_BMD[:, m].T
        mine, other = batch.present_BM[:, m] & counts, batch.present_BM[:, n] & counts
        positive_ij = same & mine[:, None] & other[None, :]
        negative_ik = ~same & mine[:, None] & mine[None, :]
        valid_ijk = positive_ij[:, :, None] & negative_ik[:, None, :]
        value_ijk = (unit * gap + far_ik)[:, None, :] - near_ij[:, :, None]
        hinge = hinge + (value_ijk.relu() * valid_ijk).sum()
        triplets = triplets + valid_ijk.sum()
    return hinge / triplets.clamp(min=1) * batch.weight_B.sum()


def matching_loss(model: PlainDHMD, passed: PlainPassed, batch: PlainBatch, space: str) -> Tensor:
    task, config = model.task, model.kd.dictionary
    z_BMK, a_BMK, u_BMW = passed.relevance[space], passed.activation[space], passed.feature[space]
    edges_BIJ = passed.edges[space].detach()
    classes = batch.labels_B
    if task.classes is None:
        classes = classes.clamp(task.low, task.high).round()
    differ = classes[:, None] != classes[None, :]
    itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    pairs = list(permutations(range(z_BMK.shape[1]), 2))
    total = torch.zeros_like(batch.weight_B)
    for i, j in pairs:
        both = batch.present_BM[:, i] & batch.present_BM[:, j]
        scores = u_BMW[:, j] @ u_BMW[:, i].T / config.temperature
        negatives = differ & (both & (batch.weight_B > 0))[None, :]
        scores = scores.masked_fill(~(negatives | itself), -torch.inf)
        positive = torch.arange(len(classes), device=classes.device)
        contrast = nn.functional.cross_entropy(scores, positive, reduction="none")
        z, p, a = z_BMK[:, j], a_BMK[:, j], a_BMK[:, i].detach()
        young = 0.5 * (a**2).sum(-1) + (z * (p - a)).sum(-1) - 0.5 * (p**2).sum(-1)
        each = contrast / len(pairs) + edges_BIJ[:, i, j] * young / config.scale
        total = total + each * both
    if not pairs:
        return total @ batch.weight_B
    counted_BM1 = (batch.present_BM * batch.weight_B[:, None])[..., None]
    counted_BM1 = counted_BM1 / counted_BM1.sum()
    usage_K = (a_BMK.detach() * counted_BM1).sum((0, 1))
    soft_K = (z_BMK.softmax(-1) * counted_BM1).nansum((0, 1))
    imbalance = z_BMK.shape[-1] * usage_K @ soft_K
    return total @ batch.weight_B + config.balance * imbalance * batch.weight_B.sum()
