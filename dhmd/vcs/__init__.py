"""Git: revisions and experiments. Only this package of dhmd uses Git and DVC.

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
# The first that exists is the main branch; a clone made for a pull request has only remote ones.
MAIN_BRANCHES = ("main", "origin/main", "master", "origin/master", "origin/HEAD")


def git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in `root`; the caller looks at the exit status.

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
        raise DhmdError("git is not installed.") from error


def git_line(root: Path, *arguments: str) -> str | None:
    """Return what git prints, stripped; None if git fails or is not installed."""
    try:
        done = git(root, *arguments)
    except DhmdError:
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def code_version(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of HEAD and whether tracked files differ from it; None outside Git."""
    commit = git_line(root, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = git_line(root, "status", "--porcelain", "--untracked-files=no")
    return commit, changes != ""


@dataclass(frozen=True)
class Workspace:
    """The files in the working folder."""

    root: Path
    label: str = "the workspace"

    def read(self, path: str) -> str | None:
        """Return a file's text; None if there is no such file."""
        file = self.root / path
        if not file.is_file():
            return None
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DhmdError(f"{path} cannot be read: {first_line(error)}") from error

    def metrics_files(self) -> dict[str, set[str]]:
        """Return the files in `metrics/` by dataset, relative to the dataset's folder."""
        metrics = self.root / METRICS_FOLDER
        return _by_dataset(
            path.relative_to(metrics).as_posix() for path in metrics.rglob("*") if path.is_file()
        )


@dataclass(frozen=True)
class Commit:
    """The files of one commit."""

    root: Path
    sha: str
    name: str

    @property
    def label(self) -> str:
        short = self.sha[:10]
        return short if self.name.startswith(short) else f"{self.name} ({short})"

    def read(self, path: str) -> str | None:
        # `./` counts from the root of the project, which need not be that of the repository.
        done = git(self.root, "show", f"{self.sha}:./{path}")
        if done.returncode:
            return None
        try:
            return done.stdout.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DhmdError(f"{path} of {self.label} is not UTF-8: {first_line(error)}") from error

    def metrics_files(self) -> dict[str, set[str]]:
        folder = f"{METRICS_FOLDER}/"
        names = git_line(self.root, "ls-tree", "-r", "-z", "--name-only", self.sha, folder) or ""
        return _by_dataset(path.removeprefix(folder) for path in names.split("\0"))


Revision = Workspace | Commit  # paths are relative to the project's root, with `/`


def _by_dataset(paths: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in paths:
        dataset, _, file = path.partition("/")
        # Hidden names are unfinished outputs.
        if file and not any(part.startswith(".") for part in path.split("/")):
            found.setdefault(dataset, set()).add(file)
    return found


def commit(root: Path, name: str) -> Commit:
    """Return the commit of a Git revision, else of the DVC experiment with that name.

    Raises:
        DhmdError: not a Git repository, no such revision, or several experiments of that name.
    """
    sha = _sha(root, name)
    if sha is not None:
        return Commit(root, sha, name)
    _refuse_outside_git(root)
    # DVC's references: refs/exps/<2 digits>/<38 digits of the baseline>/<name>.
    form = "--format=%(objectname) %(refname)"
    listing = git_line(root, "for-each-ref", form, f"refs/exps/*/*/{name}") or ""
    found = {line.split(" ")[0]: "".join(line.split("/")[2:4]) for line in listing.splitlines()}
    if len(found) > 1:
        # Like DVC, prefer the one that started from HEAD.
        head = _sha(root, "HEAD")
        found = {sha: baseline for sha, baseline in found.items() if baseline == head} or found
    if len(found) > 1:
        baselines = ", ".join(sorted(baseline[:10] for baseline in found.values()))
        raise DhmdError(
            f"several experiments are called {name!r}, started from the commits {baselines}: name "
            "one by its own commit (dvc exp show --all-commits --sha)"
        )
    if found:
        return Commit(root, next(iter(found)), f"experiment {name}")
    raise DhmdError(
        f"revision {name!r} is not in this clone, neither in Git nor as a DVC experiment; fetch "
        "it, or name another (a shallow clone holds no older revisions)"
    )


def merge_base(root: Path, head: Commit | None = None) -> Commit:
    """Return the last commit that `head` (None: HEAD) and the main branch share.

    On the main branch this is HEAD itself.

    Raises:
        DhmdError: no main branch, or no shared commit in this clone.
    """
    _refuse_outside_git(root)
    sha = "HEAD" if head is None else head.sha
    for branch in MAIN_BRANCHES:
        if _sha(root, branch) is None:
            continue
        found = git_line(root, "merge-base", "--end-of-options", branch, sha)
        if found is None:
            raise DhmdError(
                f"{'HEAD' if head is None else head.label} and {branch} share no commit in this "
                "clone; fetch the whole history, or give --base REV"
            )
        name = f"merge base with {branch}"
        return Commit(root, found, f"HEAD, the {name}" if found == _sha(root, "HEAD") else name)
    raise DhmdError(f"no main branch here ({', '.join(MAIN_BRANCHES)}); give --base REV")


def _sha(root: Path, name: str) -> str | None:
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    done = git(root, *verify, f"{name}^{{commit}}")
    return done.stdout.decode().strip() if done.returncode == 0 else None


def _refuse_outside_git(root: Path) -> None:
    done = git(root, "rev-parse", "--git-dir")
    if done.returncode:
        message = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise DhmdError(f"Git revisions are needed, but git failed: {message}")
