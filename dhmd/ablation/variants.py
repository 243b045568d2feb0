"""The variants of the full model: ablations, controls and baselines (method section 8).

Each is a small named overlay of parameters, trained with the seeds of the full model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from dhmd.ablation.config import AblateConfig
from dhmd.base.errors import DhmdError
from dhmd.models.config import MODALITIES
from dhmd.models.registry import baseline_names, card, refusal
from dhmd.training.configuration import Configuration, overlay


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs from the full model, and what for.

    Attributes:
        purpose: one line for tables and pages.
        changes: keys as in params.yaml, nested.
        modalities: the ones it reads; None for all.
        least: how many modalities it needs to differ from the full model.
    """

    purpose: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "dhmd"
    modalities: tuple[str, ...] | None = None
    least: int = 1


def _graph(**changes: Any) -> dict[str, Any]:
    return {"kd": {"graph": changes}}


def _dictionary(**changes: Any) -> dict[str, Any]:
    return {"kd": {"dictionary": changes}}


def _subsets() -> dict[str, Variant]:
    """Each modality alone and each pair."""
    named = {}
    for size in (1, 2):
        for subset in combinations(MODALITIES, size):
            name = f"only_{'_'.join(subset)}"
            purpose = f"{' and '.join(subset)} alone, in training and test"
            named[name] = Variant(purpose=purpose, modalities=subset, least=size + 1)
    return named


VARIANTS: Mapping[str, Variant] = {
    "no_distillation": Variant(
        purpose="no distillation loss at all (λ = 0)", changes={"kd": {"lambda": 0.0}}
    ),
    "self_distillation": Variant(
        purpose="each modality taught by itself alone", changes=_graph(edges="self"), least=2
    ),
    "uniform_edges": Variant(
        purpose="all teachers weigh the same", changes=_graph(edges="uniform"), least=2
    ),
    "mean_edges": Variant(
        purpose="learned edges, their mean over the batch", changes=_graph(edges="mean"), least=2
    ),
    "shuffled_edges": Variant(
        purpose="learned edges of another utterance", changes=_graph(edges="shuffled"), least=2
    ),
    "prior_edges": Variant(
        purpose="DMD's hard-coded prior as edges", changes=_graph(edges="prior"), least=2
    ),
    "kl_edges": Variant(
        purpose="edges trained on the teachers' errors (KL)",
        changes=_graph(edge_loss="kl"),
        least=2,
    ),
    "no_homogeneous_gd": Variant(purpose="no HomoGD", changes=_graph(homogeneous=False), least=2),
    "no_heterogeneous_gd": Variant(
        purpose="no HeteroGD", changes=_graph(heterogeneous=False), least=2
    ),
    "no_coarse": Variant(
        purpose="no coarse distillation: neither HomoGD nor HeteroGD",
        changes=_graph(homogeneous=False, heterogeneous=False),
        least=2,
    ),
    "no_matching": Variant(
        purpose="dictionaries in the fusion, but nothing matched over them",
        changes=_dictionary(matching=False),
        least=2,
    ),
    "no_dictionary": Variant(
        purpose="no dictionaries: the scope of DMD",
        changes=_dictionary(homogeneous=False, heterogeneous=False),
    ),
    "no_homogeneous_dictionary": Variant(
        purpose="no dictionary in the homogeneous space", changes=_dictionary(homogeneous=False)
    ),
    "no_heterogeneous_dictionary": Variant(
        purpose="no dictionary in the heterogeneous space",
        changes=_dictionary(heterogeneous=False),
    ),
    "no_decoupling": Variant(
        purpose="both spaces read the encoders' outputs", changes={"decouple": {"enabled": False}}
    ),
    "no_cross_modal": Variant(
        purpose="self-attention instead of cross-modal attention",
        changes={"model": {"cross_modal": False}},
        least=2,
    ),
    "no_auxiliary_average": Variant(
        purpose="the fusion alone, without the average of the auxiliary heads",
        changes={"model": {"auxiliary_average": False}},
    ),
    "no_pretraining": Variant(
        purpose="encoders start at random", changes={"pretrain": {"enabled": False}}
    ),
    **_subsets(),
    **{
        name: Variant(purpose=f"baseline: {card(name).summary}", architecture=name)
        for name in baseline_names()
    },
}


def applies(name: str, full: Configuration) -> bool:
    """Whether a variant is another model than the full one, on its modalities."""
    variant, modalities = VARIANTS[name], full.modalities
    if not set(variant.modalities or ()) <= set(modalities) or len(modalities) < variant.least:
        return False
    if refusal(variant.architecture, variant.modalities or modalities):
        return False
    return configure(name, full) != full


def chosen_variants(config: AblateConfig, full: Configuration) -> dict[str, Configuration]:
    """The configurations that section `ablate` asks for, by name, in the order of `VARIANTS`.

    Raises:
        DhmdError: an unknown variant, or one that these modalities do not allow.
    """
    wanted = config.variants or ()
    if config.all:
        wanted = tuple(name for name in VARIANTS if applies(name, full))
    for name in wanted:
        if name not in VARIANTS:
            raise DhmdError(
                f"ablate.variants names {name!r}, but must name some of {', '.join(VARIANTS)}"
            )
        if not applies(name, full):
            raise DhmdError(
                f"ablate.variants names {name}, which with {' and '.join(full.modalities)} and "
                "these parameters is no different model: leave it out"
            )
    return {name: configure(name, full) for name in VARIANTS if name in wanted}


def configure(name: str, full: Configuration) -> Configuration:
    """The full configuration with a variant's overlay."""
    variant = VARIANTS[name]
    changed = overlay(full, variant.changes)
    return replace(
        changed,
        architecture=variant.architecture,
        modalities=variant.modalities or full.modalities,
    )
