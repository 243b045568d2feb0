"""Run DVC experiments in Git worktrees, and open DVC's remote. All functions import DVC."""

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
    """Return the combinations of values in arguments `KEY=VALUE,VALUE…`, each a list for `-S`."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps

    try:
        sweeps = get_hydra_sweeps({"params.yaml": overrides})
    except DvcException as error:
        raise DhmdError(f"-S {' -S '.join(overrides)}: {first_line(error)}") from error
    return [list(sweep["params.yaml"]) for sweep in sweeps]


class Worktree:
    """An experiment that starts from HEAD, in its own Git worktree.

    It shares DVC's cache and the store of finished trainings with the workspace.

    Attributes:
        folder: the folder of the worktree.
        log: the file with the output of DVC.
    """

    def __init__(self, root: Path, folder: Path, overrides: list[str]) -> None:
        """Create the worktree and set values in its params.yaml.

        Args:
            root: the repository.
            folder: the folder to create; the log is next to it, with the suffix `.txt`.
            overrides: arguments `KEY=VALUE` of `-S`.
        """
        from dvc.exceptions import DvcException
        from dvc.utils.hydra import apply_overrides

        self.folder, self.log, self._root = folder, Path(f"{folder}.txt"), root
        self.remove()  # in case a killed run has left it
        process = git(root, "worktree", "add", "--detach", str(folder), "HEAD")
        if process.returncode:
            message = " ".join(process.stderr.decode("utf-8", "replace").split())
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
        """Run all stages that can run, and return whether all have succeeded."""
        # The command `python3` of the stages is that of this environment, even if not activated.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment |= {"DVC_ROOT": str(self._root), "PATH": path}
        return self._logged("repro", "--keep-going", env={**os.environ, **environment})

    def save(self, name: str) -> bool:
        """Record the worktree as a DVC experiment, and return whether that succeeded."""
        return self._logged("exp", "save", "--force", "--name", name, "-I", METRICS_FOLDER)

    def remove(self) -> None:
        """Remove the worktree, but not the log."""
        git(self._root, "worktree", "remove", "--force", str(self.folder))

    def _logged(self, *arguments: str, **options: Any) -> bool:
        """Run DVC in the worktree, append its output to the log; return whether it succeeded."""
        with open(self.log, "a", encoding="utf-8") as stream:
            process = _dvc(*arguments, cwd=self.folder, stdout=stream, stderr=stream, **options)
        return process.returncode == 0


def _dvc(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, text=True, **options)


def remote_file_system(root: Path) -> tuple[Any, str]:
    """Return the file system of DVC's default remote, with fsspec's methods, and its root path."""
    failure = "compute.shared is false, which needs a DVC remote (`dvc remote add -d NAME URL`)"
    with repository(root, failure) as repo:
        remote = repo.cloud.get_remote()
        return remote.fs, str(remote.path)
