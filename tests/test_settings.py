"""Settings: params.yaml takes precedence over the recipe, and the recipe over the defaults."""

from __future__ import annotations

import difflib
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import load_yaml
from dhmd.settings import Params, load_params
from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[1]

Change = Callable[[dict[str, Any]], object]


def read(tmp_path: Path, change: Change) -> Params:
    """Read the shipped params.yaml with a change and the shipped recipes."""
    values = load_yaml(ROOT / "params.yaml")
    assert isinstance(values, dict)
    change(values)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    if not (tmp_path / "recipes").exists():
        (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    return load_params(tmp_path)


def test_nulls_take_the_values_of_the_recipe() -> None:
    settings = load_params(ROOT).for_dataset("mosi")
    assert (settings.model.width, settings.model.heads, settings.model.layers) == (50, 10, 4)
    assert settings.model.dropout.attention["audio"] == 0.2
    assert settings.align.drop_words == ("sp",)
    assert settings.align.max_steps_unaligned["audio"] == 375
    assert (settings.train.lr, settings.train.accumulate) == (1e-4, 10)
    assert settings.kd.dictionary.codes == 512
    # What no recipe may say is params.yaml's.
    assert settings.kd.lambda_ == 0.3
    assert settings.modalities == ("text", "audio", "vision")


def test_other_values_take_precedence_over_the_recipe(tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["model"].update(width=20, modalities=["vision", "text"])
        values["model"]["dropout"]["input"]["text"] = 0.0
        values["align"]["drop_words"] = []
        values["train"]["lr"] = 1e-5

    settings = read(tmp_path, change).for_dataset("mosi")
    assert (settings.model.width, settings.model.heads) == (20, 10)
    assert settings.model.dropout.input["text"] == 0.0
    assert settings.align.drop_words == ()
    assert settings.train.lr == 1e-5
    assert settings.modalities == ("text", "vision")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_valid(name: str) -> None:
    settings = load_params(ROOT).for_dataset(name)
    assert settings.dataset == settings.recipe.name == name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: v.update(datasets=[]), "params.yaml: datasets is empty"),
        (lambda v: v.update(datasets=["demo", "demo"]), "params.yaml: datasets names demo twice"),
        (
            lambda v: v["data"].update(sources={"mosi_rael": "/x"}),
            "params.yaml: data.sources names mosi_rael, which has no recipe; did you mean",
        ),
        (lambda v: v.update(trian={}), "params.yaml: unknown key trian (value {}); did you mean"),
        (lambda v: v.pop("kd"), "params.yaml lacks kd: every key must be present"),
        (
            lambda v: v["kd"].update({"lambda": 2.0}),
            "params.yaml: kd.lambda is 2.0, but must be a number between 0 and 1",
        ),
        (
            lambda v: v["model"]["kernels"].update(smell=3),
            "params.yaml and recipes/demo.yaml: model.kernels: 'smell' is not a modality; the "
            "modalities are text, audio, vision",
        ),
        (
            lambda v: v["align"].update(centre_by_video=["smell"]),
            "align.centre_by_video names smell, but recipes/demo.yaml has only text, audio, vision",
        ),
        (
            lambda v: v["train"].update(seeds=[1, 1]),
            "train.seeds is [1, 1], but must name at least one seed and no seed twice",
        ),
        (
            lambda v: v["train"].update(seeds=[]),
            "train.seeds is [], but must name at least one seed and no seed twice",
        ),
        (
            lambda v: v["model"].update(width=15, heads=4),
            "model.width is 15 and model.heads is 4 for demo, but the width must be a multiple",
        ),
        (
            lambda v: v["model"].update(modalities=["smell"]),
            "model.modalities names smell, but recipes/demo.yaml has only text, audio, vision",
        ),
        (lambda v: v["model"].update(modalities=[]), "model.modalities is empty"),
        (
            lambda v: v["model"].update(modalities=["text", "text"]),
            "model.modalities names text twice",
        ),
        (
            lambda v: v["ablate"].update(variants=["a", "a"]),
            "params.yaml: ablate: variants names a twice",
        ),
    ],
)
def test_an_invalid_value_is_named(tmp_path: Path, change: Change, sentence: str) -> None:
    with pytest.raises(DhmdError) as caught:
        read(tmp_path, change).for_dataset("demo")
    assert str(caught.value).startswith(sentence)


