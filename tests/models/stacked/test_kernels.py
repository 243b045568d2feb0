"""Attention and products in C equal those of PyTorch; the message without a compiler."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from torch import Tensor

from dhmd.base.errors import DhmdError
from dhmd.models.stacked import kernels
from dhmd.models.stacked.layers import Dropout, padding_bias
from tests.models.batches import random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import masks, members, normal
from tests.models.stacked.settings import INPUTS, small_model

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler is installed"
)


def _results(function: object, inputs: list[Tensor], *arguments: object) -> list[Tensor]:
    """Return what a function of tensors computes, and the gradients of its inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = function(*leaves, *arguments)  # type: ignore[operator]
    (y**3).sum().backward()
    return [y.detach(), *(x.grad for x in leaves if x.grad is not None)]


@needs_compiler
@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.4, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize(("head", "steps", "keys"), [(5, 4, 1), (10, 3, 16), (1, 1, 50)])
def test_attention_equals_torchs(
    rates: tuple[float, ...], head: int, steps: int, keys: int
) -> None:
    """Also for sequences without a real key, whose weights are uniform."""
    heads, batch = 3, 4
    inputs = [normal(16, steps, heads * head), normal(16, keys, 2 * heads * head, seed=1)]
    bias = padding_bias(masks(2, 2, batch, steps=keys, least=0)).flatten(0, 2)
    mask = Dropout(members(), rates).attention_mask((2, batch), (heads, steps, keys))
    expected = _results(kernels.attend, inputs, bias, heads, mask)
    with kernels.using(native=True):
        actual = _results(kernels.attend, inputs, bias, heads, mask)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize(
    ("rows", "inner", "outputs"), [(1, 1, 1), (9, 7, 33), (20, 2050, 16), (2100, 5, 50)]
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_equals_torchs(rows: int, inner: int, outputs: int, with_bias: bool) -> None:
    """Also for an inner dimension above the block size of the C code."""
    inputs = [normal(2, rows, inner) / inner**0.5, normal(2, inner, outputs, seed=1)]
    inputs += [normal(2, 1, outputs, seed=2)] * with_bias
    expected = _results(kernels.product, inputs)
    with kernels.using(native=True):
        actual = _results(kernels.product, inputs)
        transposed = kernels.product(inputs[0], inputs[1].mT.contiguous().mT)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-3)
    assert_close(transposed, inputs[0] @ inputs[1], rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("training", [True, False])
def test_a_model_has_the_same_losses_and_gradients(training: bool) -> None:
    batch = random_batch(list(INPUTS.values()), modalities=tuple(INPUTS), steps=(5, 7, 6), seed=3)
    results = []
    for native in (False, True):
        model = small_model().train(training)
        with kernels.using(native=native):
            losses = model.losses(batch)
            losses["total"].sum().backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append({**losses, **grads})
    plain, native_ = results
    assert native_.keys() == plain.keys()
    for name, value in plain.items():
        assert_close(native_[name], value, rtol=1e-3, atol=1e-4, what=name)


@needs_compiler
def test_torch_computes_in_bfloat16() -> None:
    x, weight = normal(1, 2, 3), normal(1, 3, 4)
    with kernels.using(native=True), torch.autocast("cpu", torch.bfloat16):
        assert kernels.product(x, weight).dtype == torch.bfloat16


def test_without_a_compiler_the_message_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    kernels.compiled.cache_clear()
    message = r"'no-such-compiler' failed.*set compute\.kernels to torch"
    with pytest.raises(DhmdError, match=message), kernels.using(native=True):
        pass
