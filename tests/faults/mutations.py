"""Random, reproducible damage to files."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutate = Callable[[Path, random.Random], None]


def bytes_changed(path: Path, rng: random.Random) -> None:
    """Damage bytes as disks and networks do."""
    data = bytearray(path.read_bytes())
    size = len(data)
    place = rng.randrange(size)
    kind = rng.randrange(7)
    if kind == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        length = rng.randrange(1, 64)
        data[place : place + length] = rng.randbytes(length)
    elif kind == 3:
        length = min(512, size - place)
        data[place : place + length] = bytes(length)
    elif kind == 4:
        del data[place : place + rng.randrange(1, 64)]
    elif kind == 5:
        data[place:place] = rng.randbytes(rng.randrange(1, 64))
    else:
        # Sizes, offsets and counts are where parsers break.
        value = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        length = rng.choice((1, 2, 4, 8))
        data[place : place + length] = bytes([value]) * length
    path.write_bytes(bytes(data))


_WORDS = (
    *(
        "null",
        "~",
        "true",
        "-1",
        "0",
        "1e999",
        ".nan",
        "-.inf",
        "1e-5",
        "9" * 400,
        "0x7fffffffffff",
    ),
    *("''", "'text'", "[]", "{}", "[1, 2", "{a: 1", "&a [*a]", "*a", "|", ">", "- x", "? y", "#"),
    *("!!python/object/apply:os.abort []", "!!binary aGk=", "2001-01-01", "<<: {a: 1}", "a: b: c"),
    *("\x00", "\t", "\u00e9\u4e2d\U0001f600", "%TAG ! x", "---", "...", "\ufeff", "\ud7ff"),
    *("../../etc/passwd", "/etc/passwd", "http://user:secret@host/", "file:///etc/passwd"),
    *("yes", "1_000", "12:30:45", "1,5", "[" * 2000, "{a: " * 300),
)


def yaml_changed(path: Path, rng: random.Random) -> None:
    """Make one mistake of a person with an editor, or of an attacker."""
    lines = path.read_text(encoding="utf-8").splitlines()
    place = rng.randrange(len(lines))
    while not lines[place].strip() or lines[place].lstrip().startswith("#"):
        place = rng.randrange(len(lines))
    line = lines[place]
    key, colon, _ = line.partition(":")
    kind = rng.randrange(9)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(place, line)
    elif kind == 2:
        lines[place] = f"{key}{colon} {rng.choice(_WORDS)}"
    elif kind == 3:
        lines[place] = " " * rng.randrange(9) + line.lstrip()
    elif kind == 4:
        lines.insert(place, " " * rng.randrange(9) + rng.choice(_WORDS))
    elif kind == 5:
        other = rng.randrange(len(lines))
        lines[place], lines[other] = lines[other], line
    elif kind == 6:
        letter = rng.randrange(len(line))
        lines[place] = (
            line[:letter] + rng.choice("xX:-#'\"[{&*!|>%@`,\t\u00df") + line[letter + 1 :]
        )
    elif kind == 7:
        lines[place] = f"{key}x{colon} 1"
    else:
        del lines[place:]
    path.write_bytes("\n".join(lines).encode("utf-8", errors="surrogatepass") + b"\n")


def _datasets(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return found


def hdf5_changed(path: Path, rng: random.Random) -> None:
    """Change a dataset or an attribute so that the HDF5 file is valid, and its format is not."""
    with h5py.File(path, "a") as file:
        name = rng.choice(_datasets(file))
        old = file[name]
        shape, dtype = old.shape, old.dtype
        value = old[()]
        attributes = dict(file.attrs)
        kind = rng.randrange(14)
        if kind < 12:
            del file[name]
        if kind == 0:
            return
        if kind == 1:
            file.create_group(name)
        elif kind == 2:
            file[name] = np.zeros((*shape, 2), dtype="f4")
        elif kind == 3:
            file[name] = np.zeros((0,), dtype="f4")
        elif kind == 4:
            file[name] = rng.choice((3, 2.5, "text", float("nan")))
        elif kind == 5 and dtype.kind in "fiu":
            changed = np.array(value, dtype="f8")
            changed[rng.randrange(len(changed)) if shape else ()] = rng.choice(
                (np.nan, np.inf, -np.inf, -1.0, 1e300, 1e-300, -(2.0**62))
            )
            file[name] = changed.astype(dtype) if rng.random() < 0.5 else changed
        elif kind == 6:
            file.create_dataset(name, (1 << 40, *shape[1:]), dtype="f8", chunks=True)
        elif kind == 7:
            file[name] = h5py.ExternalLink("/etc/hostname", "/data")
        elif kind == 8:
            file[name] = h5py.SoftLink(f"/{name}")
        elif kind == 9:
            file[name] = np.array([(1, 2.0)] * max(1, len(shape)), dtype=[("a", "i4"), ("b", "f8")])
        elif kind == 10 and shape:
            file[name] = value[: len(value) // 2]
        elif kind == 11 and shape:
            file[name] = np.concatenate([value, value])
        elif kind == 12 and attributes:
            key = rng.choice(sorted(attributes))
            if rng.random() < 0.3:
                del file.attrs[key]
            else:
                file.attrs[key] = rng.choice(_ATTRIBUTES)
        elif kind == 13:
            parent = file[name].parent
            parent.move(
                name.rpartition("/")[2], rng.choice(("x", "[", "x[0]", "\u00e9", "a" * 300))
            )


def arrays_changed(path: Path, rng: random.Random) -> None:
    """Remove, reshape or replace one array of an .npz."""
    with np.load(path, allow_pickle=False) as archive:
        content: Any = {name: archive[name] for name in archive.files}
    while not isinstance(content := changed_value(content, rng), dict):
        content = {}
    arrays = {}
    for name, value in content.items():
        try:
            arrays[name] = np.asarray(value)
        except ValueError:  # ragged
            arrays[name] = np.array("ragged", dtype=object)
    rng.choice((np.savez, np.savez_compressed))(path, **arrays)


_ATTRIBUTES: Sequence[Any] = (-1, 3.5, "text", "[]", "{", '["a"]', "null", np.zeros(3))


def mixture(*ways: Mutate) -> Mutate:
    """Damage each file in one of several ways, chosen at random."""

    def mutate(path: Path, rng: random.Random) -> None:
        rng.choice(ways)(path, rng)

    return mutate


def changed_value(value: Any, rng: random.Random) -> Any:
    """Return a nested value of containers and arrays with one random change."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice(list(value))
        kind = rng.randrange(8)
        if kind == 0:
            return {k: v for k, v in value.items() if k is not key}
        if kind == 1:
            return {(f"{k}x" if k is key else k): v for k, v in value.items()}
        return {k: (changed_value(v, rng) if k is key else v) for k, v in value.items()}
    if isinstance(value, np.ndarray) and value.size and rng.random() < 0.9:
        return _changed_array(value, rng)
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], changed_value(value[place], rng), *value[place + 1 :]]
    return rng.choice(_ODD)


def _changed_array(value: np.ndarray[Any, Any], rng: random.Random) -> Any:
    kind = rng.randrange(8)
    if kind == 0:
        return value[: len(value) // 2]
    if kind == 1:
        return value[..., None]
    if kind == 2:
        return value.tolist()
    if kind == 3:
        return value.astype("S20" if value.dtype.kind in "US" else rng.choice(("i1", "f2", "U9")))
    if kind == 4:
        return value.ravel()
    if kind == 5:
        return np.concatenate([value, value])
    if value.dtype.kind == "f":
        changed = value.copy()
        changed.reshape(-1)[rng.randrange(value.size)] = rng.choice((np.nan, np.inf, -7.0, 1e30))
        return changed
    return rng.choice(_ODD)


_ODD: Sequence[Any] = (
    *(None, True, 0, -1, 10**30, 0.5, float("nan"), np.float32(3)),
    *("text", b"bytes", "", (), [], {}, {1, 2}, [[1], [2, 3]], [None] * 3, {"a": {"b": {}}}),
    *(np.zeros(0), np.zeros((2, 0, 3)), np.array("x"), np.array(["a", 1.5, "c"], dtype=object)),
    *(np.zeros(3, dtype=bool), np.arange(3, dtype=">i4")),
)