def test_a_recipe_may_have_other_modalities(tmp_path: Path) -> None:
    """A fourth modality is an entry of the recipe; the recipe or `-S` sets its values."""
    recipe = load_yaml(ROOT / "recipes" / "my_arrays.yaml")
    assert isinstance(recipe, dict)
    recipe["modalities"] = {"physio": "ecg", "vision": "vision", "text": "text"}
    recipe["align"]["max_steps_unaligned"]["physio"] = 70
    recipe["model"]["kernels"]["physio"] = 7
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "four.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")

    def change(values: dict[str, Any]) -> None:
        values["model"]["dropout"]["input"]["physio"] = 0.4

    settings = read(tmp_path, change).for_dataset("four")
    assert settings.modalities == ("text", "vision", "physio")
    assert settings.align.max_steps_unaligned["physio"] == 70
    model = settings.configuration.model
    assert list(model.kernels) == ["text", "audio", "vision", "physio"]
    assert (model.kernels["physio"], model.dropout.input["physio"]) == (7, 0.4)
    assert model.dropout.attention["physio"] == 0.0


def test_every_key_has_a_comment() -> None:
    """The comment is above the key or at the end of its line; sections and modalities need none."""
    lines = (ROOT / "params.yaml").read_text("utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r" +[a-z_]+:", line) and not re.match(r" +(text|audio|vision):$", line):
            assert before.lstrip().startswith("#") or "#" in line, line


@pytest.mark.parametrize(
    ("override", "removed", "added"),
    [
        ("train.lr=1e-5", ["  lr:"], ["  lr: 1e-05"]),
        ("kd.lambda=0.5", ["  lambda: 0.3"], ["  lambda: 0.5"]),
        ("datasets=[mosi]", ["- demo"], ["- mosi"]),
        ("ablate.variants=[gru]", [], ["  - gru"]),
        ("+model.kernels.physio=3", [], ["    physio: 3"]),
        ("+data.sources.mosi=/x", ["  sources: {}"], ["  sources:", "    mosi: /x"]),
    ],
)
def test_dvc_changes_one_line(
    tmp_path: Path, override: str, removed: list[str], added: list[str]
) -> None:
    """`dvc exp run -S` does not change comments and other lines."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    before = path.read_text("utf-8").splitlines()
    apply_overrides(path, [override])
    changes = list(difflib.ndiff(before, path.read_text("utf-8").splitlines()))
    assert [line[2:] for line in changes if line.startswith("- ")] == removed
    assert [line[2:] for line in changes if line.startswith("+ ")] == added


def test_settings_import_no_heavy_library() -> None:
    code = "import sys, dhmd.settings; print(*{name.split('.')[0] for name in sys.modules})"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"torch", "pandas", "scipy", "matplotlib", "mlflow", "dvc"}
    assert not heavy & set(process.stdout.split())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_params_are_read_or_refused_in_one_sentence(data: st.DataObject) -> None:
    """Text is replaced at random places; only DhmdError may be raised."""
    text = (ROOT / "params.yaml").read_text("utf-8")
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        patch = data.draw(st.text(alphabet="\n :-[]{}#&*!|>'\"%@`,.~019aeftxé\t", max_size=8))
        text = text[:start] + patch + text[end:]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "params.yaml").write_text(text, encoding="utf-8")
        (root / "recipes").symlink_to(ROOT / "recipes")
        try:
            load_params(root).for_dataset("demo")
            message = ""
        except DhmdError as error:
            message = str(error)
    assert "\n" not in message
    assert len(message) < 1500
