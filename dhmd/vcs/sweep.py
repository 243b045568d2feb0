"""DVC experiments in Git worktrees, and the file system of DVC's remote. All functions use DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.vcs import METRICS_FOLDER, git
from dhmd.vcs.lock import repository


def combinations(overrides: list[str]) -> list[list[str]]:
    """Return every combination of `KEY=VALUE,VALUE…` as `dvc exp run -S` arguments."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps

    try:
        found = get_hydra_sweeps({"params.yaml": overrides})
    except DvcException as error:
        raise DhmdError(f"-S {' -S '.join(overrides)}: {first_line(error)}") from error
    return [list(each["params.yaml"]) for each in found]


class Worktree:
    """An experiment of HEAD in a Git worktree of its own.

    It shares DVC's cache and the store of finished trainings with the workspace.
    """

    def __init__(self, root: Path, folder: Path, overrides: list[str]) -> None:
        """Make the worktree and set values in its params.yaml.

        What DVC prints is in the folder's path with the suffix `.txt`.
        """
        from dvc.exceptions import DvcException
        from dvc.utils.hydra import apply_overrides

        self.folder, self.log, self._root = folder, Path(f"{folder}.txt"), root
        self.remove()  # of a killed run
        done = git(root, "worktree", "add", "--detach", str(folder), "HEAD")
        if done.returncode:
            message = done.stderr.decode("utf-8", "replace").strip()
            raise DhmdError(f"git worktree failed: {message}")
        self.log.write_bytes(b"")
        try:
            apply_overrides(str(folder / "params.yaml"), overrides)
        except DvcException as error:
            self.remove()
            reason = str(error.__cause__ or error).partition("\n")[0].rstrip(".")
            raise DhmdError(
                f"-S {' -S '.join(overrides)}: {reason}: use a key of params.yaml, or add one with "
                "+KEY=VALUE"
            ) from error
        cache = _dvc("cache", "dir", cwd=root, stdout=subprocess.PIPE).stdout.strip()
        self._logged("cache", "dir", "--local", cache)

    def reproduce(self, **environment: str) -> bool:
        """Run the pipeline as far as it succeeds; return whether all of it did."""
        # The stages start as `python3`: this environment's, even if it is not activated.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment |= {"DVC_ROOT": str(self._root), "PATH": path}
        return self._logged("repro", "--keep-going", env={**os.environ, **environment})

    def save(self, name: str) -> bool:
        """Record the worktree as a DVC experiment; return whether that succeeded."""
        return self._logged("exp", "save", "--force", "--name", name, "-I", METRICS_FOLDER)

    def remove(self) -> None:
        git(self._root, "worktree", "remove", "--force", str(self.folder))

    def _logged(self, *arguments: str, **more: Any) -> bool:
        with open(self.log, "a", encoding="utf-8") as stream:
            done = _dvc(*arguments, cwd=self.folder, stdout=stream, stderr=stream, **more)
        return done.returncode == 0


def _dvc(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, text=True, **more)


def remote_file_system(root: Path) -> tuple[Any, str]:
    """Return the file system of DVC's default remote, which has fsspec's methods, and its path."""
    failure = "compute.shared is false, which needs a DVC remote (`dvc remote add -d NAME URL`)"
    with repository(root, failure) as repo:
        remote = repo.cloud.get_remote()
        return remote.fs, str(remote.path)
