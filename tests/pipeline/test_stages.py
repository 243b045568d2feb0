"""The stages' own few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dhmd.config.yaml12 import load_yaml
from dhmd.settings import load_params
from stages.evaluate import test_rows as rows_of_test

ROOT = Path(__file__).parents[2]

OTHER_CHOICES = {
    "dhmd": "gru",
    "learned": "uniform",
    "mixture": "kl",
    "auto": "cpu",
}


def other(value: Any) -> Any:
    """Something else of the same type, everywhere below `value`."""
    if isinstance(value, dict):
        return {key: other(item) for key, item in value.items()}
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * 3 or 3
    if isinstance(value, float):
        return value / 2 + 0.01
    if isinstance(value, list):
        return value[:1]
    return OTHER_CHOICES.get(value, value)


def test_pretraining_sees_what_dvc_tracks_for_it_and_nothing_else() -> None:
    from dhmd.training.configuration import Configuration, flat

    settings = load_params(ROOT).for_dataset("demo")
    values = other(settings.configuration.as_json()) | {"modalities": ["text", "audio"]}
    values["train"] |= {"threads": 7, "workers": 5}
    changed = Configuration.from_json(values, "test")
    read = load_yaml(ROOT / "dvc.yaml")
    assert isinstance(read, dict)
    tracked = [key for key in read["stages"]["pretrain"]["params"] if isinstance(key, str)]
    default = flat(
        Configuration(
            modalities=(),
            model=type(changed.model)(),
            decouple=type(changed.decouple)(),
            kd=type(changed.kd)(),
            pretrain=type(changed.pretrain)(),
            train=type(changed.train)(),
        ).as_json()
    )
    given, seen = flat(changed.as_json()), flat(changed.for_pretraining().as_json())
    assert seen["modalities"] == ["text", "audio"]
    for key in set(seen) - {"modalities"}:
        is_tracked = any(key == entry or key.startswith(f"{entry}.") for entry in tracked)
        expected = given if is_tracked and key != "model.modalities" else default
        assert seen[key] == expected[key], key
        if is_tracked and key != "model.modalities":
            assert given[key] != default[key], key  # otherwise the test says nothing


def test_scores_are_named_as_the_trainings_name_their_replicas(tmp_path: Path) -> None:
    (tmp_path / "seeds.csv").write_text("seed,split,mae,corr\n1,test,1.5,\n1,valid,1.25,0.5\n")
    assert rows_of_test(tmp_path / "seeds.csv") == {"seed-1": {"mae": 1.5}}
    (tmp_path / "ablations.csv").write_text("variant,seed,split,mae\nmult,2,test,1.5\n")
    assert rows_of_test(tmp_path / "ablations.csv") == {"mult/seed-2": {"mae": 1.5}}
