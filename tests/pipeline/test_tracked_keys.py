"""dvc.yaml tracks, for each stage, the keys that the stage reads and that can change its output.

Every stage runs on tiny data, and the keys that it reads are recorded. If a stage does not track a
key that it reads, its output is out of date after a change of the key. If it tracks a key that it
does not read, it runs needlessly.
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
from tests.pipeline.reads import RECIPE, ReadRecorder
from tests.pipeline.test_dependencies import STAGES, tracked_keys

ROOT = Path(__file__).parents[2]

COMPUTE = {"compute": "where and how a training runs only changes rounding"}

# By stage and key, why the key does not change the output of a stage that reads it.
IRRELEVANT: dict[str, dict[str, str]] = {
    "align": {
        "compute.device": "the device of an encoder only changes rounding",
        "compute.threads": "the number of threads only changes rounding",
    },
    "pretrain": {
        "features.text": "tells whether an encoder is fine-tuned, which pretraining never does",
        "tracking.enabled": "MLflow only records",
        **COMPUTE,
    },
    "train": {"tracking.enabled": "MLflow only records", **COMPUTE},
    "ablate": {"tracking.enabled": "MLflow only records", **COMPUTE},
    "report": {"tracking.enabled": "MLflow only records"},
}

# Keys that no stage reads.
UNREAD = ("gate", "tracking", f"{RECIPE}title", f"{RECIPE}provenance")

# Values of the dataset config. Null in params.yaml means the value of the dataset config.
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


def is_below(key: str, prefixes: Mapping[str, object] | tuple[str, ...] | set[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


class KeyUsage:
    """All keys, and the keys that each stage has read for any of the datasets."""

    def __init__(self) -> None:
        self.all: set[str] = set()
        self.read: dict[str, set[str]] = {stage: set() for stage in STAGES}

    def run(self, root: Path, dataset: str, stages: list[str], **sections: Any) -> None:
        """Run stages for a dataset whose files exist, with changes of sections of params.yaml."""
        params = load_yaml(ROOT / "params.yaml")
        recipe = load_yaml(root / "recipes" / f"{dataset}.yaml")
        assert isinstance(params, dict)
        assert isinstance(recipe, dict)
        for section, values in (*SMALL_PARAMS.items(), *sections.items()):
            params[section] |= values
        params["datasets"] = [dataset]
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        settings = load_params(root).for_dataset(dataset)
        recorder = ReadRecorder(settings, params, recipe)
        self.all |= recorder.keys
        for name in stages:
            work = importlib.import_module(f"stages.{name}").work
            with recorder.record() as read:
                work(Stage(name=name, dataset=dataset, settings=settings))
            self.read[name] |= read


def write_recipe(root: Path, name: str, **changes: Any) -> None:
    """Write a shipped dataset config with small values, and without hashes of its files."""
    recipe = unpinned(yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text()))
    (root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe | SMALL | changes))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyUsage:
    """Run all stages with a fine-tuned encoder, and download and align for two other datasets."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "recipes", root / "recipes")
    recorded_keys = KeyUsage()
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
            recorded_keys.run(root, dataset, ["download", "align"])
        write_recipe(root, "demo", generator=GENERATOR)
        encoder = write_tiny(root / "encoder")
        features = {"text": "finetune", "encoder": str(encoder)}
        recorded_keys.run(root, "demo", list(STAGES), features=features)
    return recorded_keys


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_tracks_what_it_reads_and_nothing_else(keys: KeyUsage, stage: str) -> None:
    read, exceptions = keys.read[stage], IRRELEVANT.get(stage, {})
    params, recipe = tracked_keys(stage)  # a key stands for all keys below it
    dvc_keys = {*params, *(RECIPE + key for key in recipe)}
    unread = {
        exception for exception in exceptions if not any(is_below(key, {exception}) for key in read)
    }
    assert not unread, "IRRELEVANT has keys that are not read"
    read = {key for key in read if not is_below(key, exceptions)}
    missing = {key for key in read if not is_below(key, dvc_keys)}
    assert not missing, "read, but not tracked"
    superfluous = {key for key in keys.all if is_below(key, dvc_keys)} - read
    superfluous |= {top for top in dvc_keys if not any(is_below(key, {top}) for key in keys.all)}
    assert not superfluous, "tracked, but not read"


def test_every_other_key_is_read_by_some_stage(keys: KeyUsage) -> None:
    read = set[str]().union(*keys.read.values())
    assert {key for key in keys.all - read if not is_below(key, UNREAD)} == set()
