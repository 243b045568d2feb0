"""All stages on small files of each format."""

from __future__ import annotations

import importlib
import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from pandas.testing import assert_frame_equal

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import load_yaml
from dhmd.data.csd import open_sequence, write_sequence
from dhmd.data.synthetic import GeneratorConfig, generate
from dhmd.prediction.model import Model
from dhmd.publish import export
from dhmd.settings import load_params
from stages._entry import Stage
from tests.data.formats.files import (
    array_splits,
    dialogue_content,
    hkt_content,
    mmsa_splits,
    mult_splits,
    write_arrays,
    write_glove,
    write_mustard_files,
    write_pickle,
    write_urfunny,
)

ROOT = Path(__file__).parents[3]
PIPELINE = load_yaml(ROOT / "dvc.yaml")

SMALL: dict[str, dict[str, Any]] = {
    "model": {"width": 4, "heads": 2, "layers": 1},
    "pretrain": {"epochs": 1, "folds": 2},
    "train": {"seeds": [1, 2], "epochs": 1, "batch_size": 32, "accumulate": 1},
    "ablate": {"variants": ["no_distillation"]},
    "evaluate": {"resamples": 100},
    "tracking": {"enabled": False},
}


def pickled(
    file: str, content: Callable[..., object], *arguments: Any, **options: Any
) -> Callable[[Path], object]:
    """Return a function that writes a pickle into a folder."""
    protocol = options.pop("protocol", 4)
    return lambda folder: write_pickle(folder / file, content(*arguments, **options), protocol)


place_mmsa = pickled("aligned_20.pkl", mmsa_splits, seed=3)
place_unaligned = pickled("unaligned_39.pkl", mmsa_splits, aligned=False, seed=3)
place_iemocap = pickled("IEMOCAP_features_raw.pkl", dialogue_content, protocol=2)
place_meld = pickled("MELD_features_raw.pkl", dialogue_content, "meld")
place_mult = pickled("iemocap_data.pkl", mult_splits)


def place_mustard(folder: Path) -> None:
    write_pickle(folder / "mustard.pkl", hkt_content())
    write_mustard_files(folder)
    write_glove(folder / "glove.txt")
    shutil.make_archive(str(folder / "glove.840B.300d"), "zip", folder, "glove.txt")


def place_arrays(folder: Path, suffix: str = "npz") -> None:
    folder.mkdir(parents=True)
    write_arrays(folder, array_splits(), suffix)


CONTEXT = {"layout": "iemocap", "context": True}
HDF5 = {split: {"path": f"{split}.h5"} for split in ("train", "valid", "test")}

# For each generated sequence, the name of CMU's file that it replaces.
SEQUENCES = {
    "words": "CMU_MOSI_TimestampedWords",
    "vectors": "CMU_MOSI_TimestampedWordVectors",
    "acoustic": "CMU_MOSI_COVAREP",
    "visual": "CMU_MOSI_Visual_Facet_42",
    "labels": "CMU_MOSI_Opinion_Labels",
}
EMOTION_SEQUENCES = {
    "words": "CMU_MOSEI_TimestampedWords",
    "vectors": "CMU_MOSEI_TimestampedWordVectors",
    "acoustic": "CMU_MOSEI_COVAREP",
    "visual": "CMU_MOSEI_VisualFacet42",
}


def place_sequences(folder: Path, names: dict[str, str] = SEQUENCES, folds: str = "mosi") -> None:
    """Generate a corpus with the names of CMU's files, and write its folds."""
    generate(GeneratorConfig(n_train=24, n_valid=10, n_test=10, seed=3), folder)
    for name, cmu_name in names.items():
        (folder / f"{name}.csd").rename(folder / f"{cmu_name}.csd")
    (folder / "folds.json").rename(folder.parents[2] / "recipes" / "folds" / f"{folds}.json")


def place_emotions(folder: Path) -> None:
    """Write MOSEI's labels: sentiment and six random emotions."""
    place_sequences(folder, EMOTION_SEQUENCES, "mosei")
    rng = np.random.default_rng(0)
    entries = []
    with open_sequence(folder / "labels.csd") as labels:
        for video in labels.ids:
            rows = labels.read(video)
            emotions = rng.integers(-1, 2, (len(rows.features), 6)).clip(0)
            entries.append((video, np.hstack([rows.features, emotions]), rows.intervals))
    write_sequence(folder / "CMU_MOSEI_Labels.csd", root_name="All Labels", entries=entries)


