"""Section `generator` of a dataset config."""

from __future__ import annotations

import pytest

from dhmd.base.errors import DhmdError
from dhmd.config.schema import load_section
from dhmd.data.synthetic import GeneratorConfig


def load(section: dict[str, object]) -> GeneratorConfig:
    return load_section(GeneratorConfig, section, where="generator", source="recipes/x.yaml")


def test_a_recipes_section_becomes_a_config() -> None:
    config = load({"regime": "clean", "n_train": 30, "strength": {"audio": 0.95}})
    assert (config.regime, config.n_train, config.strength["audio"]) == ("clean", 30, 0.95)
    assert config.strength["text"] == GeneratorConfig().strength["text"] == 0.95


def test_the_tone_has_the_remaining_share() -> None:
    assert load({}).tone == pytest.approx(1 - 0.06 - 0.22 - 0.16 - 0.16)
    whole = load({"topic": 0.1, "exclusive": {"text": 0.3, "audio": 0.3, "vision": 0.3}})
    assert whole.tone == 0.0


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"regime": "loud"}, ["generator.regime", "loud", "no_cue"]),
        ({"strength": {"smell": 0.5}}, ["generator.strength", "smell"]),
        ({"n_test": 0}, ["generator.n_test", "0"]),
        ({"strength": {"text": 1.5}}, ["generator.strength.text", "1.5"]),
        ({"vision_rate": 0.5}, ["generator.vision_rate", "0.5"]),
        ({"segments_min": 10}, ["segments_min is 10", "segments_max 9"]),
        ({"words_min": 20}, ["words_min is 20", "words_max 14"]),
        ({"topic": 0.9}, ["topic and exclusive add up to 1.44"]),
    ],
)
def test_the_message_names_an_invalid_value(section: dict[str, object], words: list[str]) -> None:
    with pytest.raises(DhmdError) as caught:
        load(section)
    for word in words:
        assert word in str(caught.value)
