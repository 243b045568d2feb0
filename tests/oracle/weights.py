"""Which entry of the fast model each parameter of the plain one is.

Legend: E members, G groups, I inputs, O outputs, K kernel width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from dhmd.models.stacked.dhmd import DHMD
from tests.oracle.plain import PlainDHMD, PlainTransformer


@dataclass
class Link:
    """A plain parameter, the fast one's name, and how to get from that, `[E, …]`, to this."""

    parameter: nn.Parameter
    name: str
    select: Callable[[Tensor], Tensor]


def copy_member(fast: DHMD, plain: PlainDHMD, member: int) -> list[Link]:
    """Put one member's weights into the plain model; the links, to compare gradients by.

    Raises:
        AssertionError: some entry of the fast model is linked twice, or not at all.
    """
    own = dict(fast.named_parameters())
    links = list(_links(plain, member))
    with torch.no_grad():
        for link in links:
            link.parameter.copy_(link.select(own[link.name]))
    linked = {id(link.parameter) for link in links}
    assert linked == {id(p) for p in plain.parameters()}, "a plain parameter has no link"
    for name, parameter in own.items():
        entries = torch.arange(parameter.numel()).view(parameter.shape)
        met = [link.select(entries).reshape(-1) for link in links if link.name == name]
        assert met, f"{name} has no link"
        assert torch.cat(met).sort().values.equal(entries[member].reshape(-1)), name
    return links


def _links(plain: PlainDHMD, r: int) -> Iterator[Link]:
    count = len(plain.modalities)
    for m in range(count):
        convolution = plain.encoders[m].convolution
        name = f"encoders.{m}.convolution"
        shape = (convolution.in_channels, convolution.kernel_size[0], convolution.out_channels)
        yield Link(
            convolution.weight,
            f"{name}.weight_EIX",
            lambda w, s=shape: w[r].view(s).permute(2, 0, 1),
        )
        yield Link(convolution.bias, f"{name}.bias_EO", lambda w: w[r])
    if plain.decouple.enabled:
        yield from _linear(plain.shared, "decoupling.shared", r, 0)
        yield from _each(plain.private, "decoupling.private", r)
        yield from _each(plain.decoder, "decoupling.decoder", r)
    for m in range(count):
        yield from _transformer(plain.self_attention[m], "homogeneous.encoder", r, m)
        yield from _transformer(plain.memory[m], "heterogeneous.memory", r, m)
    pairs = [(t, s) for t, s in product(range(count), range(count)) if t != s]
    if plain.cross:
        for group, (target, source) in enumerate(pairs):
            transformer = plain.cross[f"{target}-{source}"]
            yield from _transformer(transformer, "heterogeneous.cross", r, group)
    for space, graph in plain.graphs.items():
        prefix = f"graphs.{space}"
        for part in ("hidden", "head", "edge_source", "edge_target"):
            yield from _each(getattr(graph, part), f"{prefix}.{part}", r)
        yield from _linear(graph.edge_score, f"{prefix}.edge_score", r, 0)
        if graph.projection:  # the fast model goes through targets, then sources
            ordered = [(i, j) for j, i in product(range(count), range(count)) if i != j]
            for group, (i, j) in enumerate(ordered):
                projection = graph.projection[f"{i}-{j}"]
                yield from _linear(projection, f"{prefix}.projection", r, group)
    for space, dictionary in plain.dictionaries.items():
        prefix = f"dictionaries.{space}"
        for m, query in enumerate(dictionary.query):
            yield from _linear(query[0], f"{prefix}.query.hidden", r, m)
            yield from _linear(query[2], f"{prefix}.query.out", r, m)
        yield Link(dictionary.codes_KW, f"{prefix}.codes_EKW", lambda w: w[r])
    for part, gates in enumerate(plain.fusion.gates):
        yield from _each(gates, f"fusion.gates.{part}.gate", r)
        yield Link(plain.fusion.absent[part], f"fusion.absent.{part}", lambda w: w[r, :, 0])
    for part in ("narrow", "widen", "head"):
        yield from _linear(getattr(plain.fusion, part), f"fusion.{part}", r, 0)


def _linear(linear: nn.Linear, name: str, r: int, g: int) -> Iterator[Link]:
    yield Link(linear.weight, f"{name}.weight_EGIO", lambda w: w[r, g].T)
    if linear.bias is not None:
        yield Link(linear.bias, f"{name}.bias_EGO", lambda w: w[r, g])


def _each(linears: nn.ModuleList, name: str, r: int) -> Iterator[Link]:
    for group, linear in enumerate(linears):
        yield from _linear(linear, name, r, group)


def _norm(norm: nn.LayerNorm, name: str, r: int, g: int) -> Iterator[Link]:
    yield Link(norm.weight, f"{name}.scale_EGD", lambda w: w[r, g])
    yield Link(norm.bias, f"{name}.shift_EGD", lambda w: w[r, g])


def _transformer(plain: PlainTransformer, name: str, r: int, g: int) -> Iterator[Link]:
    width = plain.width
    for number, layer in enumerate(plain.layers):
        prefix = f"{name}.layers.{number}"
        yield from _norm(layer.norm_in, f"{prefix}.norm_in", r, g)
        yield from _norm(layer.norm_middle, f"{prefix}.norm_middle", r, g)
        yield from _linear(layer.attention.query, f"{prefix}.attention.query", r, g)
        joint = f"{prefix}.attention.key_value"
        halves = ((layer.attention.key, slice(width)), (layer.attention.value, slice(width, None)))
        for linear, half in halves:
            yield Link(linear.weight, f"{joint}.weight_EGIO", lambda w, h=half: w[r, g, :, h].T)
            yield Link(linear.bias, f"{joint}.bias_EGO", lambda w, h=half: w[r, g, h])
        yield from _linear(layer.attention.out, f"{prefix}.attention.out", r, g)
        yield from _linear(layer.up, f"{prefix}.up", r, g)
        yield from _linear(layer.down, f"{prefix}.down", r, g)
    yield from _norm(plain.norm, f"{name}.norm", r, g)
