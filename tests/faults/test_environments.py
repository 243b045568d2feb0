"""Other interpreters, other versions, other places, other languages."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Counts, Reference, Tell
from tests.faults.project import ROOT, STAGES, Project
from tests.faults.test_disk import small_disk, untracked

KEPT = Path(tempfile.gettempdir()) / f"dhmd-faults-{os.getuid()}"

BLOCK = """
import sys

class Without:
    # A finder that knows nothing of these packages, as if they were not installed.

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def blocked(folder: Path, *names: str) -> dict[str, str]:
    """An environment in which these packages cannot be imported."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(BLOCK.format(names=set(names)))
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    "names", [pytest.param(("mlflow",), marks=pytest.mark.slow), ("dvc", "mlflow")]
)
def test_a_stage_without_mlflow_and_dvc(
    names: tuple[str, ...], reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    project = reference.upto(tmp_path / "project", "train")
    environment = blocked(tmp_path / "site", *names)
    for stage in ("align", "train"):
        project.remove_outputs(stage)
        project.run(*project.stage(stage), **environment)
        assert project.contents(stage) == reference.contents[stage]
    counts.add("environments", f"without {' and '.join(names)}: same bytes")


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("C", {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        pytest.param("a decimal comma", {"LC_ALL": "de_DE.UTF-8"}, marks=pytest.mark.slow),
    ],
)
def test_another_locale(
    name: str,
    environment: dict[str, str],
    reference: Reference,
    tmp_path: Path,
    long: bool,
    counts: Counts,
) -> None:
    if name != "C":
        made = subprocess.run(
            ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")],
            capture_output=True,
            check=False,
        )
        if made.returncode not in (0, 1) or not (tmp_path / "de_DE.UTF-8").is_dir():
            pytest.skip("this machine cannot generate a locale with a decimal comma")
        environment = environment | {"LOCPATH": str(tmp_path)}
    project = untracked(reference, tmp_path / "project", "download")
    for stage in STAGES if long else ("download", "align"):
        project.run(*project.stage(stage), **environment)
        assert project.contents(stage) == reference.contents[stage], stage
    project.run("dhmd", "config", "check", **environment)
    counts.add("environments", f"locale with {name}: same bytes")


@pytest.mark.slow
def test_a_path_with_spaces_and_letters_of_the_world(
    reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    project = reference.upto(tmp_path / "an der Straße, 実験 #1 100% 'x'", STAGES[0])
    project.run("dvc", "repro")
    for stage in STAGES:
        assert project.contents(stage) == reference.contents[stage], stage
    project.wait_for_none("dhmd.tracking.uploader")
    assert set(project.run_statuses()) == {"FINISHED"}
    counts.add("environments", "path with spaces and other letters: same bytes")


@pytest.mark.slow
def test_a_home_folder_that_cannot_be_written(
    reference: Reference, tmp_path: Path, long: bool, counts: Counts
) -> None:
    project = untracked(reference, tmp_path / "project", "train")
    home = tmp_path / "home"
    with small_disk(home, 4096, read_only=True):
        environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
        stages = ("train", "ablate", "evaluate", "report") if long else ("train",)
        for stage in stages:
            project.remove_outputs(stage)
            said = project.run(*project.stage(stage), **environment)
            assert "Traceback" not in said
            assert project.contents(stage) == reference.contents[stage], stage
    counts.add("environments", "read-only home: same bytes")


def _interpreters() -> list[str]:
    found = []
    for name in ("python3.11", "python3.12", "python3.13"):
        candidates = [shutil.which(name), *_pyenv(name)]
        found += [path for path in candidates if path and _works(path, name)][:1]
    return found


def _pyenv(name: str) -> list[str]:
    versions = Path.home() / ".pyenv" / "versions"
    return [str(path) for path in versions.glob(f"{name.removeprefix('python')}*/bin/{name}")]


def _works(path: str, name: str) -> bool:
    code = "import sys, venv, ensurepip; print('python%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == name


def _project_section() -> dict[str, Any]:
    section: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    return section


def _admitted() -> list[str]:
    """What pyproject.toml asks for, with the extra that reads words through an encoder."""
    section = _project_section()
    return [*section["dependencies"], *section["optional-dependencies"]["text"]]


def _lowest() -> list[str]:
    """The lowest versions that pyproject.toml admits."""
    pins = []
    for text in _admitted():
        name, _, version = text.partition(">=")
        pins.append(f"{name}=={version.split(',')[0].strip()}")
    return pins


def _installed(python: str, *arguments: str) -> Path:
    """The folder of programs of an environment of its own with these packages.

    Gigabytes that take minutes: kept in the folder for temporary files, for the next pass of a day.
    """
    asked = [python, *arguments, (ROOT / "constraints.txt").read_text(), time.strftime("%F")]
    folder = KEPT / hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    programs, ready = folder / "bin", folder / "is-whole"
    if not ready.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        done = subprocess.run(
            # Not compiled: of torch's thousands of files stages import a part, and that once.
            [str(programs / "python"), "-m", "pip", "install", "-q", "--no-compile", *arguments],
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        if done.returncode != 0:
            assert "conflict" not in done.stderr, done.stderr
            pytest.skip(f"cannot be installed here: {done.stderr.strip().splitlines()[-1][:200]}")
        ready.touch()
    return programs


def _reproduces(programs: Path, project: Project) -> None:
    """The whole pipeline by `dvc repro`, tracked, and a command of ours."""
    for path in project.folder.glob("mlflow.db*"):
        path.unlink()  # of this environment's MLflow, which may be newer
    environment = {"PATH": f"{programs}{os.pathsep}{project.environment['PATH']}"}
    said = project.run(str(programs / "dvc"), "repro", **environment)
    assert "Traceback" not in said, said
    assert all(project.contents(stage) for stage in STAGES)
    project.wait_for_none("dhmd.tracking.uploader")
    assert set(project.run_statuses()) == {"FINISHED"}, said
    python = str(programs / "python")
    table = project.run(
        python, "-c", "from dhmd.cli import main; raise SystemExit(main(['table']))"
    )
    assert "DHMD" in table


@pytest.mark.slow
@pytest.mark.parametrize("python", _interpreters() or [sys.executable], ids=os.path.basename)
def test_another_interpreter(
    python: str, reference: Reference, tmp_path: Path, counts: Counts, tell: Tell
) -> None:
    name = os.path.basename(python)
    if name == f"python3.{sys.version_info.minor}":
        counts.add("environments", f"{name}: all of these tests")
        return
    constraints = str(ROOT / "constraints.txt")
    dependencies = _project_section()["dependencies"]
    programs = _installed(python, "-c", constraints, *dependencies)
    _reproduces(programs, reference.upto(tmp_path / "project", STAGES[0]))
    counts.add("environments", f"{name}: whole pipeline by `dvc repro`")
    tell(f"environments: {python}")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["lowest", "newest"])
def test_the_versions_that_pyproject_admits(
    which: str, reference: Reference, tmp_path: Path, counts: Counts, tell: Tell
) -> None:
    """Torch as well, whose CUDA builds are the only ones of some versions: gigabytes."""
    wanted = _lowest() if which == "lowest" else ["--upgrade", *_admitted()]
    programs = _installed(sys.executable, *wanted, "pytest", "pytest-timeout", "hypothesis")
    python = str(programs / "python")
    _reproduces(programs, reference.upto(tmp_path / "project", STAGES[0]))
    subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/data/text",
        ],
        cwd=ROOT,
        check=True,
    )
    counts.add("environments", f"{which} versions: whole pipeline by `dvc repro`, encoders of text")
    code = "from importlib.metadata import version; print(*map(version, ('torch', 'transformers')))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    tell(f"environments: {which} versions, torch and transformers {found.stdout.strip()}")


def test_the_lowest_versions_are_named_for_every_dependency() -> None:
    assert len(_lowest()) == len(_admitted())
    assert all(re.fullmatch(r"[a-z0-9-]+==\d[\d.]*", pin) for pin in _lowest())
