"""`dhmd report`: all datasets in one page, and where each output comes from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.report.records import FOLDER
from dhmd.report.site import build_site, reported_datasets
from dhmd.vcs import outputs_md5
from tests.report.corpora import Kind, Places, make
from tests.report.pages import Page
from tests.report.test_records import BASE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def repository(drawn: Places, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets; the one called demo has a recipe, and a record of its training."""
    root = tmp_path_factory.mktemp("site")
    small = Kind(name="demo", variants=(), seeds=(1, 2), modalities=("text",), words=False)
    demo = make(root, small)
    demo.draw()
    for part in ("metrics", "reports"):
        shutil.copytree(drawn.root / part / drawn.name, root / part / drawn.name)
    (root / "params.yaml").write_text("")
    (root / "recipes").mkdir()
    shutil.copy(ROOT / "recipes" / "demo.yaml", root / "recipes")
    md5 = outputs_md5(demo.models)
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train@demo:\n    outs:\n"
        f"    - path: models/demo\n      md5: {md5}\n"
    )
    (root / FOLDER).mkdir(parents=True)
    record = {**vars(BASE), "outputs": {"models/demo": md5}, "wall_seconds": 3725.0}
    record |= {"machine": "a <fast> machine", "params": {"train.lr": "1e-05"}}
    (root / FOLDER / "1.json").write_text(json.dumps(record))
    return root


def test_two_datasets_in_one_page(repository: Path) -> None:
    # What a killed `report` left half written is no report.
    shutil.copytree(repository / "reports/toy", repository / "reports/.partial-0123456789ab-toy")
    assert reported_datasets(repository) == ["demo", "toy"]
    site = build_site(repository, ["demo", "toy"])
    assert site.warnings == []
    page = Page(site.html)
    assert page.faults == []
    assert len(set(page.ids)) == len(page.ids)
    assert page.broken_references() == []
    assert page.outer_addresses() == []
    assert page.count("article") == 2
    own = [Page(_own(repository, name)).count("svg") for name in ("demo", "toy")]
    assert page.count("svg") == sum(own)
    said = " ".join(page.words)
    assert "Generated data with noisy labels" in said  # the recipe's title
    assert "Comparable with no published table" in said  # its provenance
    for name in ("demo", "toy"):
        assert f"#{name}" in page.addresses


def _own(root: Path, name: str) -> str:
    return (root / "reports" / name / "index.html").read_text("utf-8")


def test_provenance_is_there_and_only_there(repository: Path) -> None:
    said = " ".join(Page(build_site(repository, ["demo"]).html).words)
    assert "a <fast> machine" in said
    assert "1 h 02 min" in said
    assert "cccccccccccc" in said
    assert "2026-01-01 00:00:00" in said
    assert "train.lr" in said
    assert "no record here" in said
    assert "cccccccccccc" not in _own(repository, "demo")


def test_pictures_of_other_metrics_are_called_so(repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy)
    path = copy / "metrics" / "demo" / "metrics.json"
    path.write_text(path.read_text("utf-8") + "\n")
    (copy / "dvc.lock").unlink()
    site = build_site(copy, ["demo"])
    (warning,) = site.warnings
    assert warning.startswith("reports/demo was drawn from other metrics")
    page = Page(site.html)
    assert sum(values.get("class") == "warn" for _, values in page.elements) == 2  # and no lock
    path.unlink()
    with pytest.raises(DhmdError, match=r"metrics\.json does not exist, but reports/demo does"):
        build_site(copy, ["demo"])
    (copy / "reports" / "demo" / "index.html").write_text("<html></html>")
    with pytest.raises(DhmdError, match="is no report of this version; run dvc repro"):
        build_site(copy, ["demo"])


def test_the_command(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (repository / FOLDER / "9.json").write_text("not JSON")
    assert main(["report"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{repository}/reports/index.html: demo, toy, ")
    assert err.startswith("dhmd report: ")
    assert "9.json is no run record" in err
    (repository / FOLDER / "9.json").unlink()
    assert "article" in (repository / "reports" / "index.html").read_text("utf-8")
    assert main(["report", "toy", "--output", "one page.html"]) == 0
    assert (repository / "one page.html").read_text("utf-8").count("<article") == 1
    assert capsys.readouterr().err == ""
    assert main(["report", "mosi"]) == 1
    assert capsys.readouterr().err == (
        "dhmd report: reports/ has no dataset mosi; there are demo, toy\n"
    )


def test_the_command_without_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert main(["report"]) == 1
    assert capsys.readouterr().err == (
        "dhmd report: reports/ holds no dataset yet; run dvc repro\n"
    )


def test_joining_pages_draws_nothing() -> None:
    code = "import sys, dhmd.report.site as s; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
