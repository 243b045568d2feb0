"""Source manifests, `recipes/sources/<dataset>.json`: the local files a dataset is made from.

DVC does not track `data/placed/` and the folders of `data.sources`, so it cannot see that a file
there was replaced. The manifest is tracked by Git, and the download stage depends on it:
`dhmd data manifest` updates it before `dvc repro`, and `dhmd lock-check` reports a stale one.

The entry of a file that is absent from this machine is not removed, so that the manifest, and with
it the stages, are unchanged in a clone without the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256, write_text
from dhmd.recipes import RECIPES_FOLDER
from dhmd.settings import load_params

MANIFEST_FOLDER = Path(RECIPES_FOLDER) / "sources"

_CACHE = Path(".dhmd") / "source-hashes.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A dataset's manifest: the recorded one and the one that fits its local files.

    Attributes:
        dataset: the dataset's name.
        path: the manifest's path, relative to the repository's root.
        recorded: the content of the manifest file; None if it is missing or damaged.
        current: the content that fits the local files.
    """

    dataset: str
    path: Path
    recorded: dict[str, Any] | None
    current: dict[str, Any]

    @property
    def stale_reason(self) -> str | None:
        """A sentence on why the recorded content is out of date; None if it is current."""
        command = f"run `dhmd data manifest {self.dataset}`"
        if self.recorded is None:
            return f"{self.path} is missing or damaged: {command} and `git add {self.path}`"
        if self.recorded == self.current:
            return None
        if self.recorded.get("source") != self.current["source"]:
            return f"{self.path}: data.sources.{self.dataset} has changed: {command}"
        files, recorded = self.current["files"], self.recorded.get("files", {})
        changed = [name for name in files | recorded if files.get(name) != recorded.get(name)]
        return f"{self.path}: {', '.join(changed)} changed since it was recorded: {command}"


def load_manifest(dataset: str, root: Path) -> Manifest:
    """Read a dataset's manifest and compute the current one from its config and local files.

    A file is hashed again only if its size or modification time changed.

    Args:
        dataset: the dataset's name.
        root: the repository's root.

    Raises:
        DhmdError: there is no such dataset config, params.yaml is invalid, or a local file cannot
            be read.
    """
    from dhmd.data.download import local_files, ordered_sources

    settings = load_params(root).for_dataset(dataset)
    recipe, override = settings.recipe, settings.data.sources.get(dataset)
    path = MANIFEST_FOLDER / f"{dataset}.json"
    recorded = _read(root / path)
    source: str | None = None
    files: dict[str, dict[str, object]] = {}
    if recipe.format != "generated":
        sources = ordered_sources(recipe, override, root)
        source = None if override is None else str(sources[0])  # without credentials
        same_source = recorded is not None and recorded.get("source") == source
        previous = recorded["files"] if recorded is not None and same_source else {}
        for required, local_path, _ in local_files(recipe, sources):
            if local_path is not None:
                files[required.path] = _entry(local_path.resolve(), root)
            elif required.path in previous:
                files[required.path] = previous[required.path]
    current = {"source": source, "files": dict(sorted(files.items()))}
    return Manifest(dataset=dataset, path=path, recorded=recorded, current=current)


def write_manifests(datasets: Sequence[str], root: Path) -> list[Manifest]:
    """Write the manifests that are stale, and return them.

    Args:
        datasets: the datasets' names; if empty, those of params.yaml.
        root: the repository's root.
    """
    manifests = [load_manifest(name, root) for name in datasets or load_params(root).datasets]
    stale = [manifest for manifest in manifests if manifest.stale_reason is not None]
    for manifest in stale:
        write_text(root / manifest.path, json.dumps(manifest.current, indent=2) + "\n")
    return stale


def stale_manifests(root: Path) -> list[str]:
    """Return one sentence per stale manifest of the datasets in params.yaml.

    A project without a manifest folder, such as an older revision of this one, has no stale ones.
    """
    if not (root / MANIFEST_FOLDER).is_dir():
        return []
    reasons = [load_manifest(name, root).stale_reason for name in load_params(root).datasets]
    return [reason for reason in reasons if reason is not None]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("files"), dict) else None


def _entry(path: Path, root: Path) -> dict[str, object]:
    """Return a file's entry, its bytes and sha256; the hash is cached by size and time."""
    cache_file = root / _CACHE
    cache: dict[str, list[Any]] = {}
    with suppress(OSError, ValueError):  # without a cache every file is hashed
        cache = json.loads(cache_file.read_text(encoding="utf-8"))
    try:
        status = path.stat()
        key = [status.st_size, status.st_mtime_ns]
        cached = cache.get(str(path), [])
        sha256 = str(cached[2]) if cached[:2] == key else file_sha256(path)
        if cached != [*key, sha256]:
            cache[str(path)] = [*key, sha256]
            write_text(cache_file, json.dumps(cache, indent=1) + "\n")
    except OSError as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    return {"bytes": status.st_size, "sha256": sha256}
