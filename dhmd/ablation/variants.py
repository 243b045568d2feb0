"""The variants of the full model: ablations, controls, subsets of modalities, and baselines.

Each is a small named overlay of parameters (method section 8), trained with the seeds of the full
model. Every model of `dhmd.models.registry` is a variant by its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dhmd.ablation.config import AblateConfig
from dhmd.base.errors import DhmdError
from dhmd.models.catalogue import baseline_names, incompatibility, model_info
from dhmd.training.configuration import Configuration, overlay, subsets


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs from the full model.

    Attributes:
        purpose: a description for tables and pages.
        changes: keys as in params.yaml, nested.
        modalities: the modalities that it reads; None for all.
        minimum: the number of modalities from which it differs from the full model.
    """

    purpose: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "dhmd"
    modalities: tuple[str, ...] | None = None
    minimum: int = 1


def _graph(purpose: str, **changes: object) -> Variant:
    """Build a variant of graph distillation, which needs two modalities."""
    return Variant(purpose=purpose, changes={"kd": {"graph": changes}}, minimum=2)


def _dictionary(purpose: str, minimum: int = 1, **changes: object) -> Variant:
    return Variant(purpose=purpose, changes={"kd": {"dictionary": changes}}, minimum=minimum)


def _other(purpose: str, section: str, minimum: int = 1, **changes: object) -> Variant:
    return Variant(purpose=purpose, changes={section: changes}, minimum=minimum)


_ABLATIONS: Mapping[str, Variant] = {
    "no_distillation": Variant(
        purpose="no distillation loss at all (λ = 0)", changes={"kd": {"lambda": 0.0}}
    ),
    "self_distillation": _graph("each modality's only teacher is itself", edges="self"),
    "uniform_edges": _graph("all teachers have the same weight", edges="uniform"),
    "mean_edges": _graph("learned edges, their mean over the batch", edges="mean"),
    "shuffled_edges": _graph("learned edges of another utterance", edges="shuffled"),
    "prior_edges": _graph("DMD's hard-coded prior as edges", edges="prior"),
    "kl_edges": _graph("edges trained on the teachers' errors (KL)", edge_loss="kl"),
    "no_homogeneous_gd": _graph("no HomoGD", homogeneous=False),
    "no_heterogeneous_gd": _graph("no HeteroGD", heterogeneous=False),
    "no_coarse": _graph(
        "no coarse distillation: neither HomoGD nor HeteroGD",
        homogeneous=False,
        heterogeneous=False,
    ),
    "no_matching": _dictionary(
        "dictionaries in the fusion, but no matching over them", minimum=2, matching=False
    ),
    "no_dictionary": _dictionary(
        "no dictionaries: the scope of DMD", homogeneous=False, heterogeneous=False
    ),
    "no_homogeneous_dictionary": _dictionary(
        "no dictionary in the homogeneous space", homogeneous=False
    ),
    "no_heterogeneous_dictionary": _dictionary(
        "no dictionary in the heterogeneous space", heterogeneous=False
    ),
    "no_decoupling": _other("both spaces read the encoders' outputs", "decouple", enabled=False),
    "no_cross_modal": _other(
        "self-attention instead of cross-modal attention", "model", minimum=2, cross_modal=False
    ),
    "no_auxiliary_average": _other(
        "the fusion without the auxiliary-head average", "model", auxiliary_average=False
    ),
    "no_pretraining": _other("encoders start at random", "pretrain", enabled=False),
}


def known_variants(modalities: Sequence[str]) -> dict[str, Variant]:
    """Return all variants by name: ablations, subsets of the modalities, and baselines."""
    return {
        **_ABLATIONS,
        **{
            f"only_{'_'.join(subset)}": Variant(
                purpose=f"{' and '.join(subset)} alone, in training and test", modalities=subset
            )
            for subset in subsets(modalities)
        },
        **{
            name: Variant(purpose=f"baseline: {model_info(name).summary}", architecture=name)
            for name in baseline_names()
        },
    }


def _refusal(name: str, variant: Variant, full: Configuration) -> str | None:
    """Return why a variant cannot be trained with these settings; None if it can."""
    own = _configured(variant, full)
    if variant.architecture != full.architecture:
        return incompatibility(variant.architecture, own.modalities)
    if len(full.modalities) < variant.minimum or own == full:
        modalities = " and ".join(full.modalities)
        return f"{name} equals the full model with {modalities} and these parameters"
    return None


def chosen_variants(config: AblateConfig, full: Configuration) -> dict[str, Configuration]:
    """Return the configurations that section `ablate` asks for, in the order of `known_variants`.

    Raises:
        DhmdError: an unknown variant, or one that these modalities do not allow.
    """
    known = known_variants(full.modalities)
    wanted = config.variants or ()
    if config.all:
        wanted = tuple(name for name, own in known.items() if _refusal(name, own, full) is None)
    for name in wanted:
        if name not in known:
            raise DhmdError(
                f"ablate.variants names {name!r}, but must name some of {', '.join(known)}"
            )
        reason = _refusal(name, known[name], full)
        if reason is not None:
            raise DhmdError(f"ablate.variants: {reason}; leave {name} out")
    return {name: _configured(own, full) for name, own in known.items() if name in wanted}


def configure(name: str, full: Configuration) -> Configuration:
    """Return the full configuration with a variant's changes."""
    return _configured(known_variants(full.modalities)[name], full)


def _configured(variant: Variant, full: Configuration) -> Configuration:
    return replace(
        overlay(full, variant.changes),
        architecture=variant.architecture,
        modalities=variant.modalities or full.modalities,
    )
