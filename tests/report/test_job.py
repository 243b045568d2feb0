"""Test that reports/<dataset>/ is complete and reproducible for every kind of dataset."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from dhmd.base.errors import DhmdError
from dhmd.report.job import report_job
from tests.report.conftest import files_of
from tests.report.corpora import SIZES, SPECIAL_WORDS, DatasetOptions, DatasetPaths, make_dataset
from tests.report.pages import Page

ROOT = Path(__file__).parents[2]

ALWAYS = {"results", "calibration", "confusion", "training", "pretraining", "data"}
SPACES = {"edges", "embeddings", "dictionary_homogeneous", "dictionary_heterogeneous"}
ABLATED = {"ablations"}
MISSING = {"missing_modalities"}
GENERATED = {"edge_reliability"}

KINDS = {
    "classification": (
        DatasetOptions(
            task="classification", generated=False, warnings=("12 utterances <lost> audio.",)
        ),
        ALWAYS | SPACES | ABLATED | MISSING,
        ["neutral & calm", "Warning: 12 utterances <lost> audio."],
    ),
    "several classes at once": (
        DatasetOptions(task="multilabel", generated=False, variants=("gru",)),
        ALWAYS | SPACES | ABLATED | MISSING,
        ["neutral & calm", "DHMD reaches Weighted F1", "over seeds and classes"],
    ),
    "one modality, one seed, real": (
        DatasetOptions(modalities=("text",), seeds=(4,), generated=False, variants=("gru",)),
        ALWAYS | SPACES - {"edges"} | {"ablations"},
        ["With one modality, the only edge is the self-loop", "intervals need at least two seeds"],
    ),
    "two modalities, not aligned, no words, no ablations": (
        DatasetOptions(modalities=("text", "vision"), aligned=False, words=False, variants=()),
        ALWAYS | SPACES | MISSING | GENERATED,
        ["No variant was trained", "the corpus has no words"],
    ),
    "no spaces, published with the same features": (
        DatasetOptions(
            name="mosi_mmsa", generated=False, spaces=False, text_width=768, variants=()
        ),
        ALWAYS | MISSING,
        [
            "This model has no dictionary.",
            "no distillation graph",
            "this run",
            "ICLR 2026 with care: fine-tuning, seeds and selection differ",
            "unknown AAAI 2026 no: its text features are unknown to us",
        ],
    ),
    "published with other features": (
        DatasetOptions(name="mosei", generated=False, spaces=False, text_width=300, variants=()),
        ALWAYS | MISSING,
        ["86.6 54.5 – – BERT CVPR 2023, as later papers cite it no: other text features"],
    ),
    "published for other modalities": (
        DatasetOptions(name="mosi", generated=False, spaces=False, modalities=("text", "audio")),
        ALWAYS | ABLATED | MISSING,
        ["ICLR 2026 no: this run uses other modalities"],
    ),
    "four modalities, one of them new": (
        DatasetOptions(modalities=("text", "audio", "vision", "physio"), variants=("late_fusion",)),
        ALWAYS | SPACES | MISSING | GENERATED | {"ablations"},
        ["physio alone", "no physio", "Modalities: text, audio, vision, physio"],
    ),
}


def page_of(paths: DatasetPaths) -> Page:
    return Page((paths.report / "index.html").read_text("utf-8"))


def texts_of(svg: str) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def check_report(paths: DatasetPaths, expected: set[str]) -> None:
    """Check what holds for every report."""
    page = page_of(paths)
    assert page.faults == []
    assert len(set(page.ids)) == len(page.ids)
    assert page.broken_references() == []
    assert page.external_addresses() == []
    kinds = [values.get("type") for tag, values in page.elements if tag == "script"]
    assert kinds == ["application/json", None]
    assert re.search("script-src 'sha256-[^']+'\"", page.text)  # no other script may run
    pictures = {
        path.stem: path.read_text("utf-8") for path in (paths.report / "pictures").iterdir()
    }
    assert set(pictures) == expected
    assert page.count("figure") == page.count("svg") == page.count("figcaption") == len(expected)
    for name, svg in pictures.items():
        assert f"{paths.name}-{name}-figure" in page.ids
        texts = texts_of(svg)
        # The note names the dataset and the number of utterances.
        assert any(text.startswith(f"{paths.name} · ") and "n = " in text for text in texts), name
        assert not any("nan" in text.lower().split() for text in texts), name
        assert "var(--" not in svg  # the SVG files do not use the colours of the page
        assert not re.search("<dc:date>|Matplotlib", svg)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_dataset_has_a_report(tmp_path: Path, name: str) -> None:
    options, expected, sentences = KINDS[name]
    paths = make_dataset(tmp_path, options)
    paths.write_report()
    check_report(paths, expected)
    text = " ".join(" ".join(page_of(paths).words).split())
    for sentence in sentences:
        assert sentence in text


def test_the_report_has_all_sections(toy_paths: DatasetPaths) -> None:
    check_report(toy_paths, ALWAYS | SPACES | ABLATED | MISSING | GENERATED)
    page = page_of(toy_paths)
    sections = [values["id"] for tag, values in page.elements if tag == "section"]
    names = "results ablations missing graph dictionaries features predictions utterances "
    names += "training data"
    assert sections == [f"toy-{name}" for name in names.split()]
    assert sum(values.get("class") == "own" for tag, values in page.elements if tag == "tr") == 2
    text = " ".join(page.words)
    for split, count in SIZES.items():
        assert f"{count} {split}" in text
    for term in ("oracle", "Scores of every seed", "12", "generated data", "perplexity"):
        assert term in text  # 12: cleaned values
    for colour in ("#24292f", "#656d76", "#fdfdfd"):
        assert colour not in page.text  # replaced by CSS variables


def test_the_headline_names_the_best_baseline(toy_paths: DatasetPaths, tmp_path: Path) -> None:
    trained = make_dataset(
        tmp_path, DatasetOptions(name="toy", variants=("mult", "gru"), generated=False)
    )
    trained.write_report()
    for paths in (toy_paths, trained):
        means = {}
        for file, key in (("unimodal", "modality"), ("ablations", "variant")):
            by_name: dict[str, list[float]] = {}
            for row in csv.DictReader(
                (paths.metrics / "details" / f"{file}.csv").open(encoding="utf-8")
            ):
                if row["split"] == "test":
                    by_name.setdefault(row[key], []).append(float(row["mae"]))
            means |= {name: sum(values) / len(values) for name, values in by_name.items()}
        trivial = json.loads(
            (paths.metrics / "details" / "trivial_baselines.json").read_text("utf-8")
        )
        means |= {name: entry["test"]["mae"] for name, entry in trivial.items()}
        best = min(
            means.keys() - {"no_distillation", "uniform_edges"}, key=lambda name: means[name]
        )
        titles = {"mult": "MulT", "ridge_text": "ridge, text"}
        report = json.loads((paths.report / "report.json").read_text("utf-8"))
        (headline,) = [b["text"] for b in report["sections"][0]["blocks"] if b["kind"] == "text"]
        assert headline.startswith("DHMD reaches MAE ")
        assert f"The best baseline ({titles[best]}) reaches {means[best]:.3f}" in headline
        assert report["overview"][5].startswith(f"{titles[best]}: {means[best]:.3f}")
        assert ("after Holm's correction" in headline) == (best == "mult")
        assert "than the median label" in headline


def test_words_are_never_markup(toy_paths: DatasetPaths) -> None:
    page = page_of(toy_paths)
    text = " ".join(page.words)
    for word in SPECIAL_WORDS:
        assert word in text
    assert "<script>alert" not in page.text
    assert "<no words>" in text


def test_single_utterances_are_what_was_predicted(toy_paths: DatasetPaths) -> None:
    (view,) = views(toy_paths)
    with (toy_paths.metrics / "details" / "predictions.csv").open(encoding="utf-8") as stream:
        rows = {row["id"]: row for row in csv.DictReader(stream)}
    items = {item["id"]: item for item in view["items"]}
    assert {item["split"] for item in items.values()} == set(SIZES)
    assert {name for name, item in items.items() if item["split"] == "test"} == set(rows)
    for name, row in rows.items():
        item, label = items[name], float(row["label"])
        seeds = [float(row[f"seed_{seed}"]) for seed in (1, 2, 3)]
        assert item["shown"] == pytest.approx(seeds, abs=6e-4)
        assert item["label"] == pytest.approx(label, abs=6e-4)
        error = sum(abs(value - label) for value in seeds) / 3
        assert item["error"] == pytest.approx(error, abs=6e-4)
        assert set(item["edges"]) == set(item["codes"]) == {"homogeneous", "heterogeneous"}
        assert ("audio" in item["absent"]) == (item["moves"][1] is None)
    codes = {(s, c) for i in items.values() for s, m in i["codes"].items() for r in m for c, _ in r}
    assert {(space, code) for space, code, _ in view["words"]} <= codes


def views(paths: DatasetPaths) -> list[dict[str, Any]]:
    report = json.loads((paths.report / "report.json").read_text("utf-8"))
    blocks = [block for section in report["sections"] for block in section["blocks"]]
    return [block["view"] for block in blocks if block["kind"] == "utterances"]


def test_the_same_inputs_give_the_same_bytes(toy_paths: DatasetPaths, tmp_path: Path) -> None:
    again = DatasetPaths(tmp_path, toy_paths.name)
    for attribute in ("aligned", "pretrained", "models", "metrics"):
        target = getattr(again, attribute)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(getattr(toy_paths, attribute))
    # Neither the hash seed of the process nor the user's matplotlibrc changes the bytes.
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.grid: True\n")
    code = (
        "from pathlib import Path; from tests.report.corpora import DatasetPaths; "
        "DatasetPaths(Path(__import__('sys').argv[1]), 'toy').write_report(); "
        "import sys; assert 'torch' not in sys.modules; assert 'mlflow' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        check=True,
        env={"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "HOME": str(tmp_path)},
    )
    first, second = files_of(toy_paths.report), files_of(again.report)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_plots_have_the_columns_that_dvc_draws(toy_paths: DatasetPaths) -> None:
    stages: Any = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))
    names = set()
    for entry in stages["stages"]["report"]["plots"]:
        ((path, options),) = entry.items()
        name = path.rpartition("/")[2]
        names.add(name)
        with open(toy_paths.report / "plots" / name, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
        assert {options["x"], options["y"]} <= set(reader.fieldnames or ()), name
        assert rows, name
    assert names == {path.name for path in (toy_paths.report / "plots").iterdir()}


def test_files_of_different_runs_are_named(toy_paths: DatasetPaths, tmp_path: Path) -> None:
    other = make_dataset(
        tmp_path, DatasetOptions(modalities=("text",), variants=(), seeds=(1, 2), random_seed=8)
    )
    retrained = make_dataset(
        tmp_path / "again", DatasetOptions(modalities=("text",), variants=(), random_seed=8)
    )
    assert_error(other, "run the evaluate stage again", metrics=toy_paths.metrics)
    assert_error(other, "run the train stage again", models=toy_paths.models)
    assert_error(other, r"has other seeds than .*run the evaluate stage", models=retrained.models)
    seeds, edges = (other.metrics / "details" / name for name in ("seeds.csv", "edges.json"))
    original = seeds.read_text("utf-8")
    seeds.write_text("seed,split,mae\none,test,1.5\n")
    assert_error(other, r"metrics/toy has a file .*; run dvc repro")
    seeds.write_text(original)
    edges.unlink()
    assert_error(other, r"cannot read .*edges\.json.*run dvc repro")
    (other.models / "outputs.h5").write_bytes(b"no HDF5")
    assert_error(other, r"outputs\.h5 is not readable as a model's outputs")
    (other.models / "outputs.h5").unlink()
    assert_error(other, "does not exist; run the stage that writes")
    assert not other.report.exists()


def assert_error(paths: DatasetPaths, message: str, **instead: Path) -> None:
    names = ("aligned", "pretrained", "models", "metrics")
    aligned, *folders = [instead.get(name, getattr(paths, name)) for name in names]
    with pytest.raises(DhmdError, match=message):
        report_job(aligned, *folders, output=paths.report)  # type: ignore[call-arg]
