"""A source manifest is stale if a local file was replaced, but not if it is absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from dhmd.cli import main
from dhmd.data.manifest import load_manifest, stale_manifests, write_manifests
from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[2]
PATH = Path("recipes/sources/my_arrays.json")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Create a project with the datasets demo and my_arrays, without manifests."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.rmtree(tmp_path / "recipes" / "sources")
    text = (ROOT / "params.yaml").read_text()
    assert "\n- demo\n" in text
    (tmp_path / "params.yaml").write_text(text.replace("\n- demo\n", "\n- demo\n- my_arrays\n"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def place(root: Path, content: bytes, name: str = "train.npz") -> Path:
    path = root / "data" / "placed" / "my_arrays" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read_manifest(root: Path) -> dict:
    return json.loads((root / PATH).read_text())


def test_a_replaced_file_makes_the_manifest_stale(root):
    path = place(root, b"first")
    assert [m.dataset for m in write_manifests([], root)] == ["demo", "my_arrays"]
    entry = {"bytes": 5, "sha256": hashlib.sha256(b"first").hexdigest()}
    assert read_manifest(root) == {"source": None, "files": {"train.npz": entry}}
    assert json.loads((root / "recipes/sources/demo.json").read_text()) == {
        "source": None,
        "files": {},
    }
    assert stale_manifests(root) == []
    assert write_manifests([], root) == []
    path.write_bytes(b"other")  # as long as before
    os.utime(path, (1, 1))
    assert stale_manifests(root) == [
        f"{PATH}: train.npz changed since it was recorded: run `dhmd data manifest my_arrays`"
    ]
    write_manifests(["my_arrays"], root)
    assert (
        read_manifest(root)["files"]["train.npz"]["sha256"] == hashlib.sha256(b"other").hexdigest()
    )


def test_the_entry_of_an_absent_file_is_kept(root):
    path = place(root, b"first")
    write_manifests([], root)
    before = read_manifest(root)
    path.unlink()
    assert stale_manifests(root) == []
    place(root, b"second", "valid.npz")
    write_manifests([], root)
    assert read_manifest(root)["files"]["train.npz"] == before["files"]["train.npz"]
    assert set(read_manifest(root)["files"]) == {"train.npz", "valid.npz"}


def test_files_are_hashed_again_only_if_size_or_time_changed(root, monkeypatch):
    path = place(root, b"first")
    write_manifests([], root)
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr("dhmd.data.manifest.file_sha256", counted)
    assert load_manifest("my_arrays", root).stale_reason is None
    assert hashed == []
    os.utime(path, (1, 1))  # the manifest does not have the time
    assert load_manifest("my_arrays", root).stale_reason is None
    assert load_manifest("my_arrays", root).stale_reason is None
    assert hashed == [path]
    (root / ".dhmd" / "source-hashes.json").write_text("{")
    assert load_manifest("my_arrays", root).stale_reason is None
    assert len(hashed) == 2


@pytest.mark.parametrize(
    ("source", "written", "files"),
    [
        ("mine", "mine", ["train.npz"]),
        ("https://me:secret@host/x", "https://host/x", []),
        ("nowhere", "nowhere", []),
    ],
)
def test_the_source_of_params_yaml_is_recorded_without_credentials(root, source, written, files):
    place(root, b"first")
    write_manifests([], root)
    (root / "mine").mkdir()
    (root / "mine" / "train.npz").write_bytes(b"mine")
    params = root / "params.yaml"
    text = params.read_text()
    assert "  sources: {}\n" in text
    params.write_text(text.replace("sources: {}", f"sources:\n    my_arrays: {source}"))
    assert stale_manifests(root) == [
        f"{PATH}: data.sources.my_arrays has changed: run `dhmd data manifest my_arrays`"
    ]
    write_manifests([], root)
    assert read_manifest(root)["source"] == written
    assert list(read_manifest(root)["files"]) == files
    assert "secret" not in (root / PATH).read_text()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"files": 3}'])
def test_a_missing_or_damaged_manifest_is_stale(root, text):
    if text is not None:
        (root / PATH).parent.mkdir()
        (root / PATH).write_text(text)
    assert load_manifest("my_arrays", root).stale_reason == (
        f"{PATH} is missing or damaged: run `dhmd data manifest my_arrays` and `git add {PATH}`"
    )
    write_manifests(["my_arrays"], root)
    assert read_manifest(root) == {"source": None, "files": {}}


def test_the_command_prints_what_to_add_to_git(root, capsys):
    place(root, b"first")
    assert main(("data", "manifest")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "wrote recipes/sources/demo.json (0 local files)",
        f"wrote {PATH} (1 local file)",
        f"next: git add recipes/sources/demo.json {PATH}",
    ]
    assert main(("data", "manifest")) == 0
    assert capsys.readouterr().out == "all manifests are up to date\n"
    place(root, b"other one")
    assert main(("data", "manifest", "my_arrays")) == 0
    assert capsys.readouterr().out == f"wrote {PATH} (1 local file)\n"
    assert main(("data", "manifest", "absent")) == 1
    assert "recipes/absent.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_has_its_manifest(name):
    assert set(json.loads((ROOT / "recipes" / "sources" / f"{name}.json").read_text())) == {
        "source",
        "files",
    }
