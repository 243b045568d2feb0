"""Dictionary matching against loops over utterances, steps and codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import DictionaryConfig
from dhmd.models.stacked.dictionary_matching import (
    _ACTIVE_AT_START,
    DictionaryMatching,
    DictionaryOutputs,
    info_nce,
    initial_codes,
    usage_imbalance,
)
from dhmd.models.stacked.sparsemax import sparsemax
from dhmd.models.task import Task
from tests.models import equations
from tests.models.batches import chosen, in_double, padded, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import members, normal
from tests.models.stacked.settings import CLASSES

TASKS = {"regression": Task(), "classification": CLASSES}
WIDTH, CODES = 4, 9
CONFIG = DictionaryConfig(codes=CODES, scale=5.0, temperature=0.3)


def dictionary(modalities: int = 3, **changes: Any) -> DictionaryMatching:
    return DictionaryMatching(members(), modalities, WIDTH, replace(CONFIG, **changes)).double()


def steps_of(batch: EnsembleBatch) -> list[Tensor]:
    """Garbage on padding too: masks alone must keep it out."""
    return [
        normal(*mask.shape, WIDTH, seed=30 + m).double().requires_grad_()
        for m, mask in enumerate(batch.masks)
    ]


@pytest.mark.parametrize("lengths", [(4, 4, 4), (3, 5, 4)])
def test_relevance_activation_and_feature_are_their_equations(lengths: tuple[int, ...]) -> None:
    batch = in_double(random_batch((2, 2, 2), steps=lengths, aligned=False, seed=4))
    unit, steps = dictionary(), steps_of(batch)
    matched = unit(steps, batch.masks)
    for r in range(2):
        codes = unit.codes_EKW[r]
        unit_codes = codes / codes.norm(dim=-1, keepdim=True)
        for m in range(3):
            hidden, out = unit.query.hidden, unit.query.out
            x = steps[m][r, 0]
            spread = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            x = (x - x.mean(-1, keepdim=True)) / spread
            h = x @ hidden.weight_EGIO[r, m] + hidden.bias_EGO[r, m]
            query = h.relu() @ out.weight_EGIO[r, m] + out.bias_EGO[r, m]
            for b in range(6):
                z = equations.relevance(query[b], codes, batch.masks[m][r, 0, b], 5.0)
                assert_close(matched.relevance_EMBK[r, m, b], z)
                if not batch.present_EMB[r, m, b]:
                    assert matched.activation_EMBK[r, m, b].eq(0).all()
                    assert matched.feature_EMBW[r, m, b].eq(0).all()
                    continue
                a = equations.sparsemax(z)
                assert_close(matched.activation_EMBK[r, m, b], a)
                mixed = a @ unit_codes
                assert_close(matched.feature_EMBW[r, m, b], mixed / mixed.norm())


def test_gradients_reach_real_steps_only_and_stay_finite() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.5, seed=4))
    unit, steps = dictionary(), steps_of(batch)
    matched = unit(steps, batch.masks)
    edges = torch.full((2, 6, 3, 3), 1 / 3).double()
    loss = unit.loss(matched, edges, batch, Task())
    (loss.sum() + matched.feature_EMBW.square().sum()).backward()
    for x, mask in zip(steps, batch.masks, strict=True):
        assert x.grad.isfinite().all()
        assert x.grad[~mask].eq(0).all()
    assert all(p.grad.isfinite().all() and p.grad.ne(0).any() for p in unit.parameters())


def test_padding_further_changes_nothing() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.3, seed=4))
    unit, steps = dictionary(), steps_of(batch)
    longer = [torch.nn.functional.pad(x, (0, 0, 0, 3), value=9.0) for x in steps]
    found, expected = unit(longer, padded(batch, (3, 3, 3)).masks), unit(steps, batch.masks)
    for name, value in vars(found).items():
        assert_close(value, vars(expected)[name], what=name)


def matched_of(batch: EnsembleBatch) -> DictionaryOutputs:
    """Leaves for all that a loss may read; A is the sparsemax of z."""
    shape = batch.present_EMB.shape
    z = (normal(*shape, CODES, seed=41).double() * 2).requires_grad_()
    u = torch.nn.functional.normalize(normal(*shape, WIDTH, seed=42).double(), dim=-1)
    present = batch.present_EMB.unsqueeze(-1)
    return DictionaryOutputs(z, sparsemax(z) * present, u.requires_grad_())


def one_way(i: int, j: int) -> Tensor:
    edges = torch.zeros(2, 6, 3, 3).double()
    edges[:, :, i, j] = 1.0
    return edges


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_matching_loss_is_its_equation_in_value_and_gradient(task: Task) -> None:
    batch = in_double(random_batch((2, 2, 2), task=task, seed=6))
    matched, unit = matched_of(batch), dictionary()
    edges = normal(2, 6, 3, 3).double().softmax(2).requires_grad_()
    found = unit.loss(matched, edges, batch, task)
    expected = torch.stack(
        [
            equations.matching(
                matched.relevance_EMBK[r].transpose(0, 1),
                matched.activation_EMBK[r].transpose(0, 1),
                matched.feature_EMBW[r].transpose(0, 1),
                edges[r],
                batch.of_member(r),
                task,
                temperature=0.3,
                scale=5.0,
                balance=0.1,
            )
            for r in range(2)
        ]
    )
    assert_close(found, expected)
    leaves = [matched.relevance_EMBK, matched.feature_EMBW]
    given = torch.autograd.grad(found.sum(), leaves, retain_graph=True)
    for mine, theirs in zip(given, torch.autograd.grad(expected.sum(), leaves), strict=True):
        assert_close(mine, theirs)
        assert mine.ne(0).any()
    assert torch.autograd.grad(found.sum(), edges, allow_unused=True) == (None,)


def test_fenchel_young_moves_the_target_alone_and_infonce_both_ends() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.0, uncounted=0, seed=6))
    matched, unit = matched_of(batch), dictionary(balance=0.0)
    none = torch.zeros(2, 6, 3, 3).double()
    pull = unit.loss(matched, one_way(0, 2), batch, Task()) - unit.loss(
        matched, none, batch, Task()
    )
    (gradient,) = torch.autograd.grad(pull.sum(), matched.relevance_EMBK)
    assert gradient[:, :2].eq(0).all()
    p, a = matched.activation_EMBK[:, 2], matched.activation_EMBK[:, 0]
    assert_close(gradient[:, 2], (p - a).detach() / 5.0 * batch.weight_EB.unsqueeze(-1))
    contrast = unit.loss(matched, none, batch, Task())
    (gradient,) = torch.autograd.grad(contrast.sum(), matched.feature_EMBW)
    assert gradient.ne(0).any(-1).all()


def test_imbalance_is_one_where_all_codes_are_used_alike_and_their_number_where_one_is() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.0, uncounted=0, seed=6))
    shape = (*batch.present_EMB.shape, CODES)
    even = torch.full(shape, 1 / CODES).double()
    nothing = torch.zeros(*shape[:-1], WIDTH).double()
    assert_close(
        usage_imbalance(DictionaryOutputs(torch.zeros(shape).double(), even, nothing), batch),
        batch.weight_EB.sum(-1),
    )
    one = torch.zeros(shape).double()
    one[..., 3] = 1.0
    found = usage_imbalance(DictionaryOutputs(60 * one, one, nothing), batch)
    assert_close(found, CODES * batch.weight_EB.sum(-1))


def test_balance_pushes_the_code_that_is_used_most_down_for_everyone() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.0, uncounted=0, seed=6))
    matched = matched_of(batch)
    (gradient,) = torch.autograd.grad(usage_imbalance(matched, batch).sum(), matched.relevance_EMBK)
    weight = batch.weight_EB[:, None, :, None]
    usage_EK = (matched.activation_EMBK * weight).sum((1, 2))
    for r in range(2):
        assert (gradient[r, ..., usage_EK[r].argmax()] > 0).all()
        assert (gradient[r, ..., usage_EK[r].argmin()] < 0).all()  # an unused code gets gradient


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_infonce_is_its_equation(task: Task) -> None:
    batch = in_double(random_batch((2, 2, 2), task=task, utterances=8, uncounted=2, seed=7))
    anchors = normal(2, 1, 8, WIDTH).double().requires_grad_()
    candidates = normal(2, 1, 8, WIDTH, seed=1).double().requires_grad_()
    both = batch.present_EMB[:, :1] & batch.present_EMB[:, 1:2]
    found = info_nce(anchors, candidates, both, batch, task, 0.2)
    expected = torch.stack(
        [
            equations.contrast(
                anchors[r, 0], candidates[r, 0], both[r, 0], batch.of_member(r), task, 0.2
            )
            for r in range(2)
        ]
    ).unsqueeze(1)
    assert_close(found, expected)
    given = torch.autograd.grad(found.square().sum(), [anchors, candidates])
    wanted = torch.autograd.grad(expected.square().sum(), [anchors, candidates])
    for mine, theirs in zip(given, wanted, strict=True):
        assert_close(mine, theirs)


def test_without_negatives_infonce_is_zero() -> None:
    batch = in_double(random_batch((2, 2), absent=0.0, uncounted=0))
    same = replace(batch, labels_EB=torch.ones(2, 6).double())
    anchors, both = normal(2, 1, 6, WIDTH).double(), torch.ones(2, 1, 6, dtype=torch.bool)
    assert info_nce(anchors, anchors.flip(2), both, same, Task(), 0.1).abs().max() < 1e-12


def test_rows_that_do_not_count_take_no_part() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.4, uncounted=2, seed=9))
    unit, matched = dictionary(), matched_of(batch)
    edges = normal(2, 6, 3, 3).double().softmax(2)
    few = DictionaryOutputs(*(x[:, :, :4] for x in vars(matched).values()))
    assert_close(
        unit.loss(matched, edges, batch, Task()),
        unit.loss(few, edges[:, :4], chosen(batch, range(4)), Task()),
    )


def test_one_modality_has_nothing_to_match() -> None:
    batch = in_double(random_batch((2,), steps=(4,), absent=0.0))
    unit = dictionary(1)
    matched = unit(steps_of(batch), batch.masks)
    loss = unit.loss(matched, torch.ones(2, 6, 1, 1).double(), batch, Task())
    assert loss.shape == (2,)
    assert loss.eq(0).all()


@pytest.mark.parametrize(("codes", "width"), [(512, 24), (128, 16)])
def test_about_as_many_codes_are_active_at_the_start_as_are_wanted(codes: int, width: int) -> None:
    config = DictionaryConfig(codes=codes)
    table = initial_codes(members(3, 4), width, config)
    assert table.shape == (2, codes, width)
    assert_close(table.norm(dim=-1), torch.ones(2, codes))
    active = _active(table, config)
    assert active.min() > 0.7 * _ACTIVE_AT_START
    assert active.max() < 1.4 * _ACTIVE_AT_START


def _active(table_EKW: Tensor, config: DictionaryConfig) -> Tensor:
    """Active codes of random utterances of eight steps, the mean by member."""
    queries = normal(len(table_EKW), 200, 8, table_EKW.shape[-1], seed=5)
    queries = torch.nn.functional.normalize(queries, dim=-1)
    z = torch.einsum("rnsw,rkw->rnsk", queries, table_EKW).amax(2) * config.scale
    return (sparsemax(z) > 0).sum(-1).float().mean(-1)


def test_initial_codes_do_not_depend_on_company() -> None:
    config = DictionaryConfig(codes=8)
    company, alone = initial_codes(members(3, 4), 6, config), initial_codes(members(4), 6, config)
    assert_close(company[1], alone[0])
    assert not company[0].equal(company[1])
    assert 1 < _active(alone, config) < 5
