"""`dhmd report`: all datasets in one page, and the runs that produced the outputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.report.site import (
    RECORDS,
    Record,
    build_site,
    find_record,
    read_records,
    reported_datasets,
)
from dhmd.vcs.lock import outputs_md5
from tests.report.corpora import DatasetOptions, DatasetPaths, make_dataset
from tests.report.pages import Page

ROOT = Path(__file__).parents[2]

BASE = Record(
    stage="train",
    dataset="demo",
    start="2026-01-01T00:00:00+00:00",
    wall_seconds=1.0,
    commit="c" * 40,
    uncommitted_changes=False,
    experiment=None,
    params_sha256="0" * 64,
    params={},
    machine="here",
    versions={},
    outputs={"models/demo": "aaa.dir"},
)


@pytest.fixture(scope="module")
def repository(toy_paths: DatasetPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a repository with two datasets; only `demo` has a dataset config and a record."""
    root = tmp_path_factory.mktemp("site")
    options = DatasetOptions(
        name="demo", variants=(), seeds=(1, 2), modalities=("text",), words=False
    )
    demo = make_dataset(root, options)
    demo.write_report()
    for part in ("metrics", "reports"):
        shutil.copytree(toy_paths.root / part / toy_paths.name, root / part / toy_paths.name)
    (root / "params.yaml").write_text("")
    (root / "recipes").mkdir()
    shutil.copy(ROOT / "recipes" / "demo.yaml", root / "recipes")
    md5 = outputs_md5(demo.models)
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train@demo:\n    outs:\n"
        f"    - path: models/demo\n      md5: {md5}\n"
    )
    (root / RECORDS).mkdir(parents=True)
    record = {**vars(BASE), "outputs": {"models/demo": md5}, "wall_seconds": 3725.4}
    record |= {"machine": "a <fast> machine", "params": {"train.lr": "1e-05"}}
    (root / RECORDS / "1.json").write_text(json.dumps(record))
    return root


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """Copy the repository for a test that changes it."""
    shutil.copytree(repository, tmp_path / "copy")
    return tmp_path / "copy"


def own_page(root: Path, name: str) -> Page:
    return Page((root / "reports" / name / "index.html").read_text("utf-8"))


def test_one_page_has_two_datasets(copy: Path) -> None:
    # The partial output of a killed `report` stage is not a report.
    shutil.copytree(copy / "reports/toy", copy / "reports/.partial-0123456789ab-toy")
    assert reported_datasets(copy) == ["demo", "toy"]
    html, warnings = build_site(copy, ["demo", "toy"])
    assert warnings == []
    page = Page(html)
    assert page.faults == []
    assert len(set(page.ids)) == len(page.ids)
    assert page.broken_references() == []
    assert page.external_addresses() == []
    assert page.count("article") == 2
    figures = [own_page(copy, name).count("svg") for name in ("demo", "toy")]
    assert page.count("svg") == sum(figures)
    text = " ".join(page.words)
    assert "Generated data with noisy labels" in text  # the title of the dataset config
    assert "Comparable with no published table" in text  # its provenance
    for name in ("demo", "toy"):
        assert f"#{name}" in page.addresses


def test_provenance_is_only_in_the_page_of_all_datasets(repository: Path) -> None:
    text = " ".join(Page(build_site(repository, ["demo"])[0]).words)
    for fact in (
        "a <fast> machine",
        "1:02:05",
        "cccccccccccc",
        "2026-01-01 00:00:00",
        "train.lr",
        "no record",
    ):
        assert fact in text
    assert "cccccccccccc" not in own_page(repository, "demo").text


def test_stale_figures_are_marked(copy: Path) -> None:
    path = copy / "metrics" / "demo" / "details" / "ablations.json"
    path.write_text(path.read_text("utf-8") + "\n")
    (copy / "dvc.lock").unlink()
    html, (warning,) = build_site(copy, ["demo"])
    assert warning.startswith("reports/demo was made from different metrics")
    page = Page(html)
    assert sum(values.get("class") == "warn" for _, values in page.elements) == 2  # and no lock


def test_missing_and_broken_reports_are_named(copy: Path) -> None:
    report = copy / "reports" / "demo" / "report.json"
    (copy / "reports" / "toy" / "pictures" / "results.svg").unlink()
    with pytest.raises(DhmdError, match=r"pictures/results\.svg does not exist; run dvc repro"):
        build_site(copy, ["toy"])
    (copy / "metrics" / "demo" / "metrics.json").unlink()
    with pytest.raises(DhmdError, match=r"metrics\.json does not exist, but reports/demo does"):
        build_site(copy, ["demo"])
    report.write_text("{}")
    with pytest.raises(DhmdError, match="was written by a different version of dhmd"):
        build_site(copy, ["demo"])
    report.write_text("{")
    with pytest.raises(DhmdError, match=r"report\.json is not readable as JSON"):
        build_site(copy, ["demo"])


def test_the_command_writes_the_page(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copy)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (copy / RECORDS / "9.json").write_text("not JSON")
    assert main(["report"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{copy}/reports/index.html: demo, toy, ")
    assert err.startswith("dhmd report: ")
    assert "9.json is not a record of a run" in err
    (copy / RECORDS / "9.json").unlink()
    assert "article" in (copy / "reports" / "index.html").read_text("utf-8")
    assert main(["report", "toy", "--output", "one page.html"]) == 0
    assert (copy / "one page.html").read_text("utf-8").count("<article") == 1
    assert capsys.readouterr().err == ""
    assert main(["report", "mosi"]) == 1
    assert capsys.readouterr().err == (
        "dhmd report: reports/ has no dataset mosi; it has demo, toy\n"
    )
    shutil.rmtree(copy / "reports")
    assert main(["report"]) == 1
    assert capsys.readouterr().err == ("dhmd report: reports/ has no dataset yet; run dvc repro\n")


def test_the_page_of_all_datasets_does_not_import_matplotlib() -> None:
    code = "import sys, dhmd.report.site as s; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_record_is_found_by_its_md5_not_by_its_time() -> None:
    newer = replace(BASE, start="2026-02-01T00:00:00+00:00", outputs={"models/demo": "bbb.dir"})
    other = replace(BASE, dataset="mosi", start="2026-03-01T00:00:00+00:00")
    records = [other, newer, BASE]
    assert find_record("train", "demo", records, {"models/demo": "aaa.dir"}) == (BASE, True)
    assert find_record("train", "demo", records, {"models/demo": "ccc.dir"}) == (newer, False)
    assert find_record("align", "demo", records, {}) == (None, False)


def test_a_record_matches_only_if_all_its_outputs_match() -> None:
    record = replace(BASE, outputs={"a": "1", "b": "2", "big": None})
    assert record.produced({"a": "1", "b": "2"})
    assert not record.produced({"a": "1", "b": "3"})
    assert not record.produced({})


def test_a_damaged_record_is_named_and_left_out(tmp_path: Path) -> None:
    folder = tmp_path / RECORDS
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(json.dumps(vars(BASE)))
    (folder / "2.json").write_text("{")
    (folder / "3.json").write_text(json.dumps({"stage": "train"}))
    records, problems = read_records(tmp_path)
    assert records == [BASE]
    assert [problem.split(" is not a record of a run")[0] for problem in problems] == [
        str(folder / "3.json"),
        str(folder / "2.json"),
    ]
