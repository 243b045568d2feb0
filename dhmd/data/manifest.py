"""Source manifests, `recipes/sources/<dataset>.json`: which local files a dataset is made from.

DVC cannot see that a file in `data/placed/` or in a folder of `data.sources` was replaced: it does
not track these places. The manifest is tracked by Git, and the download stage depends on it. So
`dhmd data manifest` updates it before `dvc repro`, and `dhmd lock-check` reports a stale one.

A file that is not on this machine keeps its entry, so that a clone without the data finds the
manifest, and with it the stages, unchanged.
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
    """A dataset's manifest, as recorded and as its local files are now.

    Attributes:
        dataset: the dataset.
        path: relative to the repository's root.
        recorded: the file's content; None if it is missing or damaged.
        current: what it must contain.
    """

    dataset: str
    path: Path
    recorded: dict[str, Any] | None
    current: dict[str, Any]

    @property
    def stale(self) -> str | None:
        """Why the recorded content is out of date; None if it is current."""
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


def manifest(dataset: str, root: Path) -> Manifest:
    """Compare a dataset's recorded manifest with its recipe, params.yaml and local files.

    A file is hashed again only if its size or modification time changed.

    Raises:
        DhmdError: no such recipe, params.yaml is wrong, or a local file cannot be read.
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
        kept = recorded["files"] if recorded is not None and same_source else {}
        for wanted, found, _ in local_files(recipe, sources):
            if found is not None:
                files[wanted.path] = _entry(found.resolve(), root)
            elif wanted.path in kept:
                files[wanted.path] = kept[wanted.path]
    current = {"source": source, "files": dict(sorted(files.items()))}
    return Manifest(dataset=dataset, path=path, recorded=recorded, current=current)


def write_manifests(datasets: Sequence[str], root: Path) -> list[Manifest]:
    """Write the manifests that are stale, and return them.

    Args:
        datasets: which; none means those of params.yaml.
        root: the repository's root.
    """
    found = [manifest(name, root) for name in datasets or load_params(root).datasets]
    stale = [one for one in found if one.stale is not None]
    for one in stale:
        write_text(root / one.path, json.dumps(one.current, indent=2) + "\n")
    return stale


def stale_manifests(root: Path) -> list[str]:
    """Return one sentence per stale manifest of the datasets in params.yaml.

    A project without manifests, such as an older revision of this one, has none that are stale.
    """
    if not (root / MANIFEST_FOLDER).is_dir():
        return []
    found = [manifest(name, root).stale for name in load_params(root).datasets]
    return [sentence for sentence in found if sentence is not None]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("files"), dict) else None


def _entry(path: Path, root: Path) -> dict[str, object]:
    """Return bytes and sha256 of a file; the hash is cached by size and modification time."""
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
