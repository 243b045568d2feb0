"""The variants of the full model: ablations, controls, subsets of modalities, and baselines.

A variant is a name for a few changes of the settings (method section 8). It is trained with the
seeds of the full model. Every model of `dhmd.models.registry` is also a variant, by its own name.
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
    """The differences of a variant from the full model.

    Attributes:
        purpose: what it changes, in words.
        changes: new settings by key, nested as in params.yaml.
        architecture: the name of the model.
        modalities: the modalities that it uses; None for all.
        min_modalities: the smallest number of modalities with which it differs from the full model.
    """

    purpose: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "dhmd"
    modalities: tuple[str, ...] | None = None
    min_modalities: int = 1


def _graph(purpose: str, **changes: object) -> Variant:
    """Return a variant of graph distillation, which needs two modalities."""
    return Variant(purpose=purpose, changes={"kd": {"graph": changes}}, min_modalities=2)


def _dictionary(purpose: str, min_modalities: int = 1, **changes: object) -> Variant:
    changes = {"kd": {"dictionary": changes}}
    return Variant(purpose=purpose, changes=changes, min_modalities=min_modalities)


def _section(purpose: str, name: str, min_modalities: int = 1, **changes: object) -> Variant:
    return Variant(purpose=purpose, changes={name: changes}, min_modalities=min_modalities)


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
        "dictionaries in the fusion, but no matching over them", min_modalities=2, matching=False
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
    "no_decoupling": _section("both spaces read the encoders' outputs", "decouple", enabled=False),
    "no_cross_modal": _section(
        "self-attention instead of cross-modal attention",
        "model",
        min_modalities=2,
        cross_modal=False,
    ),
    "no_auxiliary_average": _section(
        "the fusion without the auxiliary-head average", "model", auxiliary_average=False
    ),
    "no_pretraining": _section("encoders start at random", "pretrain", enabled=False),
}


def known_variants(modalities: Sequence[str]) -> dict[str, Variant]:
    """Return all variants for these modalities by name."""
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
    configuration = _configuration(variant, full)
    if variant.architecture != full.architecture:
        return incompatibility(variant.architecture, configuration.modalities)
    if len(full.modalities) < variant.min_modalities or configuration == full:
        modalities = " and ".join(full.modalities)
        return f"with {modalities} and these settings, {name} equals the full model"
    return None


def chosen_variants(config: AblateConfig, full: Configuration) -> dict[str, Configuration]:
    """Return the configurations of the chosen variants, in the order of `known_variants`.

    Raises:
        DhmdError: an unknown variant, or one that these modalities do not allow.
    """
    variants = known_variants(full.modalities)
    names = config.variants or ()
    if config.all:
        names = tuple(name for name in variants if _refusal(name, variants[name], full) is None)
    for name in names:
        if name not in variants:
            raise DhmdError(
                f"ablate.variants: {name!r} is not a variant; choose from {', '.join(variants)}"
            )
        reason = _refusal(name, variants[name], full)
        if reason is not None:
            raise DhmdError(f"ablate.variants: {reason}; remove {name}")
    return {name: _configuration(variants[name], full) for name in variants if name in names}


def configure(name: str, full: Configuration) -> Configuration:
    """Return the configuration of a variant of the full model."""
    return _configuration(known_variants(full.modalities)[name], full)


def _configuration(variant: Variant, full: Configuration) -> Configuration:
    return replace(
        overlay(full, variant.changes),
        architecture=variant.architecture,
        modalities=variant.modalities or full.modalities,
    )
