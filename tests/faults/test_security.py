"""No file can run code or leave its folder, and no password is revealed."""

from __future__ import annotations

import ast
import logging
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.csd import open_sequence
from dhmd.data.download import required_files
from dhmd.data.formats import load_pickle
from dhmd.recipes import load_recipe
from tests.faults.children import ERROR, run_in_child
from tests.faults.conftest import Reference
from tests.faults.test_disk import check, run_stage

ROOT = Path(__file__).parents[2]
CODE = sorted([*(ROOT / "dhmd").rglob("*.py"), *(ROOT / "stages").glob("*.py")])

# Calls that run code from a file or start a shell.
FORBIDDEN = {
    *("pickle.load", "pickle.loads", "torch.load", "joblib.load", "dill.load", "marshal.loads"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all", "shelve.open"),
    *("eval", "exec", "os.system", "os.popen", "pandas.read_pickle", "pd.read_pickle"),
}


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_the_code_has_no_calls_that_can_run_files() -> None:
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, where = _called(node), f"{path.relative_to(ROOT)}:{node.lineno}"
            assert name not in FORBIDDEN, where
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("shell", "False") == "False", where
            assert keywords.get("allow_pickle", "False") == "False", where
            if name == "yaml.load":
                # Our loaders are PyYAML's safe loader with other scalars.
                assert keywords == {"Loader": "_Loader"}, where
            if name.endswith("np.load") or name == "numpy.load":
                assert keywords.get("allow_pickle") == "False", where
    loaders = [path for path in CODE if "class _Loader(" in path.read_text(encoding="utf-8")]
    for path in loaders:
        text = path.read_text(encoding="utf-8")
        assert "class _Loader(yaml.SafeLoader)" in text or "SafeLoader)" in text, path


class Attack:
    def __init__(self, function: str, argument: object) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[object, ...]:
        import builtins
        import os
        import subprocess

        modules = {"os": os, "subprocess": subprocess, "builtins": builtins}
        module, _, name = self.function.partition(".")
        return getattr(modules[module], name), (self.argument,)


def test_malicious_pickles_run_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "owned"
    attacks = [
        Attack("os.system", f"touch {mark}"),
        Attack("subprocess.getoutput", f"touch {mark}"),
        Attack("builtins.eval", f"open({str(mark)!r}, 'w')"),
        Attack("builtins.exec", f"open({str(mark)!r}, 'w')"),
    ]
    hidden = [
        *attacks,
        *({"train": attack} for attack in attacks),
        *(np.array([attack], dtype=object) for attack in attacks),
        *([[{"a": (1, attack)}]] for attack in attacks),
    ]
    for number, value in enumerate(hidden):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path = tmp_path / f"{number}.pkl"
            path.write_bytes(pickle.dumps(value, protocol=protocol))
            with pytest.raises(DhmdError, match=r"was not loaded"):
                load_pickle(path)
            assert not mark.exists()


@pytest.mark.parametrize("name", ["aligned.h5", "seed-1.safetensors", "model.json", "x.npz"])
def test_a_pickle_under_another_name_runs_no_code(tmp_path: Path, name: str) -> None:
    from dhmd.data.aligned import read_corpus
    from dhmd.training.weights import load_model

    mark = tmp_path / "owned"
    (tmp_path / name).write_bytes(pickle.dumps(Attack("os.system", f"touch {mark}")))
    with pytest.raises(DhmdError):
        read_corpus(tmp_path / name)
    with pytest.raises(DhmdError):
        load_model(tmp_path, torch.device("cpu"))
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch /tmp/owned']",
        "!!python/object/new:os.system ['true']",
        "a: !!python/name:os.system",
        "a: !!python/module:os",
        "a: !<tag:yaml.org,2002:python/object/apply:os.abort> []",
        "a: &x [1]\nb: *x",
        "&a [*a, *a]",
    ],
)
def test_yaml_tags_and_aliases_are_refused(text: str) -> None:
    with pytest.raises(DhmdError):
        parse_yaml(text, "params.yaml")


PATHS = ("../../etc/passwd", "/etc/passwd", "a/../../b", "..", "C:/x", "a\\..\\b", "a\x00b", "~/x/")


