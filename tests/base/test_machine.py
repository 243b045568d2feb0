"""Usable cores and memory, with the limits of a container."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from dhmd.base import machine


def test_the_description_has_the_host_and_its_cores() -> None:
    assert 1 <= machine.usable_cores() <= len(os.sched_getaffinity(0))
    memory = machine.installed_memory()
    assert memory is None or 1 << 26 < memory < 1 << 50
    assert machine.describe_machine().startswith(f"{platform.node()}, {os.cpu_count()} × ")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("", 8)],
)
def test_usable_cores_are_limited_by_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert machine.usable_cores() == cores


def test_installed_memory_is_limited_by_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    unlimited = machine.installed_memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.installed_memory() == unlimited
    (tmp_path / "memory.max").write_text("5000\n")
    assert machine.installed_memory() == 5000
