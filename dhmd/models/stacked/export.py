"""Convert weights of the stacked DHMD to those of the plain one, `dhmd.models.dhmd.DHMD`.

Legend: G groups, I inputs, O outputs, K kernel width, D width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import permutations

from torch import Tensor

# The groups of a stacked module become modules by modality, or by directed edge.
_BY_MODALITY = (
    (r"decoupling\.(private|decoder)()", r"decoupling.\1.{}"),
    (r"homogeneous\.encoder\.(.+)", r"homogeneous.{}.\1"),
    (r"heterogeneous\.memory\.(.+)", r"heterogeneous.memory.{}.\1"),
    (r"graphs\.(\w+)\.(hidden|head|edge_source|edge_target)", r"graphs.\1.\2.{}"),
    (r"dictionaries\.(\w+)\.query\.hidden", r"dictionaries.\1.query.{}.0"),
    (r"dictionaries\.(\w+)\.query\.out", r"dictionaries.\1.query.{}.2"),
    (r"fusion\.gates\.(\d+)\.gate", r"fusion.gates.\1.{}"),
)
_BY_EDGE = (
    (r"heterogeneous\.cross\.(.+)", r"heterogeneous.cross.{}.\1"),
    (r"graphs\.(\w+)\.projection", r"graphs.\1.projection.{}"),
)
_KEY_VALUE = ".attention.key_value"


def plain_state(tensors: Mapping[str, Tensor], modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Convert the tensors of one seed by name, such as those of its weights file.

    Returns:
        A state dict of `dhmd.models.dhmd.DHMD` with the same modalities and settings.
    """
    return dict(_converted(tensors, modalities))


def _converted(
    tensors: Mapping[str, Tensor], modalities: tuple[str, ...]
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "weight_EIX":
            outputs = tensors[f"{module}.bias_EO"].shape[0]
            weight_IKO = tensor.view(tensor.shape[0], -1, outputs)
            yield f"{_encoder(module, modalities)}.weight", weight_IKO.permute(2, 0, 1)
        elif leaf == "bias_EO":
            yield f"{_encoder(module, modalities)}.bias", tensor
        elif match := re.fullmatch(r"(.+\.gru)\.(input|state)", module):
            # torch's GRU: `ih` maps the input, `hh` the state; one parameter per direction.
            kind, both = ("weight", tensor.mT) if leaf == "weight_EGIO" else ("bias", tensor)
            part = "ih" if match[2] == "input" else "hh"
            name = f"{_encoder(match[1], modalities)}.{kind}_{part}_l0"
            yield from zip((name, f"{name}_reverse"), both, strict=True)
        elif leaf == "codes_EKW":
            yield f"{module}.codes_KW", tensor
        elif module == "fusion.absent":
            yield name, tensor[:, 0]
        else:
            for target, part in zip(_groups(module, modalities), tensor, strict=True):
                yield from _leaf(target, leaf, part)


def _encoder(module: str, modalities: tuple[str, ...]) -> str:
    _, index, rest = module.split(".", 2)
    return f"encoders.{modalities[int(index)]}.{rest}"


def _groups(module: str, modalities: tuple[str, ...]) -> list[str]:
    """Return the name of the plain module for each group of a stacked one."""
    edges = [f"{source}_to_{target}" for target, source in permutations(modalities, 2)]
    for patterns, keys in ((_BY_MODALITY, list(modalities)), (_BY_EDGE, edges)):
        for pattern, template in patterns:
            if match := re.fullmatch(pattern, module):
                return [match.expand(template.replace("{}", key)) for key in keys]
    return [module]


def _leaf(module: str, leaf: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of each parameter that a linear map or norm has in the plain model."""
    if leaf == "weight_EGIO":
        tensor = tensor.T  # torch's linear maps store [O, I]
    suffix = "weight" if leaf in ("weight_EGIO", "scale_EGD") else "bias"
    if module.endswith(_KEY_VALUE):
        attention = module.removesuffix("key_value")
        for part, half in zip(("key", "value"), tensor.chunk(2), strict=True):
            yield f"{attention}{part}.{suffix}", half
    else:
        yield f"{module}.{suffix}", tensor
