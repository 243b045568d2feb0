"""The Python interface, in a clone and outside one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

import dhmd
from dhmd.base.errors import DhmdError
from tests.data.formats.test_stages import root, run_stages

__all__ = ["root"]

ROOT = Path(__file__).parents[1]
GENERATOR = {"seed": 3, "n_train": 40, "n_valid": 14, "n_test": 14}


def shrink_demo(root: Path) -> None:
    """Make the dataset demo a small generated corpus."""
    path = root / "recipes" / "demo.yaml"
    recipe = yaml.safe_load(path.read_text()) | {"generator": GENERATOR, "ablate": None}
    path.write_text(yaml.safe_dump(recipe | dict.fromkeys(("model", "kd", "pretrain", "train"))))


def test_training_from_python_equals_the_stages_bit_for_bit(root: Path) -> None:
    shrink_demo(root)
    run_stages(root, "demo", "word")
    shutil.rmtree(root / ".dhmd", ignore_errors=True)  # the finished trainings
    model = dhmd.train("demo", seeds=2, epochs=1)
    for name in ("seed-1.safetensors", "seed-2.safetensors", "model.json", "history.csv"):
        assert (model.folder / name).read_bytes() == Path("models", "demo", name).read_bytes()
    corpus = dhmd.load_corpus("demo")
    assert np.isnan(corpus.labels_N[corpus.index("test")]).all()
    table = model.predict(corpus)
    with h5py.File("models/demo/outputs.h5") as file:
        assert file["ids"].asstr()[()].tolist() == table.index.tolist()
        np.testing.assert_array_equal(table[["seed_1", "seed_2"]].T, file["prediction"][()])

    # The same training again is read from the kept files; settings and models change it.
    again = dhmd.train("demo", seeds=[1, 2], epochs=1)
    assert again.folder == model.folder
    other = dhmd.train(
        "demo", "late_fusion", seeds=[2], epochs=1, output="mine", **{"train.lr": 1e-2}
    )
    assert other.folder == Path("mine")
    assert repr(other) == "Model('mine': late_fusion of demo, text, audio, vision, 1 seed)"
    assert other.description.configuration.train.lr == 1e-2
    assert dhmd.Model.load("mine").predict(corpus).equals(other.predict(corpus))


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (("demos",), {}, "no recipe recipes/demos.yaml .* did you mean demo"),
        (("demo", "gpt"), {}, "there is no model 'gpt'; the models are dhmd, no_distillation"),
        (("demo",), {"kd.lamda": 1.0}, "lamda"),
        (("demo",), {"distillation.lambda": 1.0}, "params.yaml has no section distillation"),
        (("demo",), {"kd.lambda": 2.0}, r"kd\.lambda is 2\.0, but must be"),
    ],
)
def test_errors_are_one_sentence(
    root: Path, arguments: tuple[str, ...], settings: dict[str, float], sentence: str
) -> None:
    shutil.copy(ROOT / "params.yaml", root)
    with pytest.raises(DhmdError, match=sentence):
        dhmd.train(*arguments, **settings)


@pytest.mark.filterwarnings("ignore")
def test_the_snippet_of_the_readme_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shrink_demo(root)
    shutil.copy(ROOT / "params.yaml", root)
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python")[1]
    lines = section.split("```python\n")[1].split("```")[0]
    exec(lines.replace("seeds=3", "seeds=2, epochs=1"), names := {})
    assert repr(names["model"]).startswith("Model('my_model': dhmd of demo")
    assert "late fusion" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_from_top_to_bottom(root: Path) -> None:
    shrink_demo(root)
    shutil.copy(ROOT / "params.yaml", root)
    notebook = json.loads((ROOT / "docs" / "dhmd.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for number, cell in enumerate(cells, 1):
        exec("".join(cell["source"]), names)
        assert cell["execution_count"] == number
        assert not any(output["output_type"] == "error" for output in cell["outputs"])


OUTSIDE = """
import sys
sys.path.insert(0, sys.argv[1])  # before an installed package
sys.modules.update(dvc=None, mlflow=None)  # as if they were not installed
import dhmd
corpus = dhmd.load_corpus("demo")
model = dhmd.train("demo", seeds=1, epochs=1, **{"pretrain.epochs": 1, "pretrain.folds": 2})
print(len(model.predict(corpus)), dhmd.__file__)
"""


def test_the_wheel_works_without_a_clone_dvc_and_mlflow(tmp_path: Path) -> None:
    source, built, empty = tmp_path / "source", tmp_path / "built", tmp_path / "empty"
    source.mkdir()
    for name in ("dhmd", "recipes"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "params.yaml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    empty.mkdir()
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    environment = {k: v for k, v in os.environ.items() if k != "DVC_ROOT"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", OUTSIDE, str(built)]
    process = subprocess.run(
        command, cwd=empty, env=environment, text=True, capture_output=True, check=False
    )
    assert process.returncode == 0, process.stderr
    count, path = process.stdout.split()
    assert int(count) > 1000
    assert Path(path).is_relative_to(built)
    assert not list(empty.iterdir())
    assert {path.name for path in (tmp_path / "cache" / "dhmd").iterdir()} >= {"models", "raw"}
