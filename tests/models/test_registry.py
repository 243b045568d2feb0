"""Models are found by their file's name, described without an import, and built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import dhmd.models.baselines
from dhmd.base.errors import DhmdError
from dhmd.models import catalogue, registry
from dhmd.models.catalogue import baseline_names, incompatibility, model_info
from dhmd.models.registry import code_files
from dhmd.training.weights import load_model
from tests.training.artefacts import TinyArtefacts, ablate, read_outputs, tiny_artefacts, train
from tests.training.corpora import TINY, tiny_configuration

__all__ = ["tiny_artefacts"]

MODELS_FOLDER = Path(registry.__file__).parent

# The baseline that docs/extend.md adds.
PAGE = (MODELS_FOLDER.parents[1] / "docs" / "extend.md").read_text(encoding="utf-8")
MEAN_MODEL = PAGE.split("```python\n")[1].split("```")[0]

Add = Callable[[str, str], Path]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Add a file to the baselines during a test, as a user would."""
    folder = tmp_path / "baselines"
    folder.mkdir()
    for path in (MODELS_FOLDER / "baselines").glob("*.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(catalogue, "BASELINES", folder)
    monkeypatch.setattr(dhmd.models.baselines, "__path__", [str(folder)])

    def write(name: str, text: str) -> Path:
        (folder / f"{name}.py").write_text(text)
        return folder / f"{name}.py"

    return write


def test_the_shipped_baselines_are_found() -> None:
    assert {"gru", "late_fusion", "mult"} <= set(baseline_names())
    assert model_info("mult").min_modalities == 2
    assert (
        model_info("late_fusion").summary
        == "Late fusion: a residual MLP on the pooled outputs of DHMD's encoders"
    )
    assert model_info("gru").needs == ()


def test_a_baseline_needs_one_file_only(
    add: Add, tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    """Train the baseline over all seeds, save and load it, and test it without a modality."""
    add("mean_model", MEAN_MODEL)
    assert "mean_model" in baseline_names()
    assert model_info("mean_model").summary == "Linear regression on masked means"
    variants = {
        "mean_model": replace(TINY, architecture="mean_model"),
        "late_fusion": replace(TINY, architecture="late_fusion"),
    }
    cache, pretrained = tiny_artefacts.aligned(), tiny_artefacts.pretrained()
    ablate(variants, cache, pretrained, tmp_path / "a", tmp_path / "s")
    train(variants["mean_model"], cache, pretrained, tmp_path / "m", tmp_path / "s")
    for folder in (tmp_path / "a" / "mean_model", tmp_path / "m"):
        outputs = read_outputs(folder)
        assert np.isfinite(outputs["prediction"]).all()
        assert outputs["prediction"].shape[0] == 2
    assert np.isfinite(read_outputs(tmp_path / "m")["missing/text"]).any()
    model, members, description = load_model(tmp_path / "m", torch.device("cpu"))
    assert description.configuration.architecture == "mean_model"
    assert set(model.member_tensors()) == {"linear.weight", "linear.bias"}
    assert members.count == 2


def test_models_without_their_modalities_are_refused(add: Add) -> None:
    add("mean_model", MEAN_MODEL)
    assert incompatibility("mean_model", ("text", "audio")) is None
    assert incompatibility("mean_model", ("text", "vision")) == (
        "mean_model needs audio, but the modalities are text and vision"
    )
    assert incompatibility("mean_model", ("audio",)) == (
        "mean_model needs 2 modalities, but there is only audio"
    )
    assert incompatibility("dhmd", ("physio",)) is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("my_model", "class Other: pass", r"my_model\.py must define a class MyModel"),
        ("my_model", "class MyModel(", r"my_model\.py is not valid Python"),
    ],
)
def test_a_file_without_its_class_is_refused(add: Add, name: str, text: str, message: str) -> None:
    add(name, text)
    with pytest.raises(DhmdError, match=message):
        model_info(name)


def test_listing_and_describing_models_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from dhmd.models.catalogue import baseline_names, model_info; "
        "[model_info(name) for name in baseline_names()]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_code_files_exclude_other_baselines(add: Add) -> None:
    def names(model: str) -> set[str]:
        return {path.name for path in code_files(model)}

    before = {name: code_files(name) for name in ("dhmd", "gru")}
    path = add("mean_model", MEAN_MODEL)
    assert {name: code_files(name) for name in before} == before
    assert path in code_files("mean_model")
    common = {"ensemble.py", "layers.py", "batch.py", "members.py", "losses.py", "attend.c"}
    assert common <= names("mean_model") & names("dhmd") & names("gru")
    assert not {"config.py", "gru.py", "mult.py"} & names("mean_model")
    add("wide_model", "from dhmd.models.baselines.mean_model import MeanModel as WideModel\n")
    assert path in code_files("wide_model")


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio",)])
def test_both_engines_write_the_same_outputs(
    modalities: tuple[str, ...], tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    changes = {"model": {"engine": "plain"}, "train": {"epochs": 1}, "pretrain": {"enabled": True}}
    plain = tiny_configuration(changes, modalities=modalities)
    stacked = replace(plain, model=replace(plain.model, engine="stacked"))
    outputs = {}
    for name, configuration in (("plain", plain), ("stacked", stacked)):
        args = (
            tiny_artefacts.aligned(),
            tiny_artefacts.pretrained(),
            tmp_path / name,
            tmp_path / "s",
        )
        train(configuration, *args)
        outputs[name] = read_outputs(tmp_path / name)
    assert set(outputs["plain"]) == set(outputs["stacked"])
    for name, value in outputs["plain"].items():
        if name not in ("attributes", "ids", "split"):
            assert value.shape == outputs["stacked"][name].shape
            assert np.isnan(value).tolist() == np.isnan(outputs["stacked"][name]).tolist(), name
    model, _, _ = load_model(tmp_path / "plain", torch.device("cpu"))
    assert not model.training


def test_variants_of_the_plain_engine_train_separately() -> None:
    """In the plain engine, all members have the same settings, including loss weights."""
    plain = tiny_configuration({"model": {"engine": "plain"}})
    other = replace(plain, kd=replace(plain.kd, lambda_=0.0))
    assert plain.structure() != other.structure()
    assert TINY.structure() == replace(TINY, kd=replace(TINY.kd, lambda_=0.0)).structure()
