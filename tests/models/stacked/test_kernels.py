"""The C kernels equal PyTorch's operations; the message without a compiler."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dhmd.base.errors import DhmdError
from dhmd.models.stacked import kernels
from dhmd.models.stacked.attention import TransformerLayer
from dhmd.models.stacked.layers import Dropout, LayerNorm, masked_max, padding_bias
from tests.models.batches import random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import masks, members, needs_compiler, normal, randomise
from tests.models.stacked.settings import INPUTS, small_model


def _results(function: object, inputs: list[Tensor], *arguments: object) -> list[Tensor]:
    """Return what a function of tensors computes, and the gradients of its inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = function(*leaves, *arguments)  # type: ignore[operator]
    (y**3).sum().backward()
    return [y.detach(), *(x.grad for x in leaves if x.grad is not None)]


@needs_compiler
@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.4, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize(
    ("head", "steps", "keys"), [(5, 18, 1), (10, 3, 16), (1, 1, 50), (5, 33, 0)]
)
@pytest.mark.parametrize("select", [slice(None), slice(1, 2)])
def test_a_transformer_layer_equals_that_of_torch(
    rates: tuple[float, ...], head: int, steps: int, keys: int, select: slice
) -> None:
    """Cover self-attention (no keys), and uniform weights for sequences without a real key."""
    heads, batch, groups = 3, 3, len(range(2)[select])
    inputs = [normal(2, groups, batch, steps, heads * head)]
    inputs += [normal(2, groups, batch, keys, heads * head, seed=1)] * (keys > 0)
    bias = padding_bias(masks(2, groups, batch, steps=keys or steps, least=0))
    results = []
    for native in (False, True):
        layer = TransformerLayer(members(), 2, heads * head, heads, rates, 0.1 * max(rates))
        randomise(layer)

        def run(x: Tensor, other: Tensor | None = None, layer: nn.Module = layer) -> Tensor:
            return layer(x, other, bias, select)

        with kernels.using(native=native):
            values = _results(run, inputs)
        results.append([*values, *(p.grad for p in layer.parameters())])
    for one, other in zip(*results, strict=True):
        scale = other.abs().max().clamp_min(100)  # of one key, the query has no gradient
        assert_close(one / scale, other / scale, rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("groups", [1, 3])
def test_a_layer_norm_equals_that_of_torch(groups: int) -> None:
    """Cover one scale per group, and one scale for all groups."""
    norm = LayerNorm(members(), groups, 19)
    randomise(norm)
    results = []
    for native in (False, True):
        norm.zero_grad()
        with kernels.using(native=native):
            values = _results(norm, [normal(2, 3, 5, 19)])
        results.append([*values, *(p.grad.clone() for p in norm.parameters())])
    for one, other in zip(*results, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_dropout_has_the_masks_of_torch(rate: float) -> None:
    """Cover several blocks of random words, and a tensor that is not contiguous."""
    results = []
    for native in (False, True):
        dropout = Dropout(members(), rate)
        with kernels.using(native=native):
            values = [_results(dropout, [normal(2, 1, n, 5).mT]) for n in (3, 90000, 7)]
        results.append([x for value in values for x in value])
    for one, other in zip(*results, strict=True):
        assert_close(one, other)


@needs_compiler
def test_masked_maxima_equal_those_of_torch() -> None:
    """Cover sequences without a real step, too."""
    mask = masks(2, 3, 4, steps=6, least=0)
    results = []
    for native in (False, True):
        with kernels.using(native=native):
            results.append(_results(masked_max, [normal(2, 3, 4, 6, 21)], mask))
    for one, other in zip(*results, strict=True):
        assert_close(one, other)
    x = torch.full((1, 1, 1, 2, 3), torch.nan)
    with kernels.using(native=True):
        assert masked_max(x, torch.ones(1, 1, 1, 2, dtype=torch.bool)).isnan().all()


@needs_compiler
@pytest.mark.parametrize(
    ("rows", "inner", "outputs"), [(1, 1, 1), (9, 7, 33), (20, 2050, 16), (2100, 5, 50)]
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_equals_that_of_torch(
    rows: int, inner: int, outputs: int, with_bias: bool
) -> None:
    """Cover an inner dimension above the block size of the C code."""
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
