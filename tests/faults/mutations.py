"""Random, reproducible damage to files."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutate = Callable[[Path, random.Random], None]

# Scalars, containers, tags, aliases, characters and paths that may break YAML parsers or readers.
_YAML: Sequence[str] = (
    *("null", "true", "-1", "1e999", ".nan", "9" * 400, "''", "[]", "{}", "[1, 2", "- x"),
    *("&a [*a]", "!!python/object/apply:os.abort []", "2001-01-01", "<<: {a: 1}", "a: b: c"),
    *("\x00", "\t", "---", "\ufeff", "\ud7ff", "../../etc/passwd", "[" * 2000),
)
_VALUES: Sequence[Any] = (
    *(None, True, 0, -1, 10**30, 0.5, float("nan"), "text", b"bytes", (), [], {}, [[1], [2, 3]]),
    *(np.zeros(0), np.zeros((2, 0, 3)), np.array(["a", 1.5], dtype=object), np.arange(3) > 1),
)


def change_bytes(path: Path, rng: random.Random) -> None:
    """Replace, remove or insert a few bytes, or cut the file."""
    data = bytearray(path.read_bytes())
    first = rng.randrange(len(data))
    last = first + rng.choice((1, 8, 64, 512, len(data)))
    # Parsers break at sizes, offsets and counts. There is no long run of zeros, since the HDF5
    # library itself hangs if a heap of strings has one.
    new = rng.choice((b"", rng.randbytes(16), bytes(4), b"\xff" * 4, b"\x7f" * 8))
    data[first:last] = new[: len(data)]
    path.write_bytes(bytes(data))


def change_yaml(path: Path, rng: random.Random) -> None:
    """Make one change, as a person with a text editor or an attacker could."""
    lines = path.read_text(encoding="utf-8").splitlines()
    chosen = [n for n, line in enumerate(lines) if line.strip() and line.strip()[0] != "#"]
    row = rng.choice(chosen)
    line = lines[row]
    key, colon, _ = line.partition(":")
    changed: Sequence[list[str]] = (
        [],
        [line, line],
        [f"{key}{colon} {rng.choice(_YAML)}"],
        [" " * rng.randrange(9) + line.lstrip()],
        [" " * rng.randrange(9) + rng.choice(_YAML), line],
        [f"{key}x{colon} 1"],
    )
    lines[row : row + rng.choice((1, 1, 1, len(lines)))] = rng.choice(changed)
    path.write_bytes("\n".join(lines).encode("utf-8", errors="surrogatepass") + b"\n")


def change_hdf5(path: Path, rng: random.Random) -> None:
    """Change a dataset or an attribute; the file is still valid HDF5, but not of its format."""
    names: list[str] = []
    with h5py.File(path, "a") as file:
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
        name = rng.choice(names)
        value, attributes = file[name][()], sorted(file.attrs)
        kind = rng.randrange(8)
        if kind == 0 and attributes:
            file.attrs[rng.choice(attributes)] = rng.choice((-1, "text", "[]", "{", np.zeros(3)))
            return
        if kind == 1:
            file[name].parent.move(name.rpartition("/")[2], rng.choice(("x", "[", "é", "a" * 300)))
            return
        del file[name]
        if kind == 2:
            file.create_group(name)
        elif kind == 3:
            file.create_dataset(name, (1 << 40, *np.shape(value)[1:]), dtype="f8", chunks=True)
        elif kind == 4:
            file[name] = h5py.ExternalLink("/etc/hostname", "/data")
        elif kind == 5:
            file[name] = h5py.SoftLink(f"/{name}")
        elif kind == 6 and isinstance(value, np.ndarray):
            file[name] = rng.choice((value[: len(value) // 2], np.concatenate([value, value])))
        else:
            file[name] = rng.choice((3, "text", np.zeros((2, 2)), np.full(np.shape(value), np.inf)))


def change_arrays(path: Path, rng: random.Random) -> None:
    """Remove, reshape or replace one array of an .npz."""
    with np.load(path, allow_pickle=False) as archive:
        content: Any = {name: archive[name] for name in archive.files}
    while not isinstance(content := change_value(content, rng), dict):
        content = {}
    arrays = {}
    for name, value in content.items():
        try:
            arrays[name] = np.asarray(value)
        except ValueError:  # ragged
            arrays[name] = np.array("ragged", dtype=object)
    np.savez(path, **arrays)


def mixture(*mutations: Mutate) -> Mutate:
    """Return a mutation that applies one of several, chosen at random."""
    return lambda path, rng: rng.choice(mutations)(path, rng)


def change_value(value: Any, rng: random.Random) -> Any:
    """Return a copy of a nested value of containers and arrays with one random change."""
    if rng.random() < 0.1:
        return rng.choice(_VALUES)
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        others = {k: v for k, v in value.items() if k is not key}
        kind = rng.randrange(8)
        if kind == 0:
            return others
        return others | {f"{key}x" if kind == 1 else key: change_value(value[key], rng)}
    if isinstance(value, list) and value:
        row = rng.randrange(len(value))
        return [*value[:row], change_value(value[row], rng), *value[row + 1 :]]
    if isinstance(value, np.ndarray) and value.size:
        changed: Sequence[Any] = (
            *(value[: len(value) // 2], value[..., None], value.tolist(), value.ravel()),
            *(np.concatenate([value, value]), value.astype("S20")),
        )
        if value.dtype.kind == "f":
            wrong = value.copy()
            wrong.flat[rng.randrange(value.size)] = rng.choice((np.nan, np.inf, -7.0, 1e30))
            changed = (*changed, wrong)
        return rng.choice(changed)
    return rng.choice(_VALUES)
