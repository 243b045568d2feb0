"""What a run's record says of its surroundings, and of its outputs."""

from __future__ import annotations

import getpass
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

PACKAGES = ("dhmd", "torch", "numpy", "scipy", "h5py", "dvc", "mlflow")
DVC_VARIABLES = ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE")


def flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Nested mappings and dataclasses as dotted names with text values, as MLflow wants them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for name, item in value.items():
            flat |= flatten(item, f"{prefix}.{name}" if prefix else str(name))
        return flat
    return {prefix: _text(value)}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def outputs_md5(path: Path) -> str | None:
    """The md5 that DVC gives a file or folder, so that dvc.lock leads to the run; None if absent.

    A folder's is the md5 of its files' md5s and relative paths as JSON, with `.dir` behind.
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


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where git or the repository is missing or the command fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=20,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def run_tags(root: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Commit, DVC experiment, machine, versions and process, as tags."""
    tags = {name: environ[name] for name in DVC_VARIABLES if environ.get(name)}
    commit = (git(root, "rev-parse", "HEAD") or "").strip()
    if commit:
        tags["mlflow.source.git.commit"] = commit  # MLflow's own name: the column "Version"
        changes = git(root, "status", "--porcelain", "--untracked-files=no")
        tags["uncommitted_changes"] = "no" if changes == "" else "yes"
    tags["mlflow.source.type"] = "LOCAL"
    tags["mlflow.source.name"] = "/".join(Path(sys.argv[0]).parts[-2:])  # stages/train.py
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        tags["mlflow.user"] = str(os.getuid())
    tags["machine"] = machine()
    tags["version.python"] = platform.python_version()
    for package in PACKAGES:
        try:
            tags[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # not installed: no version to tell
    tags["dhmd.process"] = str(this_process())
    return tags


def machine() -> str:
    """Host, processor, cores and NVIDIA cards in one line, without importing torch."""
    cpu = platform.processor() or platform.machine()
    if found := re.search(r"^model name\s*:\s*(.+)$", _content("/proc/cpuinfo"), re.MULTILINE):
        cpu = found.group(1)
    parts = [platform.node(), f"{os.cpu_count()} × {cpu}"]
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        if found := re.search(r"^Model:\s*(.+)$", _content(str(information)), re.MULTILINE):
            parts.append(found.group(1).strip())
    return ", ".join(parts)


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Process:
    """A process, so that another one can tell later whether it still lives."""

    host: str
    boot: str  # of the kernel: another value means that the machine was started again
    namespace: str  # PIDs mean something only within it
    pid: int
    start: str  # in ticks since boot: PIDs are used again

    def __str__(self) -> str:
        return "|".join((self.host, self.boot, self.namespace, str(self.pid), self.start))


def this_process() -> Process:
    """The calling process."""
    return _process(os.getpid())


def _process(pid: int) -> Process:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    # The name in parentheses may contain blanks; field 22 of the whole is the start time.
    fields = _content(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return Process(
        # Many machines are called "localhost".
        host=f"{platform.node()} {_content('/etc/machine-id').strip()[:8]}",
        boot=_content("/proc/sys/kernel/random/boot_id").strip(),
        namespace=namespace,
        pid=pid,
        start=fields[19] if len(fields) > 19 else "",
    )


def surely_dead(tag: str) -> bool:
    """Whether the process that wrote this tag is gone; False where one cannot know from here."""
    parts = tag.split("|")
    if len(parts) != 5 or not parts[3].isdigit():
        return False
    then = Process(parts[0], parts[1], parts[2], int(parts[3]), parts[4])
    now = _process(then.pid)
    if not then.start or not now.boot or then.host != now.host:
        return False
    if then.boot != now.boot:
        return True
    return then.namespace == now.namespace and then.start != now.start
