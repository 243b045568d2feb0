"""The variants and the settings that they change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dhmd.ablation import variants
from dhmd.ablation.config import AblateConfig
from dhmd.ablation.variants import chosen_variants, configure, known_variants
from dhmd.base.errors import DhmdError
from dhmd.models.catalogue import ModelInfo
from tests.training.corpora import TINY, flat, tiny_configuration

VARIANTS = known_variants(TINY.modalities)
PAIR = replace(TINY, modalities=("text", "audio"))
ONE = replace(TINY, modalities=("audio",))


def changed(name: str) -> dict[str, object]:
    before, after = flat(TINY.as_json()), flat(configure(name, TINY).as_json())
    return {key: after[key] for key in before if before[key] != after[key]}


EXPECTED = {
    "no_distillation": {"kd.lambda": 0.0},
    "self_distillation": {"kd.graph.edges": "self"},
    "uniform_edges": {"kd.graph.edges": "uniform"},
    "mean_edges": {"kd.graph.edges": "mean"},
    "shuffled_edges": {"kd.graph.edges": "shuffled"},
    "prior_edges": {"kd.graph.edges": "prior"},
    "kl_edges": {"kd.graph.edge_loss": "kl"},
    "no_homogeneous_gd": {"kd.graph.homogeneous": False},
    "no_heterogeneous_gd": {"kd.graph.heterogeneous": False},
    "no_coarse": {"kd.graph.homogeneous": False, "kd.graph.heterogeneous": False},
    "no_matching": {"kd.dictionary.matching": False},
    "no_dictionary": {"kd.dictionary.homogeneous": False, "kd.dictionary.heterogeneous": False},
    "no_homogeneous_dictionary": {"kd.dictionary.homogeneous": False},
    "no_heterogeneous_dictionary": {"kd.dictionary.heterogeneous": False},
    "no_decoupling": {"decouple.enabled": False},
    "no_cross_modal": {"model.cross_modal": False},
    "no_auxiliary_average": {"model.auxiliary_average": False},
    "no_pretraining": {"pretrain.enabled": False},
    "only_text": {"modalities": ["text"]},
    "only_audio": {"modalities": ["audio"]},
    "only_vision": {"modalities": ["vision"]},
    "only_text_audio": {"modalities": ["text", "audio"]},
    "only_text_vision": {"modalities": ["text", "vision"]},
    "only_audio_vision": {"modalities": ["audio", "vision"]},
    "late_fusion": {"architecture": "late_fusion"},
    "mult": {"architecture": "mult"},
    "gru": {"architecture": "gru"},
}


def test_every_ablation_changes_only_its_keys() -> None:
    assert {name: changed(name) for name in VARIANTS if name in EXPECTED} == EXPECTED
    assert all(variant.purpose for variant in VARIANTS.values())


def test_variants_that_change_nothing_are_excluded() -> None:
    for_two = set(chosen_variants(AblateConfig(all=True), PAIR))
    assert "only_text" in for_two
    assert not {"only_vision", "only_text_audio", "only_text_vision"} & for_two
    assert {"self_distillation", "mult", "no_matching"} <= for_two
    for_one = set(chosen_variants(AblateConfig(all=True), ONE))
    assert not any(name.startswith("only_") for name in for_one)
    assert not {"self_distillation", "uniform_edges", "no_coarse", "mult", "no_matching"} & for_one
    assert {"no_distillation", "no_dictionary", "late_fusion", "gru", "no_decoupling"} <= for_one


def test_every_subset_of_the_modalities_is_a_variant() -> None:
    four = known_variants(("text", "audio", "vision", "physio"))
    assert len([name for name in four if name.startswith("only_")]) == 4 + 6 + 4
    assert four["only_audio_vision_physio"].modalities == ("audio", "vision", "physio")


def test_every_registered_model_is_a_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "baseline_names", lambda: ("gru", "my_model"))
    monkeypatch.setattr(variants, "model_info", lambda name: ModelInfo(f"summary of {name}", name))
    monkeypatch.setattr(variants, "incompatibility", lambda name, modalities: None)
    chosen = chosen_variants(AblateConfig(variants=("my_model",)), TINY)
    assert chosen == {"my_model": replace(TINY, architecture="my_model")}
    assert known_variants(("text",))["my_model"].purpose == "baseline: summary of my_model"


def test_chosen_variants_have_a_fixed_order() -> None:
    config = AblateConfig(variants=("gru", "no_distillation"))
    assert list(chosen_variants(config, TINY)) == ["no_distillation", "gru"]
    assert chosen_variants(config, TINY)["gru"] == replace(TINY, architecture="gru")
    assert list(chosen_variants(AblateConfig(all=True), TINY)) == list(VARIANTS)
    assert chosen_variants(AblateConfig(), TINY) == {}
    with_all = chosen_variants(AblateConfig(all=True, variants=("gru",)), PAIR)
    assert with_all == chosen_variants(AblateConfig(all=True), PAIR)


def test_a_variant_keeps_the_seeds_and_settings_of_the_full_model() -> None:
    full = tiny_configuration({"train": {"seeds": (4, 5, 6), "lr": 0.5}, "kd": {"lambda": 0.8}})
    for name in VARIANTS:
        variant = configure(name, full)
        assert variant.train == full.train
        assert variant.kd.lambda_ == (0.0 if name == "no_distillation" else 0.8)


def test_an_unknown_or_useless_variant_is_refused_by_name() -> None:
    with pytest.raises(
        DhmdError, match=r"'no_dectionary' is not a variant; choose from no_distillation"
    ):
        chosen_variants(AblateConfig(variants=("no_dectionary",)), TINY)
    with pytest.raises(DhmdError, match=r"mult needs 2 modalities, .*audio; remove mult"):
        chosen_variants(AblateConfig(variants=("mult",)), ONE)
    without_distillation = tiny_configuration({"kd": {"lambda": 0.0}})
    with pytest.raises(DhmdError, match=r"with .*vision .*, no_distillation equals the full model"):
        chosen_variants(AblateConfig(variants=("no_distillation",)), without_distillation)
    with pytest.raises(ValueError, match="variants names gru twice"):
        AblateConfig(variants=("gru", "mult", "gru"))
