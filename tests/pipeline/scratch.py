"""Copies of this project in repositories of their own, in which experiments take seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# Run stages of a dataset in one process, so that it imports its libraries once.
RUN_STAGES = """
import importlib, sys
from stages._entry import run_stage

dataset, *stages = sys.argv[1:]
for name in stages:
    if status := run_stage(name, importlib.import_module(f"stages.{name}").work, [dataset]):
        sys.exit(status)
"""
STAGES = ("download", "align", "pretrain", "train", "ablate", "evaluate", "report")
_GIT_CONFIG = (
    "[user]\n\tname = A Tester\n\temail = tester@example.org\n[init]\n\tdefaultBranch = main\n"
)

# A stage that writes which code and which settings it has.
PROBE = """
import json
import time
from pathlib import Path

import dhmd
from stages._entry import Stage, run


def work(stage: Stage) -> None:
    if Path("hold").exists():
        Path("holding").touch()
        time.sleep(120)
    seen = {
        "lr": stage.settings.train.lr,
        "lambda": stage.settings.kd.lambda_,
        "code": dhmd.__version__,
        "inside": Path(dhmd.__file__).resolve().is_relative_to(Path.cwd().resolve()),
    }
    path = Path("metrics", stage.dataset, "metrics.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(seen))


if __name__ == "__main__":
    run("probe", work)
"""

PROBE_PIPELINE = """
stages:
  probe:
    matrix:
      dataset: ${datasets}
    cmd: python -m stages.probe ${item.dataset}
    deps:
      - stages/probe.py
    params:
      - train
      - kd
    metrics:
      - metrics/${item.dataset}/metrics.json:
          cache: false
"""


def copy_code(folder: Path) -> None:
    """Copy code and dataset configs into a folder."""
    for name in ("dhmd", "stages", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def copy_project(folder: Path, git_config: Path) -> None:
    """Copy the files that DVC needs to run the stages, and write a Git config for the copy."""
    copy_code(folder)
    (folder / ".dvc").mkdir()
    names = ("params.yaml", ".dvcignore", ".gitignore", "dvc.yaml")
    for name in (*names, ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, folder / name)
    git_config.parent.mkdir(exist_ok=True)
    git_config.write_text(_GIT_CONFIG)


def environment_of(git_config: Path, site: Path) -> dict[str, str]:
    """Return the environment variables for commands in a copy, without those of the tests."""
    prefixes = ("DVC_", "GIT_", "PYTHON", "MLFLOW_")
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(prefixes)},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(site),
        "GIT_CONFIG_GLOBAL": str(git_config),
        "OMP_NUM_THREADS": "1",
    }


class Process(subprocess.Popen[str]):
    """A command in a session of its own, as if started from another terminal."""

    def printed(self) -> str:
        """Wait for the end of the command and return its output."""
        return self.communicate(timeout=60)[0]

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the command and its child processes, as a terminal does."""
        os.killpg(self.pid, signal.SIGINT)


class Repository:
    """A folder with a copy of the project, and the commands that run in it."""

    def __init__(self, folder: Path, git_config: Path, site: Path) -> None:
        self.folder = folder
        self.environment = environment_of(git_config, site)

    def __call__(self, *command: str, fails: bool = False, **environment: str) -> str:
        """Run a command and return its output; check whether it fails."""
        with self.start(*command, **environment) as process:
            try:
                output, _ = process.communicate(timeout=1800)
            except BaseException:
                process.kill()
                raise
        status = process.returncode
        assert (status != 0) == fails, f"{command} ended with {status}:\n{output}"
        return output

    def start(self, *command: str, **environment: str) -> Process:
        """Start a command with stdout and stderr in one pipe."""
        return Process(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def initialise(self) -> None:
        """Create the Git repository with a first commit."""
        self("git", "init", "-q")
        self.commit("begin")

    def commit(self, message: str) -> None:
        self("git", "add", "-A")
        self("git", "commit", "-q", "-m", message)

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace texts in a file."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, (name, old)
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")


class Scratch(Repository):
    """A repository with the real pipeline, or with the probe as its only stage."""

    def __init__(self, folder: Path, pipeline: str | None = PROBE_PIPELINE) -> None:
        super().__init__(folder / "work tree", folder / "gitconfig", folder / "site")
        self.folder.mkdir()
        copy_project(self.folder, folder / "gitconfig")
        (self.folder / "stages" / "probe.py").write_text(PROBE)
        if pipeline is not None:
            (self.folder / "dvc.yaml").write_text(pipeline)
        self.initialise()

    def metrics(self, revision: str | None = None) -> dict[str, Any]:
        """Return the output of the probe, in the workspace or in a revision."""
        name = "metrics/demo/metrics.json"
        if revision is None:
            text = (self.folder / name).read_text(encoding="utf-8")
        else:
            text = self("git", "show", f"{revision}:{name}")
        value: dict[str, Any] = json.loads(text)
        return value

    def experiments(self) -> dict[str, str]:
        """Return the revisions of the finished experiments by name."""
        refs = self("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
        pairs = [line.split() for line in refs.splitlines()]
        names = [(name.split("/"), revision) for name, revision in pairs]
        # refs/exps/<2 digits>/<38 digits>/<name>; all other refs are internal to DVC.
        return {parts[-1]: revision for parts, revision in names if len(parts[2]) == 2}
