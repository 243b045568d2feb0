"""Run records, which every successful run of a stage writes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.report.site import RECORDS, read_records
from dhmd.settings import load_params
from dhmd.tracking import flatten
from dhmd.vcs.lock import outputs_md5
from stages import _record
from stages._entry import Stage
from stages._record import recorded

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """The attributes of a stage that are recorded."""

    root: Path
    outputs: tuple[Path, ...] = ()
    name: str = "train"
    dataset: str = "demo"

    @property
    def params(self) -> dict[str, object]:
        return {"train": {"lr": 1e-5, "seeds": [1, 2]}}


def test_a_run_that_succeeds_leaves_a_record(tmp_path: Path) -> None:
    output = tmp_path / "models"
    with recorded(Run(tmp_path, (output, tmp_path / "absent"))):
        output.mkdir()
        (output / "a").write_text("content")
    (record,), problems = read_records(tmp_path)
    assert problems == []
    assert (record.stage, record.dataset) == ("train", "demo")
    assert record.params == {"train.lr": "1e-05", "train.seeds": "1, 2"}
    assert len(record.params_sha256) == 64
    assert record.outputs == {output.as_posix(): outputs_md5(output)}
    assert record.start.endswith("+00:00")
    assert 0 <= record.wall_seconds < 60
    assert record.commit is None or len(record.commit) == 40
    assert {"python", "numpy", "torch"} <= record.versions.keys()
    assert record.machine


def test_a_run_that_fails_leaves_no_record(tmp_path: Path) -> None:
    with pytest.raises(DhmdError), recorded(Run(tmp_path)):
        raise DhmdError("no")
    assert not (tmp_path / RECORDS).exists()


def test_a_record_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".dhmd").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING), recorded(Run(tmp_path)):
        pass
    assert "the record of this run was not written: cannot write" in caplog.text


def test_large_outputs_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw").write_text("12345")
    monkeypatch.setattr(_record, "_MAX_BYTES", 4)
    with recorded(Run(tmp_path, (tmp_path / "raw",))):
        pass
    ((record,), _) = read_records(tmp_path)
    assert list(record.outputs.values()) == [None]


@pytest.mark.parametrize("name", ["download", "train", "evaluate", "report", "probe"])
def test_a_stage_records_its_outputs_but_not_the_urls_of_sources(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics" / "demo").mkdir(parents=True)
    (tmp_path / "metrics" / "demo" / "metrics.json").write_text("{}")
    settings = load_params(ROOT).for_dataset("demo")
    sources = {**settings.data.sources, "demo": "https://me:secret@example.org"}
    settings = replace(settings, data=replace(settings.data, sources=sources))
    stage = Stage(name=name, dataset="demo", settings=settings)
    expected = {
        "download": "data/raw/demo",
        "train": "models/demo",
        "evaluate": "metrics/demo/metrics.json",
        "report": "reports/demo/index.html",
    }
    assert [path.as_posix() for path in stage.outputs] == [
        expected[n] for n in [name] if n in expected
    ]
    assert "secret" not in str(flatten(stage.params))
    assert flatten(stage.params)["train.lr"] == str(settings.train.lr)
