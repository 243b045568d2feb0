"""Writing, loading and refusing model folders."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dhmd.base.errors import DhmdError
from dhmd.training.checkpoint import write_tensors
from dhmd.training.weights import load_model, read_description, read_weights, weights_file
from tests.training.artefacts import TinyArtefacts, copy_folder
from tests.training.corpora import TINY

CPU = torch.device("cpu")


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_loaded_model_has_the_saved_weights_and_description(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, task: str
) -> None:
    folder = tiny_artefacts.model(task)
    model, members, description = load_model(folder, CPU)
    assert members.seeds == description.seeds == (1, 2)
    assert not model.training
    parameters = dict(model.named_parameters())
    for index, seed in enumerate((1, 2)):
        stored = load_file(folder / f"seed-{seed}.safetensors")
        assert set(stored) == set(parameters)
        assert all(parameters[name][index].equal(value) for name, value in stored.items())
    names = {name.split(".")[0] for name in parameters}
    assert names == {
        "encoders",
        "decoupling",
        "homogeneous",
        "heterogeneous",
        "graphs",
        "dictionaries",
        "fusion",
    }
    assert replace(description.configuration, compute=TINY.compute) == TINY
    assert description.inputs == {"text": 4, "audio": 3, "vision": 5}
    assert list(description.features["audio"]) == ["audio0", "audio1", "audio2"]
    assert description.dataset == "tiny"
    assert description.fold == "standard"
    if task == "classification":
        assert description.class_names == ("low", "middle", "high")
        assert description.task.classes == 3
    else:
        assert description.class_names == ()
        assert (description.task.low, description.task.high) == (-3.0, 3.0)
    description.write(tmp_path)
    assert (tmp_path / "model.json").read_bytes() == (folder / "model.json").read_bytes()


def test_saving_and_reading_are_a_round_trip(tmp_path: Path) -> None:
    tensors = {"a.b": torch.randn(2, 3), "c": torch.randn(())}
    write_tensors(weights_file(tmp_path, 8), tensors)
    (tmp_path / "ordinary").touch()
    stored = read_weights(tmp_path, 8)
    assert all(stored[name].equal(value) for name, value in tensors.items())
    mode = (tmp_path / "seed-8.safetensors").stat().st_mode
    assert mode == (tmp_path / "ordinary").stat().st_mode


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("code from the file was run",))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(pickle.dumps(Trap())),
    ],
    ids=["truncated", "missing", "a pickle"],
)
def test_a_damaged_weights_file_is_refused_by_name(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    folder = copy_folder(tiny_artefacts.model(), tmp_path / "m")
    damage(folder / "seed-2.safetensors")
    with pytest.raises(DhmdError, match=r"seed-2\.safetensors is missing or damaged"):
        load_model(folder, CPU)


def test_tensors_that_do_not_fit_are_refused_by_name(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    def refused(change: Callable[[dict[str, torch.Tensor]], Any], words: str) -> None:
        folder = copy_folder(tiny_artefacts.model(), tmp_path / words[:4])
        path = folder / "seed-1.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        with pytest.raises(DhmdError, match=words):
            load_model(folder, CPU)

    name = "fusion.head.bias_EGO"
    refused(lambda tensors: tensors.pop(name), r"do not fit model.json at fusion.head.bias_EGO")
    refused(
        lambda tensors: tensors.update({"fusion.extra": torch.zeros(1)}),
        "weights do not fit model.json at fusion.extra",
    )
    refused(
        lambda tensors: tensors.update({name: torch.zeros(1, 2)}),
        r"fusion.head.bias_EGO has the shape \[1, 2\], but model.json .* the shape \[1, 1\]",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("seeds"),
        lambda content: content.update(format=99),
        lambda content: content["configuration"].update(architecture="lstm"),
        lambda content: content["configuration"]["model"].update(width="wide"),
        lambda content: content["normalisation"]["text"].pop("mean"),
        lambda content: content["task"].update(low="wide"),
        lambda content: content["features"].pop("text"),
    ],
)
def test_an_invalid_model_json_is_refused(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    folder = copy_folder(tiny_artefacts.model(), tmp_path / "m")
    content = json.loads((folder / "model.json").read_text())
    change(content)
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(DhmdError, match=r"model\.json"):
        load_model(folder, CPU)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DhmdError, match="is not a model folder"):
            read_description(folder)
    (tmp_path / "model.json").write_text('{"format": 1}')
    with pytest.raises(DhmdError, match=r"model\.json has format 1.*train the model again"):
        read_description(tmp_path)
    (tmp_path / "model.json").write_text('{"format": 2, ')
    with pytest.raises(DhmdError, match=r"model\.json"):
        read_description(tmp_path)
    (tmp_path / "model.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DhmdError, match=r"model\.json"):
        read_description(tmp_path)


def test_the_normalisation_comes_from_the_train_split(tiny_artefacts: TinyArtefacts) -> None:
    from dhmd.data.aligned import read_corpus

    corpus, description = (
        read_corpus(tiny_artefacts.aligned()),
        read_description(tiny_artefacts.model()),
    )
    for name, normalisation in description.normalisation.items():
        assert np.allclose(normalisation.mean_I, corpus.statistics[name].mean_d)
        assert np.allclose(normalisation.std_I, corpus.statistics[name].std_d)
