"""reports/<dataset>/: whole, the same bytes each time, for every kind of dataset."""

from __future__ import annotations

import csv
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import load_yaml
from tests.report.conftest import files_of
from tests.report.corpora import NASTY, SIZES, Kind, Places, make
from tests.report.pages import Page

ROOT = Path(__file__).parents[2]

ALWAYS = {"results", "calibration", "confusion", "training", "pretraining", "data"}
SPACES = {"edges", "embeddings", "dictionary_homogeneous", "dictionary_heterogeneous"}
ABLATED = {"ablations", "edge_controls"}
WITHHELD = {"missing_modalities"}
PLANTED = {"edge_reliability"}

KINDS = {
    "classification": (
        Kind(task="classification", generated=False),
        ALWAYS | SPACES | ABLATED | WITHHELD,
        "neutral & calm",
    ),
    "one modality, one seed, real": (
        Kind(modalities=("text",), seeds=(4,), generated=False, variants=("gru",)),
        ALWAYS | SPACES - {"edges"} | {"ablations"},
        "With one modality the only edge is the loop",
    ),
    "two modalities, not aligned, no words, nothing ablated": (
        Kind(modalities=("text", "vision"), aligned=False, words=False, variants=()),
        ALWAYS | SPACES | WITHHELD | PLANTED,
        "No variant was trained",
    ),
    "no spaces, published": (
        Kind(name="mosi_mmsa", generated=False, spaces=False, text_width=768, variants=()),
        ALWAYS | WITHHELD | {"published"},
        "This model has no dictionary.",
    ),
}


def page_of(places: Places) -> Page:
    return Page((places.report / "index.html").read_text("utf-8"))


def check(places: Places, expected: set[str]) -> None:
    """What holds of every report."""
    page = page_of(places)
    assert page.faults == []
    assert len(set(page.ids)) == len(page.ids)
    assert page.broken_references() == []
    assert page.outer_addresses() == []
    assert page.count("script") == 0
    pictures = {path.stem: path for path in (places.report / "pictures").iterdir()}
    assert set(pictures) == expected
    assert page.count("figure") == page.count("svg") == page.count("figcaption") == len(expected)
    for name, path in pictures.items():
        assert f"{places.name}-{name}-figure" in page.ids
        root = ET.fromstring(path.read_text("utf-8"))
        said = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
        # Every picture says whose it is, and of how many.
        assert any(text.startswith(f"{places.name} · ") and "n = " in text for text in said), name
        assert not any("nan" in text.lower().split() for text in said), name


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_dataset_has_its_pictures(tmp_path: Path, name: str) -> None:
    kind, expected, said = KINDS[name]
    places = make(tmp_path, kind)
    places.draw()
    check(places, expected)
    assert said in " ".join(page_of(places).words)


def test_the_whole_report(drawn: Places) -> None:
    check(drawn, ALWAYS | SPACES | ABLATED | WITHHELD | PLANTED)
    page = page_of(drawn)
    sections = [values["id"] for tag, values in page.elements if tag == "section"]
    names = "results ablations missing graphs dictionaries spaces predictions training data"
    assert sections == [f"toy-{name}" for name in names.split()]
    said = " ".join(page.words)
    for split, count in SIZES.items():
        assert f"{count} {split}" in said
    assert "planted truth" in said
    assert "12" in said  # cleaned values


def test_words_stay_text(drawn: Places) -> None:
    page = page_of(drawn)
    said = " ".join(page.words)
    for word in NASTY:
        assert word in said
    assert "<script" not in page.text
    assert "<no words>" in said


def test_the_same_bytes_again(drawn: Places, tmp_path: Path) -> None:
    again = Places(tmp_path, drawn.name)
    for place in ("cache", "pretrained", "models", "metrics"):
        target = getattr(again, place)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(getattr(drawn, place))
    # Another process with another hash seed: no order may come from a set.
    code = (
        "from pathlib import Path; from tests.report.corpora import Places; "
        "Places(Path(__import__('sys').argv[1]), 'toy').draw(); "
        "import sys; assert 'torch' not in sys.modules; assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    first, second = files_of(drawn.report), files_of(again.report)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_plots_have_the_columns_that_dvc_draws(drawn: Places) -> None:
    stages: Any = load_yaml(ROOT / "dvc.yaml")
    listed = [dict(entry) for entry in stages["stages"]["report"]["plots"]]
    names = set()
    for entry in listed:
        ((path, options),) = entry.items()
        name = path.rpartition("/")[2]
        names.add(name)
        with open(drawn.report / "plots" / name, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
        assert {options["x"], options["y"]} <= set(reader.fieldnames or ()), name
        assert rows, name
    assert names == {path.name for path in (drawn.report / "plots").iterdir()}


def test_what_does_not_belong_together_is_refused(drawn: Places, tmp_path: Path) -> None:
    other = make(tmp_path, Kind(modalities=("text",), variants=(), seeds=(1, 2), draw=8))
    with pytest.raises(DhmdError, match="run the evaluate stage again"):
        _draw(other, metrics=drawn.metrics)
    with pytest.raises(DhmdError, match="run the train stage again"):
        _draw(other, models=drawn.models)
    retrained = make(tmp_path / "again", Kind(modalities=("text",), variants=(), draw=8))
    with pytest.raises(DhmdError, match=r"holds other seeds than .*run the evaluate stage again"):
        _draw(other, models=retrained.models)
    (other.metrics / "details/trivial_baselines.json").unlink()
    with pytest.raises(DhmdError, match=r"cannot read .*trivial_baselines\.json.*run dvc repro"):
        _draw(other)
    (other.models / "outputs.h5").write_bytes(b"no HDF5")
    with pytest.raises(DhmdError, match=r"outputs\.h5 is damaged: its sha256"):
        _draw(other)
    (other.models / "outputs.h5").unlink()
    with pytest.raises(DhmdError, match="does not exist; run the stage that writes"):
        _draw(other)
    assert not other.report.exists()


def _draw(places: Places, **instead: Path) -> None:
    from dhmd.report.job import report_job

    paths = {n: getattr(places, n) for n in ("cache", "pretrained", "models", "metrics")} | instead
    report_job(output=places.report, **paths)