@pytest.mark.parametrize("path", PATHS)
def test_a_path_in_a_dataset_config_cannot_leave_its_folder(
    path: str, reference: Reference, tmp_path: Path
) -> None:
    import json

    import yaml

    (tmp_path / "recipes").mkdir()
    value = yaml.safe_load((ROOT / "recipes" / "mosi.yaml").read_text(encoding="utf-8"))
    target = tmp_path / "recipes" / "mosi.yaml"

    value["sequences"]["words"]["path"] = path
    target.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DhmdError, match="path"):
        required_files(load_recipe("mosi", tmp_path))

    value["sequences"]["words"]["path"] = "words.csd"
    value["folds"]["file"] = path
    target.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DhmdError, match=r"folds: file is"):
        load_recipe("mosi", tmp_path)

    value["folds"]["file"] = "folds/mosi.json"
    value["sequences"][path] = value["sequences"].pop("words")
    value["reference"] = path
    target.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DhmdError):
        required_files(load_recipe("mosi", tmp_path))
    with pytest.raises(DhmdError, match="is not a valid name"):
        load_recipe(path, tmp_path)


def test_a_sequence_that_refers_to_other_files_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789abcdef" * 4)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["rows"] = np.zeros((2, 1))

    def write(kind: str) -> Path:
        path = tmp_path / f"{kind}.csd"
        with h5py.File(path, "w") as file:
            entry = file.create_group("x/data/v")
            entry["intervals"] = np.array([[0.0, 1.0], [1.0, 2.0]])
            if kind == "external":
                outside = [(str(secret), 0, 16)]
                entry.create_dataset("features", (2, 1), dtype="f8", external=outside)
            elif kind == "link":
                entry["features"] = h5py.ExternalLink(str(other), "/rows")
            else:
                layout = h5py.VirtualLayout((2, 1), dtype="f8")
                layout[:] = h5py.VirtualSource(str(other), "rows", shape=(2, 1))
                entry.create_virtual_dataset("features", layout)
        return path

    for kind in ("external", "link", "virtual"):
        path = write(kind)

        def read(path: Path = path) -> None:
            with open_sequence(path) as sequence:
                sequence.read("v")

        assert run_in_child(read).check(kind) == "refused"


def test_no_password_reaches_a_log_an_output_or_a_record(
    reference: Reference, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    project = reference.copy_before(tmp_path / "project", "download")
    project.edit("params.yaml", ("\n- demo", "\n- mosi"))
    project.edit("recipes/mosi.yaml", ("bytes: null", "bytes: 1"))
    before = "  sources: {}"
    for address, shown in ADDRESSES.items():
        after = f"  sources:\n    mosi: {address}"
        project.edit("params.yaml", (before, after))
        before = after
        outcome = run_stage(project, "download", dataset="mosi")
        assert outcome.status == ERROR
        assert shown in outcome.printed
        for text in (outcome.printed, caplog.text, *_texts(project.folder / ".dhmd")):
            assert "hunter" not in text, address


# The first one is tried without an answer; the others are refused.
ADDRESSES = {
    "http://me:hunter2@127.0.0.1:9/x": "http://127.0.0.1:9/x",
    "http://me:12/hunter2@127.0.0.1:9/x": "http://127.0.0.1:9/x",
    "http://me:hunt/hunter2@127.0.0.1:9/x": "http://127.0.0.1:9/x",
    "ftp://me:hunter2@host/x?token=hunter3": "ftp://host/x",
}


def _texts(folder: Path) -> list[str]:
    return [
        path.read_text(encoding="utf-8", errors="replace")
        for path in folder.rglob("*")
        if path.is_file()
    ]


def test_the_report_escapes_texts_of_the_corpus(reference: Reference, tmp_path: Path) -> None:
    project = reference.copy_before(tmp_path / "project", "report")
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    aligned = project.folder / "data" / "aligned" / "demo.h5"

    def add_attack() -> None:
        from dhmd.data.aligned import reader

        original = reader._strings

        def strings(dataset):  # type: ignore[no-untyped-def]
            texts = original(dataset)
            name = dataset.name.rpartition("/")[2]
            return (
                tuple(f"{text}{attack}" for text in texts) if name in ("text", "names") else texts
            )

        reader._strings = strings

    assert aligned.is_file()
    assert check(run_stage(project, "report", add_attack), "report") == "success"
    pages = [*project.folder.glob("reports/demo/*.html"), *project.folder.glob("reports/**/*.svg")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page
    assert "&lt;script&gt;alert" in "".join(page.read_text(encoding="utf-8") for page in pages)
