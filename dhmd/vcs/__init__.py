"""Git revisions and DVC experiments. Only this package uses Git and DVC.

`lock` reads dvc.lock, the cache and the remote; `sweep` runs experiments.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line

METRICS_FOLDER = "metrics"
# The first existing one is the main branch; a clone for a pull request has only remote branches.
MAIN_BRANCHES = ("main", "origin/main", "master", "origin/master", "origin/HEAD")


def git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in `root` and return the completed process; the caller checks the exit status.

    Raises:
        DhmdError: git is not installed.
    """
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except FileNotFoundError as error:
        raise DhmdError("git is not installed: install it to work with revisions") from error


def git_line(root: Path, *arguments: str) -> str | None:
    """Return the output of git without surrounding spaces; None if git fails or is absent."""
    try:
        process = git(root, *arguments)
    except DhmdError:
        return None
    return process.stdout.decode("utf-8", "replace").strip() if process.returncode == 0 else None


def code_version(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of HEAD, and whether tracked files differ from it; None outside Git."""
    commit = git_line(root, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = git_line(root, "status", "--porcelain", "--untracked-files=no")
    return commit, changes != ""


@dataclass(frozen=True)
class Workspace:
    """The files in the working folder, with the same methods as `Commit`."""

    root: Path
    label: str = "the workspace"

    def read(self, path: str) -> str | None:
        """Return the text of a file; None if it does not exist."""
        file = self.root / path
        if not file.is_file():
            return None
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DhmdError(f"{path} cannot be read: {first_line(error)}") from error

    def metrics_files(self) -> dict[str, set[str]]:
        """Return the files of each dataset in metrics/, relative to `metrics/<dataset>`."""
        metrics = self.root / METRICS_FOLDER
        return _by_dataset(
            path.relative_to(metrics).as_posix() for path in metrics.rglob("*") if path.is_file()
        )


@dataclass(frozen=True)
class Commit:
    """The files of one commit.

    Attributes:
        root: the folder of the project.
        sha: the hash of the commit.
        name: the revision as the user wrote it, for messages.
    """

    root: Path
    sha: str
    name: str

    @property
    def label(self) -> str:
        """The name and the abbreviated hash, for messages."""
        short = self.sha[:10]
        return short if self.name.startswith(short) else f"{self.name} ({short})"

    def read(self, path: str) -> str | None:
        """Return the text of a file; None if it does not exist."""
        # `./` is the root of the project, which need not be that of the Git repository.
        process = git(self.root, "show", f"{self.sha}:./{path}")
        if process.returncode:
            return None
        try:
            return process.stdout.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DhmdError(f"{path} of {self.label} is not UTF-8: {first_line(error)}") from error

    def metrics_files(self) -> dict[str, set[str]]:
        """Return the files of each dataset in metrics/, relative to `metrics/<dataset>`."""
        folder = f"{METRICS_FOLDER}/"
        names = git_line(self.root, "ls-tree", "-r", "-z", "--name-only", self.sha, folder) or ""
        return _by_dataset(path.removeprefix(folder) for path in names.split("\0"))


Revision = Workspace | Commit  # paths are relative to the project's root, with `/`


def _by_dataset(paths: Iterable[str]) -> dict[str, set[str]]:
    files: dict[str, set[str]] = {}
    for path in paths:
        dataset, _, file = path.partition("/")
        # Hidden names are unfinished outputs.
        if file and not any(part.startswith(".") for part in path.split("/")):
            files.setdefault(dataset, set()).add(file)
    return files


def commit(root: Path, name: str) -> Commit:
    """Return the commit of a Git revision or, if there is none, of a DVC experiment of that name.

    Raises:
        DhmdError: not a Git repository, no such revision, or several experiments of that name.
    """
    sha = _sha(root, name)
    if sha is not None:
        return Commit(root, sha, name)
    _refuse_outside_git(root)
    # DVC's references: refs/exps/<2 digits>/<38 digits of the baseline>/<name>.
    pattern = "--format=%(objectname) %(refname)"
    listing = git_line(root, "for-each-ref", pattern, f"refs/exps/*/*/{name}") or ""
    # For the commit of each experiment, the commit from which it started.
    baselines = {line.split(" ")[0]: "".join(line.split("/")[2:4]) for line in listing.splitlines()}
    if len(baselines) > 1:
        # Like DVC, prefer the experiment that started from HEAD.
        head = _sha(root, "HEAD")
        from_head = {sha: baseline for sha, baseline in baselines.items() if baseline == head}
        baselines = from_head or baselines
    if len(baselines) > 1:
        names = ", ".join(sorted(baseline[:10] for baseline in baselines.values()))
        raise DhmdError(
            f"several experiments are called {name!r}; they started from the commits {names}: "
            "choose one by its own commit (dvc exp show --all-commits --sha)"
        )
    if baselines:
        return Commit(root, next(iter(baselines)), f"experiment {name}")
    raise DhmdError(
        f"revision {name!r} is not in this clone, neither in Git nor as a DVC experiment; fetch "
        "it, or choose another revision (a shallow clone has no older revisions)"
    )


def merge_base(root: Path, head: Commit | None = None) -> Commit:
    """Return the last common commit of `head` (None: HEAD) and the main branch.

    On the main branch this is HEAD itself.

    Raises:
        DhmdError: no main branch, or no shared commit in this clone.
    """
    _refuse_outside_git(root)
    sha = "HEAD" if head is None else head.sha
    for branch in MAIN_BRANCHES:
        if _sha(root, branch) is None:
            continue
        base = git_line(root, "merge-base", "--end-of-options", branch, sha)
        if base is None:
            raise DhmdError(
                f"{'HEAD' if head is None else head.label} and {branch} have no common commit in "
                "this clone; fetch the whole history, or give --base REV"
            )
        name = f"merge base with {branch}"
        return Commit(root, base, f"HEAD, the {name}" if base == _sha(root, "HEAD") else name)
    raise DhmdError(f"this clone has no main branch ({', '.join(MAIN_BRANCHES)}); give --base REV")


def _sha(root: Path, name: str) -> str | None:
    """Return the hash of the commit of a revision; None if there is no such revision."""
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    process = git(root, *verify, f"{name}^{{commit}}")
    return process.stdout.decode().strip() if process.returncode == 0 else None


def _refuse_outside_git(root: Path) -> None:
    process = git(root, "rev-parse", "--git-dir")
    if process.returncode:
        message = " ".join(process.stderr.decode("utf-8", "replace").split())
        raise DhmdError(f"the command needs a Git repository, but git failed: {message}")
