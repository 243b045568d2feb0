"""`dhmd data check` and `dhmd data show` on computational sequences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from dhmd.cli import main
from tests.data.alignment.files import SPLITS, corpus_entries, write_files

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a project with the dataset `mine`, whose files are in the folder `source`."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    folds = tmp_path / "recipes" / "folds" / "mine.json"
    folds.parent.mkdir(parents=True)
    folds.write_text(json.dumps(SPLITS), encoding="utf-8")
    recipe = yaml.safe_load((ROOT / "recipes" / "mosi.yaml").read_text(encoding="utf-8"))
    recipe |= {
        "sources": [str(tmp_path / "source")],
        "sequences": {
            name: {"path": f"{name}.csd", "bytes": None, "sha256": None}
            for name in ("words", "vectors", "acoustic", "visual", "labels")
        },
        "modalities": {"text": "vectors", "audio": "acoustic", "vision": "visual"},
        "folds": {"file": "folds/mine.json"},
    }
    (tmp_path / "recipes" / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (tmp_path / "source").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_videos_missing_in_a_sequence_are_reported(
    project: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    entries = corpus_entries()
    del entries["acoustic"]["te1"]
    write_files(project / "source", entries)
    assert main(["data", "check", "mine"]) == 0
    assert capsys.readouterr() == ("mine has no problems\n", "")
    assert not (project / "data").exists()
    assert caplog.messages == [
        "mine: 1 of 6 videos are not in acoustic (te1): they are kept, and their audio is absent"
    ]


def test_show_describes_downloaded_files_and_missing_videos(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = corpus_entries(["Talk [HD]", "Talk [HQ]", "te0"])
    del entries["acoustic"]["te0"]
    entries["acoustic"]["Talk [HD]"][0][0, 0] = 1e30
    raw = project / "data" / "raw" / "mine"
    raw.mkdir(parents=True)
    write_files(raw, entries)
    (raw / "sources.json").write_text("{}", encoding="utf-8")
    assert main(["data", "show", "mine"]) == 0
    output = capsys.readouterr().out
    assert "warning: 1 of 3 labelled videos are not in acoustic (te0)" in output
    assert "2 entries of 2 videos, 240 rows" in output
    assert "3 entries of 3 videos, 60 rows" in output
    assert "not finite 0.1 %" in output
