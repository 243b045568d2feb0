"""The store of finished trainings."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dhmd.base.errors import DhmdError
from dhmd.training import store as store_module
from dhmd.training.configuration import overlay
from dhmd.training.store import DAY, Store, TrainedMember, training_key
from tests.training.artefacts import (
    TinyArtefacts,
    ablate,
    pretrain,
    read_files,
    read_outputs,
    train,
)
from tests.training.corpora import TINY, tiny_configuration
from tests.training.learners import Recorder

CPU = torch.device("cpu")
MEMBER = TrainedMember(
    {"a.b": torch.randn(2, 3), "c": torch.randn(4, 2).T},
    {"codes/x": np.zeros((5, 3, 2), np.float32), "prediction": np.array([1, np.nan], np.float32)},
    [(1, "train/total", 0.1), (2, "selected", 1.0)],
)


def test_a_stored_member_can_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert "k" not in store
    store.write("k", MEMBER)
    assert "k" in store
    member = store.read("k")
    assert all(member.parameters[name].equal(value) for name, value in MEMBER.parameters.items())
    assert member.arrays.keys() == MEMBER.arrays.keys()
    for name, value in MEMBER.arrays.items():
        assert member.arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(member.arrays[name], value)
    assert member.history == MEMBER.history


def test_a_damaged_file_is_named_and_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("k", MEMBER)
    path = tmp_path / "k.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DhmdError, match=r"k\.safetensors cannot be read .* run the stage again"):
        store.read("k")
    assert "k" not in store


def test_pruning_removes_the_least_recently_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = Store(tmp_path), time.time()
    for number in range(6):
        store.write(f"k{number}", MEMBER)
        used = now - (10 - number) * DAY if number < 5 else now
        os.utime(tmp_path / f"k{number}.safetensors", (used, used))
    store.read("k0")  # now it was used last
    for name in ("old", "new"):
        (store.tasks / name).mkdir(parents=True)
        (store.tasks / name / "checkpoint.safetensors").write_bytes(bytes(10))
    for path in (store.tasks / "old" / "checkpoint.safetensors", store.tasks / "old"):
        os.utime(path, (now - 20 * DAY, now - 20 * DAY))
    size = (tmp_path / "k0.safetensors").stat().st_size
    monkeypatch.setattr(store_module, "LIMIT", 3 * size + 100)
    store.prune()
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["k0", "k4", "k5"]
    assert [path.name for path in store.tasks.iterdir()] == ["new"]
    monkeypatch.setattr(store_module, "LIMIT", 0)
    store.prune()  # files that were used within the last day stay
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["k0", "k5"]


def test_the_key_depends_on_all_that_determines_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(configuration: object = TINY, seed: int = 1, device: str = "cpu", **more: str) -> str:
        return training_key(configuration, seed, torch.device(device), **{"aligned": "a", **more})  # type: ignore[arg-type]

    same = {"threads": 3, "workers": 2, "cuda_graph": False, "device": "auto"}
    assert key(overlay(TINY, {"train": {"seeds": (1, 5)}, "compute": same})) == key()
    others = [
        key(tiny_configuration({"kd": {"lambda": 0.9}})),
        key(replace(TINY, architecture="gru")),
        key(seed=2),
        key(device="cuda"),
        key(aligned="b"),
        key(pretrained="p"),
    ]
    monkeypatch.setattr(store_module, "code_sha256", lambda _: "other code")
    others.append(key())
    monkeypatch.setattr(torch, "__version__", "9")
    others.append(key())
    assert len({key(), *others}) == len(others)


# ---- stored trainings are not repeated -----------------------------------------------------------


def test_a_finished_training_is_not_trained_again(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    pretrained, trained, recorder = tiny_artefacts.pretrained(), tiny_artefacts.model(), Recorder()
    store = tiny_artefacts.folder / "store"
    pretrain(TINY, tiny_artefacts.aligned(), tmp_path / "p", store, recorder)
    train(TINY, tiny_artefacts.aligned(), pretrained, tmp_path / "m", store, recorder)
    assert recorder.epochs == []
    assert recorder.outputs == [tmp_path / "p", tmp_path / "m"]
    assert read_files(tmp_path / "p") == read_files(pretrained)
    assert read_files(tmp_path / "m") == read_files(trained)


def test_only_a_new_seed_or_variant_is_trained(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    aligned, recorder = tiny_artefacts.aligned(), Recorder()
    three = tiny_configuration({"train": {"seeds": (1, 2, 3), "epochs": 1}})
    pretrain(three, aligned, tmp_path / "p", tmp_path / "s", recorder)
    two = tiny_configuration({"train": {"seeds": (1, 3), "epochs": 1}})
    train(two, aligned, tmp_path / "p", tmp_path / "m", tmp_path / "s")
    before = read_outputs(tmp_path / "m")["prediction"]
    recorder = Recorder()
    train(three, aligned, tmp_path / "p", tmp_path / "m", tmp_path / "s", recorder)
    assert [list(rows) for _, rows in recorder.epochs] == [["seed-2"]]
    np.testing.assert_array_equal(read_outputs(tmp_path / "m")["prediction"][[0, 2]], before)

    variants = {
        "half": overlay(two, {"kd": {"lambda": 0.5}}),
        "gru": replace(two, architecture="gru"),
    }
    ablate(variants, aligned, tmp_path / "p", tmp_path / "a", tmp_path / "s")
    before = read_files(tmp_path / "a" / "half")
    variants = {"none": overlay(two, {"kd": {"lambda": 0.0}}), **variants}
    recorder = Recorder()
    ablate(variants, aligned, tmp_path / "p", tmp_path / "a", tmp_path / "s", recorder)
    assert [list(rows) for _, rows in recorder.epochs] == [["none/seed-1", "none/seed-3"]]
    assert read_files(tmp_path / "a" / "half") == before


def test_pretraining_trains_only_new_seeds(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    """The key of a training includes the pretrained weights and teachers of its own seed only."""
    one = tiny_configuration({"train": {"seeds": (1,), "epochs": 1}})
    two = tiny_configuration({"train": {"seeds": (1, 2), "epochs": 1}})
    for configuration, expected in ((one, ["seed-1"]), (two, ["seed-2"])):
        recorder = Recorder()
        pretrain(configuration, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "s", recorder)
        names = {name for _, rows in recorder.epochs for name in rows}
        assert names == {f"{m}/{s}" for m in ("text", "audio", "vision") for s in expected}
        recorder = Recorder()
        arguments = (
            tiny_artefacts.aligned(),
            tmp_path / "p",
            tmp_path / "m",
            tmp_path / "s",
            recorder,
        )
        train(configuration, *arguments)
        assert [list(rows) for _, rows in recorder.epochs] == [expected]
