"""Dictionary matching: gradients, balance and initial codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import DictionaryConfig
from dhmd.models.layers import INITIAL_ACTIVE_CODES
from dhmd.models.stacked.dictionary_matching import (
    DictionaryMatching,
    DictionaryOutputs,
    initial_codes,
)
from dhmd.models.stacked.sparsemax import sparsemax
from dhmd.models.task import Task
from tests.models.batches import in_double, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import members, normal

WIDTH, CODES = 4, 9
CONFIG = DictionaryConfig(codes=CODES, scale=5.0, temperature=0.3)


def dictionary(**changes: Any) -> DictionaryMatching:
    return DictionaryMatching(members(), 3, WIDTH, replace(CONFIG, **changes)).double()


def matched_of(batch: EnsembleBatch) -> DictionaryOutputs:
    """Return outputs with leaf tensors; A is the sparsemax of z."""
    shape = batch.present_EMB.shape
    z = (normal(*shape, CODES, seed=41).double() * 2).requires_grad_()
    u = torch.nn.functional.normalize(normal(*shape, WIDTH, seed=42).double(), dim=-1)
    present = batch.present_EMB.unsqueeze(-1)
    return DictionaryOutputs(z, sparsemax(z) * present, u.requires_grad_())


def single_edge(i: int, j: int) -> Tensor:
    edges = torch.zeros(2, 6, 3, 3).double()
    edges[:, :, i, j] = 1.0
    return edges


def test_gradients_reach_the_target_in_fenchel_young_and_both_in_infonce() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.0, padding_rows=0, seed=6))
    outputs, unit = matched_of(batch), dictionary(balance=0.0)
    none = torch.zeros(2, 6, 3, 3).double()
    pull = unit.loss(outputs, single_edge(0, 2), batch, Task()) - unit.loss(
        outputs, none, batch, Task()
    )
    (gradient,) = torch.autograd.grad(pull.sum(), outputs.relevance_EMBK)
    assert gradient[:, :2].eq(0).all()
    p, a = outputs.activation_EMBK[:, 2], outputs.activation_EMBK[:, 0]
    assert_close(gradient[:, 2], (p - a).detach() / 5.0 * batch.weight_EB.unsqueeze(-1))
    contrast = unit.loss(outputs, none, batch, Task())
    (gradient,) = torch.autograd.grad(contrast.sum(), outputs.feature_EMBW)
    assert gradient.ne(0).any(-1).all()


@pytest.mark.parametrize(("num_codes", "width"), [(512, 24), (128, 16)])
def test_initial_codes_are_sparse(num_codes: int, width: int) -> None:
    config = DictionaryConfig(codes=num_codes)
    table = initial_codes(members(3, 4), width, config)
    assert table.shape == (2, num_codes, width)
    assert_close(table.norm(dim=-1), torch.ones(2, num_codes))
    active = _active(table, config)
    assert active.min() > 0.7 * INITIAL_ACTIVE_CODES
    assert active.max() < 1.4 * INITIAL_ACTIVE_CODES


def _active(table_EKW: Tensor, config: DictionaryConfig) -> Tensor:
    """Return the mean number of active codes of random utterances of eight steps, by member."""
    queries = normal(len(table_EKW), 200, 8, table_EKW.shape[-1], seed=5)
    queries = torch.nn.functional.normalize(queries, dim=-1)
    z = torch.einsum("rnsw,rkw->rnsk", queries, table_EKW).amax(2) * config.scale
    return (sparsemax(z) > 0).sum(-1).float().mean(-1)


def test_initial_codes_do_not_depend_on_other_seeds() -> None:
    config = DictionaryConfig(codes=8)
    together, alone = initial_codes(members(3, 4), 6, config), initial_codes(members(4), 6, config)
    assert_close(together[1], alone[0])
    assert not together[0].equal(together[1])
    assert 1 < _active(alone, config) < 5
