"""Where committed files are read: a Git revision, a DVC experiment, or the workspace."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dhmd.base.errors import DhmdError, first_line

METRICS_FOLDER = "metrics"
# The first that exists is the main branch; a clone made for a pull request has only remote ones.
MAIN_BRANCHES = ("main", "origin/main", "master", "origin/master", "origin/HEAD")


class Revision(Protocol):
    """A state of the repository. Paths are relative to its root, with `/`."""

    @property
    def label(self) -> str:
        """The revision's name in messages."""

    def read(self, path: str) -> str | None:
        """The file's text, None where there is none.

        Raises:
            DhmdError: it cannot be read as UTF-8.
        """

    def metrics_files(self) -> dict[str, set[str]]:
        """The files below `metrics/`, by folder."""


@dataclass(frozen=True)
class Workspace:
    """The files as they lie in the working folder."""

    root: Path
    label: str = "the workspace"

    def read(self, path: str) -> str | None:
        file = self.root / path
        if not file.is_file():
            return None
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DhmdError(f"{path} cannot be read: {first_line(error)}") from error

    def metrics_files(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        # Hidden folders are being written, or were when their writer was killed.
        for path in sorted((self.root / METRICS_FOLDER).glob("[!.]*/*")):
            found.setdefault(path.parent.name, set()).add(path.name)
        return found


@dataclass(frozen=True)
class Commit:
    """The files as one commit holds them."""

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
        found: dict[str, set[str]] = {}
        listing = _git_text(
            self.root, "ls-tree", "-r", "-z", "--name-only", self.sha, f"{METRICS_FOLDER}/"
        )
        for path in listing.split("\0"):
            parts = path.split("/")
            if len(parts) == 3:
                found.setdefault(parts[1], set()).add(parts[2])
        return found


def commit(root: Path, name: str) -> Commit:
    """The commit that `name` means: a Git revision, else a DVC experiment of that name.

    Raises:
        DhmdError: not a Git repository, no such revision, or several experiments of that name.
    """
    done = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode == 0:
        return Commit(root, done.stdout.decode().strip(), name)
    _refuse_outside_git(root)
    found = _experiments(root, name)
    if len(found) > 1:
        # As in DVC, the one that started from here is meant.
        found = {base: sha for base, sha in found.items() if base == _sha(root, "HEAD")} or found
    if len(found) > 1:
        bases = ", ".join(sorted(base[:10] for base in found))
        raise DhmdError(
            f"several experiments are called {name!r}, from the commits {bases}: name one by its "
            "own commit (dvc exp show --all-commits --sha)"
        )
    for sha in found.values():
        return Commit(root, sha, f"experiment {name}")
    raise DhmdError(
        f"revision {name!r} is not in this clone, neither in Git nor as a DVC experiment; fetch "
        "it, or name another (a shallow clone holds no older revisions)"
    )


def _experiments(root: Path, name: str) -> dict[str, str]:
    """The experiments of that name: the commit that each started from, and its own.

    DVC keeps them as Git references: refs/exps/<2 digits>/<38 digits of the baseline>/<name>.
    """
    found: dict[str, str] = {}
    listing = _git_text(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/")
    for line in listing.splitlines():
        reference, sha = line.split(" ")
        parts = reference.split("/", 4)
        if len(parts) == 5 and len(parts[2] + parts[3]) == len(sha) and parts[4] == name:
            found[parts[2] + parts[3]] = sha
    return found


def merge_base(root: Path, head: Commit | None = None) -> Commit:
    """The last commit that `head` (None: what is checked out) and the main branch share.

    Its name says so where it is HEAD itself, as it is on the main branch.

    Raises:
        DhmdError: no main branch, or no shared commit in this clone.
    """
    _refuse_outside_git(root)
    sha = "HEAD" if head is None else head.sha
    for branch in MAIN_BRANCHES:
        if git(root, "rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}").returncode:
            continue
        done = git(root, "merge-base", "--end-of-options", branch, sha)
        if done.returncode:
            raise DhmdError(
                f"{'HEAD' if head is None else head.label} and {branch} share no commit in this "
                "clone; fetch the whole history, or give --base REV"
            )
        found = done.stdout.decode().strip()
        name = f"merge base with {branch}"
        return Commit(root, found, f"HEAD, the {name}" if found == _sha(root, "HEAD") else name)
    raise DhmdError(f"no main branch here ({', '.join(MAIN_BRANCHES)}); give --base REV")


def _sha(root: Path, name: str) -> str:
    done = git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return done.stdout.decode().strip()


def git(
    root: Path, *arguments: str, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git in `root`; the caller looks at the exit status.

    Raises:
        DhmdError: git is not installed.
    """
    try:
        return subprocess.run(
            ["git", *arguments], cwd=root, input=stdin, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise DhmdError("git is not installed, but the gate reads revisions with it") from error


def _git_text(root: Path, *arguments: str) -> str:
    done = git(root, *arguments)
    if done.returncode:
        message = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise DhmdError(f"git {arguments[0]} failed: {message}")
    return done.stdout.decode("utf-8")


def _refuse_outside_git(root: Path) -> None:
    done = git(root, "rev-parse", "--git-dir")
    if done.returncode:
        message = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise DhmdError(f"the gate compares Git revisions, but here git says: {message}")
