"""dvc.yaml tracks, for each stage, the keys that the stage reads and that can change its output.

Every stage runs here on tiny data and its reads are recorded. A key that is read and not tracked
leaves an old output in place after a change; a key that is tracked and not read runs a stage for
nothing.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dhmd.config.yaml12 import load_yaml
from dhmd.settings import load_params
from stages._entry import Stage
from tests.data.formats.test_stages import place_mmsa, place_sequences, unpinned
from tests.data.text.tiny import write_tiny
from tests.pipeline.reads import RECIPE, Reads
from tests.pipeline.test_dependencies import STAGES, tracked

ROOT = Path(__file__).parents[2]

COMPUTE = {"compute": "where and how a training runs changes rounding alone"}

# Stage -> key -> why a change of it does not change the stage's output.
CHANGES_NOTHING: dict[str, dict[str, str]] = {
    "align": {
        "compute.device": "where an encoder computes changes rounding alone",
        "compute.threads": "how many threads it uses changes rounding alone",
    },
    "pretrain": {
        "features.text": "asked whether an encoder is trained along; pretraining never trains one",
        "tracking.enabled": "MLflow only records",
        **COMPUTE,
    },
    "train": {"tracking.enabled": "MLflow only records", **COMPUTE},
    "ablate": {"tracking.enabled": "MLflow only records", **COMPUTE},
    "report": {"tracking.enabled": "MLflow only records"},
}

# Keys that no stage reads.
NO_STAGE_READS = ("gate", "tracking", f"{RECIPE}title", f"{RECIPE}provenance")

# Small values go into the recipe: params.yaml keeps its nulls, which mean the recipe's values.
SMALL: dict[str, Any] = {
    "model": {"width": 4, "heads": 2, "layers": 1},
    "kd": {"dictionary": {"codes": 8}},
    "pretrain": {"enabled": True, "epochs": 1},
    "train": {"epochs": 1, "batch_size": 32},
    "ablate": {"variants": ["no_distillation"]},
}
SMALL_PARAMS: dict[str, Any] = {
    "pretrain": {"folds": 2},
    "train": {"seeds": [1]},
    "evaluate": {"resamples": 100},
    "tracking": {"enabled": False},
}
GENERATOR = {"seed": 3, "n_train": 40, "n_valid": 14, "n_test": 14}


def below(key: str, tops: Mapping[str, object] | tuple[str, ...] | set[str]) -> bool:
    return any(key == top or key.startswith(f"{top}.") for top in tops)


class Keys:
    """All keys that there are, and those that each stage has read on any dataset."""

    def __init__(self) -> None:
        self.all: set[str] = set()
        self.read: dict[str, set[str]] = {stage: set() for stage in STAGES}

    def run(self, root: Path, dataset: str, stages: list[str], **sections: Any) -> None:
        """Run stages on a dataset whose files are there; `sections` of params.yaml to change."""
        params = load_yaml(ROOT / "params.yaml")
        recipe = load_yaml(root / "recipes" / f"{dataset}.yaml")
        assert isinstance(params, dict)
        assert isinstance(recipe, dict)
        for section, values in (*SMALL_PARAMS.items(), *sections.items()):
            params[section] |= values
        params["datasets"] = [dataset]
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        settings = load_params(root).for_dataset(dataset)
        reads = Reads(settings, params, recipe)
        self.all |= reads.keys
        for name in stages:
            work = importlib.import_module(f"stages.{name}").work
            with reads.recorded() as read:
                work(Stage(name=name, dataset=dataset, settings=settings))
            self.read[name] |= read


def write_recipe(root: Path, name: str, **changes: Any) -> None:
    """A shipped recipe of other files of the same form, with small values."""
    recipe = unpinned(yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text()))
    (root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe | SMALL | changes))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """What the stages read: all of them where an encoder is trained along, and two of others."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "recipes", root / "recipes")
    found = Keys()
    placed: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
        "mosi": (place_sequences, {}),
        "mmmo": (place_mmsa, {"options": None}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        patch.chdir(root)
        for dataset, (place, changes) in placed.items():
            write_recipe(root, dataset, **changes)
            place(root / "data" / "placed" / dataset)
            found.run(root, dataset, ["download", "align"])
        write_recipe(root, "demo", generator=GENERATOR)
        encoder = write_tiny(root / "encoder")
        features = {"text": "finetune", "encoder": str(encoder)}
        found.run(root, "demo", list(STAGES), features=features)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_tracks_what_it_reads_and_nothing_else(keys: Keys, stage: str) -> None:
    read, excused = keys.read[stage], CHANGES_NOTHING.get(stage, {})
    own, recipe = tracked(stage)  # a key stands for all keys below it
    named = {*own, *(RECIPE + key for key in recipe)}
    unread = {excuse for excuse in excused if not any(below(key, {excuse}) for key in read)}
    assert not unread, "not read at all: needs no excuse"
    read = {key for key in read if not below(key, excused)}
    missing = {key for key in read if not below(key, named)}
    assert not missing, "read, but not tracked"
    superfluous = {key for key in keys.all if below(key, named)} - read
    superfluous |= {top for top in named if not any(below(key, {top}) for key in keys.all)}
    assert not superfluous, "tracked, but not read"


def test_every_other_key_is_read_by_some_stage(keys: Keys) -> None:
    read = set[str]().union(*keys.read.values())
    assert {key for key in keys.all - read if not below(key, NO_STAGE_READS)} == set()