def unpinned(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe without bytes and sha256, for other files."""
    for sequence in recipe["sequences"].values():
        sequence.update(bytes=None, sha256=None)
    return recipe


def run_stages(
    root: Path, name: str, alignment: str, fold: str | None = None, **sections: dict[str, Any]
) -> None:
    params = load_yaml(ROOT / "params.yaml")
    assert isinstance(params, dict)
    for section, values in (*SMALL.items(), *sections.items()):
        params[section] |= values
    params["kd"]["dictionary"]["codes"] = 8
    params["datasets"] = [name]
    params["data"] |= {"alignment": alignment, "fold": fold}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    settings = load_params(root).for_dataset(name)
    assert isinstance(PIPELINE, dict)
    for stage in PIPELINE["stages"]:
        work = importlib.import_module(f"stages.{stage}").work
        work(Stage(name=stage, dataset=name, settings=settings))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_prediction(name: str, source: Path, segments: Path | None = None) -> None:
    """Check that the model's predictions equal those that the evaluation wrote."""
    model = Model(Path("models", name), "cpu")
    with h5py.File(model.folder / "outputs.h5") as file:
        ids, expected = file["ids"].asstr()[()].tolist(), file["prediction"][()]
    table = model.run(source, segments=segments).table()
    seeds = [f"seed_{seed}" for seed in model.description.seeds]
    if model.description.class_names:
        seeds, expected = [f"{seed}_probability" for seed in seeds], expected.max(-1)
    np.testing.assert_allclose(table.loc[ids, seeds].to_numpy().T, expected, atol=1e-4)


def metrics_of(name: str) -> dict[str, Any]:
    path = Path("metrics", name, "metrics.json")
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert value["n_seeds"] == 2
    return value


@pytest.mark.parametrize(
    ("name", "place", "alignment", "changes", "metric"),
    [
        ("mosi", place_sequences, "none", {}, "mae"),
        ("mmmo", place_mmsa, "word", {"options": None}, "mae"),
        ("sims_mmsa", place_unaligned, "none", {"labels": {"low": -3.0, "high": 3.0}}, "mae"),
        ("urfunny", write_urfunny, "word", {"options": {"context": True}}, "f1"),
        ("mustard_independent", place_mustard, "word", {}, "f1"),
        ("mustard_dependent", place_mustard, "word", {}, "f1"),
        ("iemocap", place_iemocap, "word", {}, "f1"),
        ("iemocap_4", place_iemocap, "word", {"options": CONTEXT}, "unweighted_accuracy"),
        ("meld", place_meld, "none", {}, "accuracy"),
        ("iemocap_mult", place_mult, "word", {}, "f1_weighted"),
        ("mosei_emotions", place_emotions, "word", {}, "weighted_accuracy"),
        ("my_arrays", place_arrays, "none", {}, "mae"),
        ("my_arrays", partial(place_arrays, suffix="h5"), "word", {"sequences": HDF5}, "mae"),
    ],
)
def test_all_stages_run_on_each_format(
    root: Path,
    name: str,
    place: Callable[[Path], None],
    alignment: str,
    changes: dict[str, Any],
    metric: str,
) -> None:
    recipe = unpinned(yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text()))
    for key, value in changes.items():
        recipe[key] = value if key == "options" else recipe[key] | value
    for section in ("model", "kd", "pretrain", "train"):
        recipe[section] = None
    (root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    place(root / "data" / "placed" / name)
    run_stages(root, name, alignment, "dependent_3" if name == "mustard_dependent" else None)
    value = metrics_of(name)
    assert math.isfinite(value["test"][metric])
    predictions = Path("metrics", name, "details", "predictions.csv").read_text().splitlines()
    assert predictions[0].startswith("id,label,seed_1,seed_2")
    assert len(predictions) > 5
    page = Path("reports", name, "index.html").read_text(encoding="utf-8")
    if metric != "mae":
        assert "Each class as a binary problem" in page
    labels = None
    if name in ("mosi", "mosei_emotions"):
        labels = Path("data", "raw", name, "labels.csd")
    check_prediction(name, Path("data", "raw", name), labels)
    if name == "iemocap_mult":
        export(Path("models", name), Path("exported"), root=root)
        card = Path("exported", "README.md").read_text(encoding="utf-8")
        assert "multilabel with the classes neutral, happy, sad, angry" in card
        assert "Weighted F1" in card
        table = Model(Path("exported"), "cpu").predict(Path("data", "raw", name))
        assert set("+".join(table["mean"]).split("+")) <= {*recipe["labels"]["classes"], "none"}
        assert (
            table[[f"probability_{name}" for name in recipe["labels"]["classes"]]]
            .notna()
            .all(axis=None)
        )


def test_files_without_labels_have_the_same_predictions(root: Path) -> None:
    for name, place in (("mmmo", place_mmsa), ("my_arrays", place_arrays)):
        recipe = unpinned(yaml.safe_load((root / "recipes" / f"{name}.yaml").read_text()))
        recipe["options"] = None
        (root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        place(root / "data" / "placed" / name)
        run_stages(root, name, "word", ablate={"variants": []})
    model = Model("models/mmmo")
    raw = root / "data" / "raw"
    whole = model.predict(raw / "mmmo" / "aligned_20.pkl")
    splits = mmsa_splits(seed=3)
    test = {key: value for key, value in splits["test"].items() if "labels" not in key}
    for content in ({"test": test}, test):  # one split, or none
        table = model.predict(write_pickle(root / "new.pkl", content))
        assert 0 < len(table) < len(whole)
        assert_frame_equal(table, whole.loc[table.index], rtol=1e-3)
    narrow = {**test, "audio": test["audio"][:, :, :3]}
    with pytest.raises(DhmdError, match="audio has 3 features, but the model was trained on"):
        model.predict(write_pickle(root / "new.pkl", narrow))
    with pytest.raises(DhmdError, match=r"'ids'|not an MMSA feature file"):
        model.predict(write_pickle(root / "new.pkl", {"ids": []}))
    with pytest.raises(DhmdError, match="the model of mmmo cannot read a table of words"):
        model.predict(pd.DataFrame({"text": ["so good"]}))

    model, arrays = Model("models/my_arrays"), array_splits()["test"]
    whole = model.predict(raw / "my_arrays")
    del arrays["labels"]
    np.savez(root / "new.npz", **arrays)  # type: ignore[arg-type]
    table = model.predict(root / "new.npz")
    assert 0 < len(table) < len(whole)
    assert_frame_equal(table, whole.loc[table.index], rtol=1e-3)
