"""Git and DVC: revisions, experiments, dvc.lock, the cache and the remote.

No other module of dhmd uses Git or DVC. Functions that import or start DVC say so in their
docstring; the others need only Git.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from dhmd.base.errors import DhmdError, first_line

LOCK = "dvc.lock"
METRICS_FOLDER = "metrics"
# Folders of the stages' outputs.
OUTPUT_FOLDERS = ("data", "pretrained", "models", "ablations", METRICS_FOLDER, "reports")
# The first that exists is the main branch; a clone made for a pull request has only remote ones.
MAIN_BRANCHES = ("main", "origin/main", "master", "origin/master", "origin/HEAD")

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_saving = threading.Lock()  # two `dvc exp save` at a time clash in Git's objects
_ABSENT = ("deleted", "not in cache")  # how `dvc status` describes a file that is not here


def git(
    root: Path, *arguments: str, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git in `root`; the caller looks at the exit status.

    Raises:
        DhmdError: git is not installed.
    """
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            input=stdin,
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


class Revision(Protocol):
    """A state of the repository. Paths are relative to the project's root, with `/`."""

    @property
    def label(self) -> str:
        """The revision's name in messages."""

    def read(self, path: str) -> str | None:
        """Return a file's text; None if there is no such file.

        Raises:
            DhmdError: it cannot be read as UTF-8.
        """

    def metrics_files(self) -> dict[str, set[str]]:
        """Return the files in `metrics/` by dataset, relative to the dataset's folder."""


@dataclass(frozen=True)
class Workspace:
    """The files in the working folder."""

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


