"""Trained members as files, and several such as one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dhmd.base.errors import DhmdError
from dhmd.training.parts import Part, joined


def part(names: list[str], start: int = 0) -> Part:
    numbers = np.arange(start, start + len(names), dtype=np.float32)
    return Part(
        names,
        {"layer.weight": torch.from_numpy(numbers)[:, None].expand(-1, 3)},
        {"edges/homogeneous": np.where(numbers == 1, np.nan, numbers)[:, None]},
        [
            *((name, epoch, "lr", 0.1) for epoch in (1, 2) for name in names),
            *((name, 2, "selected", 1.0) for name in names),
        ],
    )


def equal(one: Part, other: Part) -> bool:
    return (
        (one.names, one.history) == (other.names, other.history)
        and list(one.parameters) == list(other.parameters)
        and all(torch.equal(v, other.parameters[k]) for k, v in one.parameters.items())
        and all(np.array_equal(v, other.arrays[k], equal_nan=True) for k, v in one.arrays.items())
    )


def test_a_part_comes_back_from_its_file(tmp_path: Path) -> None:
    whole = part(["x/seed-1", "x/seed-2", "y/seed-1"])
    whole.history.append(("x/seed-1", 3, "valid/mae", 0.1 + 0.2))
    whole.write(tmp_path / "p.safetensors")
    assert equal(Part.read(tmp_path / "p.safetensors"), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]
    whole.history.append(("x/seed-1", 4, "valid/mae", math.nan))
    whole.write(tmp_path / "p.safetensors")
    assert math.isnan(Part.read(tmp_path / "p.safetensors").history[-1][3])


def test_parts_join_to_what_one_process_leaves() -> None:
    names = ["seed-1", "seed-2", "seed-3"]
    parts = [part(["seed-1", "seed-2"]), part(["seed-3"], 2)]
    assert equal(joined(parts, names), part(names))
    # By variants and seeds: v1 and v2 of seed 1, then of seed 2.
    names = ["v1/seed-1", "v1/seed-2", "v2/seed-1", "v2/seed-2"]
    parts = [part(["v1/seed-1", "v2/seed-1"]), part(["v1/seed-2", "v2/seed-2"], 2)]
    whole = joined(parts, names)
    assert whole.names == names
    assert whole.parameters["layer.weight"][:, 0].tolist() == [0, 2, 1, 3]
    assert [row[0] for row in whole.history] == names * 3


def test_some_members_of_a_part() -> None:
    some = part(["a", "b", "c"]).of(["c", "b"])
    assert some.names == ["c", "b"]
    assert some.parameters["layer.weight"][:, 0].tolist() == [2, 1]
    assert {row[0] for row in some.history} == {"b", "c"}


def test_a_file_that_is_gone_or_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(DhmdError, match=r"p\.safetensors, which a worker .* cannot be read"):
        Part.read(path)
    part(["a"]).write(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DhmdError, match=r"p\.safetensors, which a worker .* cannot be read"):
        Part.read(path)