def _by_dataset(paths: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in paths:
        dataset, _, file = path.partition("/")
        # Hidden names are unfinished outputs.
        if file and not any(part.startswith(".") for part in path.split("/")):
            found.setdefault(dataset, set()).add(file)
    return found


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment: its name, its commit and the commit that it started from."""

    name: str
    sha: str
    baseline: str


def experiments(root: Path) -> list[Experiment]:
    """Return all DVC experiments; none outside Git.

    DVC stores them as Git references: refs/exps/<2 digits>/<38 digits of the baseline>/<name>.
    """
    listing = git_line(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/")
    found = []
    for line in (listing or "").splitlines():
        reference, sha = line.split(" ")
        parts = reference.split("/", 4)
        # Other references below refs/exps are DVC's bookkeeping.
        if len(parts) == 5 and len(parts[2] + parts[3]) == len(sha):
            found.append(Experiment(name=parts[4], sha=sha, baseline=parts[2] + parts[3]))
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
    found = [one for one in experiments(root) if one.name == name]
    if len(found) > 1:
        # Like DVC, prefer the one that started from HEAD.
        head = _sha(root, "HEAD")
        found = [one for one in found if one.baseline == head] or found
    if len(found) > 1:
        baselines = ", ".join(sorted(one.baseline[:10] for one in found))
        raise DhmdError(
            f"several experiments are called {name!r}, started from the commits {baselines}: name "
            "one by its own commit (dvc exp show --all-commits --sha)"
        )
    if found:
        return Commit(root, found[0].sha, f"experiment {name}")
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


Entries = dict[str, dict[str, Any]]


def lock_entries(revision: Revision) -> Entries:
    """Return dvc.lock of a revision: stage (`train@demo`) -> its entry; {} without the file.

    Every entry has the lists `deps` and `outs`, whose items have at least a `path`.

    Raises:
        DhmdError: dvc.lock is not what DVC writes.
    """
    text = revision.read(LOCK)
    try:
        stages = ((text and yaml.load(text, Loader=_Loader)) or {}).get("stages") or {}
        entries: Entries = {
            stage: {**entry, "deps": entry.get("deps", []), "outs": entry.get("outs", [])}
            for stage, entry in stages.items()
        }
        for entry in entries.values():
            for file in (*entry["deps"], *entry["outs"]):
                file["path"].encode()
    except (yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        raise DhmdError(
            f"{LOCK} of {revision.label} is damaged: restore it with `git checkout {LOCK}`, or "
            "remove it and run dvc repro (DVC's run cache saves the work)"
        ) from error
    return entries


def locked_outputs(revision: Revision) -> dict[str, dict[str, str]]:
    """Return stage -> output path -> md5 as dvc.lock has them.

    Raises:
        DhmdError: dvc.lock is not what DVC writes.
    """
    return {
        stage: {out["path"]: str(out.get("md5", "")) for out in entry["outs"]}
        for stage, entry in lock_entries(revision).items()
    }


@dataclass(frozen=True)
class LockState:
    """stale: stage -> what changed since it ran; downstream: stages that depend on a stale one."""

    stale: dict[str, tuple[str, ...]]
    downstream: tuple[str, ...]


def check_lock(root: Path) -> LockState:
    """Compare dvc.lock with code and params, also in a clone without data (starts DVC).

    `dvc status` reports a stage as stale if its data is absent. Here an absent file counts only if
    Git tracks it. Whether a stage ran on the last version of its input is read from dvc.lock.

    Raises:
        DhmdError: no DVC, or a dvc.yaml or dvc.lock that it cannot read.
    """
    status = _dvc_status(root)
    entries = lock_entries(Workspace(root))
    absent = {
        path
        for changes in status.values()
        for path, what in _changed_paths(changes)
        if what in _ABSENT
    }
    excused = _ignored_by_git(root, absent)
    stale: dict[str, tuple[str, ...]] = {}
    for stage, changes in status.items():
        if stage not in entries:
            stale[stage] = ("never run",)
        elif found := tuple(_descriptions(changes, excused)):
            stale[stage] = found
    maker = {out["path"]: stage for stage, entry in entries.items() for out in entry["outs"]}
    made = {out["path"]: out.get("md5") for entry in entries.values() for out in entry["outs"]}
    for stage, entry in entries.items():
        for dependency in entry["deps"]:
            path = dependency["path"]
            if path in made and made[path] != dependency.get("md5"):
                difference = f"{path} is not what {maker[path]} wrote last"
                stale[stage] = (*stale.get(stage, ()), difference)
    return LockState(stale, _downstream(entries, maker, set(stale)))


def _dvc_status(root: Path) -> dict[str, list[Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        value = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        message = " ".join((done.stderr or done.stdout).split())
        raise DhmdError(f"dvc status failed, so {LOCK} cannot be checked: {message}")
    # Data tracked outside dvc.yaml (by `dvc add`) has no stage to be stale.
    return {name: changes for name, changes in value.items() if not name.endswith(".dvc")}


def _changed_paths(changes: Iterable[object]) -> Iterable[tuple[str, object]]:
    """Yield (path, what) of entries such as {"changed deps": {path: "modified"}}."""
    for change in changes:
        for paths in change.values() if isinstance(change, dict) else ():
            if isinstance(paths, dict):
                yield from paths.items()


def _descriptions(changes: Iterable[object], excused: set[str]) -> Iterable[str]:
    yield from (str(change) for change in changes if not isinstance(change, dict))
    for path, what in _changed_paths(changes):
        if isinstance(what, dict):
            yield from (f"{path}: {key} {state}" for key, state in what.items())
        elif not (what in _ABSENT and path in excused):
            yield f"{path} {what}"


def _ignored_by_git(root: Path, paths: set[str]) -> set[str]:
    """Return the paths that a clone need not have: Git ignores them, DVC's cache has them."""
    if not paths:
        return set()
    listing = "\0".join(sorted(paths)).encode()
    done = git(root, "check-ignore", "--stdin", "-z", stdin=listing)
    return set(done.stdout.decode("utf-8").split("\0")) - {""}


def _downstream(entries: Entries, maker: Mapping[str, str], stale: set[str]) -> tuple[str, ...]:
    reached = set(stale)
    while more := {
        stage
        for stage, entry in entries.items()
        if stage not in reached and any(maker.get(d["path"]) in reached for d in entry["deps"])
    }:
        reached |= more
    return tuple(stage for stage in entries if stage in reached and stage not in stale)


def missing_in_remote(root: Path, name: str | None = None) -> list[str]:
    """Return the outputs of a revision or experiment (None: the workspace) that others cannot get.

    `dvc exp push` of an experiment that is older than the remote uploads nothing and reports
    success: it reads the remotes from the experiment's own .dvc/config. Imports DVC.

    Returns:
        Paths of output files that are not in the default remote, sorted.

    Raises:
        DhmdError: no DVC, no default remote, or one that does not answer.
    """
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError as error:
        raise DhmdError(f"dvc is not installed here: {first_line(error)}") from error
    revision = None if name is None else commit(root, name)
    try:
        with Repo(str(root)) as repo:
            if revision is None:
                used = repo.index.used_objs()
            else:
                with repo.switch(revision.sha):
                    used = repo.index.used_objs()
            missing = set()
            for odb, objects in used.items():
                state = repo.cloud.status(objects, odb=odb)
                missing |= {*state.new, *state.missing}
    except (DvcException, OSError) as error:
        raise DhmdError(f"the DVC remote cannot be compared: {first_line(error)}") from error
    return sorted({str(one.obj_name) for one in missing})


def cached_files(root: Path, output: Path) -> dict[str, Path]:
    """Return the files of an output folder that DVC's cache still has (starts DVC).

    DVC removes an output before its stage runs. Compare the files with a known hash before use.
    Files that are not found or not stored in the format of DVC 3 are omitted.

    Args:
        root: folder of dvc.lock.
        output: path of the folder, relative to `root`.

    Returns:
        File name -> path in the cache.
    """
    outputs = locked_outputs(Workspace(root))
    md5 = next((outs[str(output)] for outs in outputs.values() if str(output) in outs), None)
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    if md5 is None:
        return {}
    asked = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if asked.returncode:
        return {}
    cache = Path(asked.stdout.strip(), "files", "md5")

    def cached(md5: object) -> Path | None:
        if not isinstance(md5, str) or not _MD5.fullmatch(md5):
            return None
        path = cache / md5[:2] / md5[2:]
        return path if path.is_file() else None

    listing = cached(md5)
    try:
        entries = json.loads(listing.read_bytes()) if listing else []
        found = {str(entry["relpath"]): cached(entry["md5"]) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {name: path for name, path in found.items() if path is not None}


def outputs_md5(path: Path) -> str | None:
    """Return the md5 that DVC gives a file or folder in dvc.lock; None if it does not exist.

    A folder's is the md5 of its files' md5s and relative paths as JSON, followed by `.dir`.
    """
    if path.is_file():
        return _file_md5(path)
    if not path.is_dir():
        return None
    files = {
        file.relative_to(path).as_posix(): _file_md5(file)
        for file in path.rglob("*")
        if file.is_file()
    }
    entries = [{"md5": files[relative], "relpath": relative} for relative in sorted(files)]
    text = json.dumps(entries, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _file_md5(path: Path) -> str:
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


def check_output_folders(root: Path) -> None:
    """Check that no output folder is a symbolic link, which DVC refuses after the stage has run.

    Raises:
        DhmdError: naming the folder and how to use another disk.
    """
    for name in OUTPUT_FOLDERS:
        folder = root / name
        if folder.is_symlink():
            raise DhmdError(
                f"{name}/ is a symbolic link to {os.readlink(folder)}, which DVC refuses: make it "
                "a folder, and move DVC's cache to the other disk instead (`dvc cache dir --local "
                "FOLDER`, then `dvc config --local cache.type symlink`)."
            )


def combinations(overrides: list[str]) -> list[list[str]]:
    """Return every combination of `KEY=VALUE,VALUE…` as `dvc exp run -S` arguments.

    Raises:
        DhmdError: an override cannot be read.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps

    try:
        found = get_hydra_sweeps({"params.yaml": overrides})
    except DvcException as error:
        raise DhmdError(f"-S {' -S '.join(overrides)}: {first_line(error)}") from error
    return [list(each["params.yaml"]) for each in found]


def run_in_worktree(root: Path, worktree: Path, name: str, overrides: list[str], log: Path) -> bool:
    """Run an experiment of HEAD in a Git worktree of its own and record it under a name.

    The worktree shares the DVC cache and the store of finished trainings with the workspace.

    Returns:
        Whether it succeeded; what DVC printed is in `log`.
    """
    git(root, "worktree", "remove", "--force", str(worktree))  # of a killed run
    done = git(root, "worktree", "add", "--detach", str(worktree), "HEAD")
    if done.returncode:
        raise DhmdError(f"git worktree failed: {done.stderr.decode('utf-8', 'replace').strip()}")

    def dvc(*arguments: str, cwd: Path = worktree, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(
            command, cwd=cwd, check=False, stdin=subprocess.DEVNULL, text=True, **more
        )

    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    # The stages start as `python3`: this environment's, even if it is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "DVC_ROOT": str(root), "PATH": path}
    try:
        cache = dvc("cache", "dir", cwd=root, stdout=subprocess.PIPE).stdout.strip()
        with open(log, "w", encoding="utf-8") as stream:
            out: dict[str, Any] = {"stdout": stream, "stderr": stream, "env": environment}
            apply_overrides(str(worktree / "params.yaml"), overrides)
            if dvc("cache", "dir", "--local", cache, **out).returncode:
                return False
            if dvc("repro", **out).returncode:
                return False
            with _saving:
                save = ("exp", "save", "--force", "--name", name, "-I", METRICS_FOLDER)
                return dvc(*save, **out).returncode == 0
    except DvcException as error:
        raise DhmdError(f"-S {' -S '.join(overrides)}: {first_line(error)}") from error
    finally:
        git(root, "worktree", "remove", "--force", str(worktree))
