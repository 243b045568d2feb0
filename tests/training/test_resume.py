"""The place of an interrupted job: kept, locked, and gone when it is done."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from dhmd.base.files import try_lock
from dhmd.training.resume import ResumeState, environment_key, resume_state

KEY = {"stage": "train", "seed": 1}


def interrupted(folder: Path) -> None:
    """A job that saves its second epoch and dies."""
    with resume_state(folder, "train-tiny", KEY) as place:
        place.save("a", {"x": torch.zeros(1)}, {"epoch": 2})
        raise KeyboardInterrupt


def test_a_saved_place_comes_back(tmp_path: Path) -> None:
    place = ResumeState(tmp_path)
    assert place.load("a") is None
    assert place.epochs() == 0
    tensors = {"x": torch.randn(3), "steps": torch.tensor(4.0), "t": torch.randn(4, 2).T}
    place.save("a", tensors, {"epoch": 3, "best": [float("inf"), 0.1], "stopped": [None, True]})
    loaded = place.load("a")
    assert loaded is not None
    found, notes = loaded
    assert all(found[name].equal(value) for name, value in tensors.items())
    assert notes == {"epoch": 3, "best": [float("inf"), 0.1], "stopped": [None, True]}
    place.save("b", {"x": torch.zeros(1)}, {"epoch": 1})
    os.utime(tmp_path / "a.safetensors", ns=(1, 1))
    assert place.epochs() == 1
    place.save("a", tensors, {"epoch": 9})
    os.utime(tmp_path / "b.safetensors", ns=(1, 1))
    assert place.epochs() == 9


def test_a_damaged_place_counts_as_none(tmp_path: Path) -> None:
    place = ResumeState(tmp_path)
    place.save("a", {"x": torch.randn(50)}, {"epoch": 3})
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert place.load("a") is None
    path.write_bytes(b"")
    assert place.load("a") is None
    (tmp_path / ".partial-b.safetensors").write_bytes(b"cut off")
    assert place.epochs() == 0


def test_the_place_is_removed_on_success_and_kept_on_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    with resume_state(tmp_path, "train-tiny", KEY) as place:
        assert place.epochs() == 2
    assert list(tmp_path.iterdir()) == []


def test_another_key_is_another_place(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    with resume_state(tmp_path, "train-tiny", {**KEY, "seed": 2}) as place:
        assert place.epochs() == 0
    assert len(list(tmp_path.glob("train-tiny-*/a.safetensors"))) == 1


def _hold(folder: Path, ready: Event, done: Event) -> None:
    with resume_state(folder, "train-tiny", KEY):
        ready.set()
        done.wait(60)


def test_the_very_same_job_at_once_has_a_place_of_its_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with resume_state(tmp_path, "train-tiny", KEY) as second:
            second.save("a", {"x": torch.zeros(1)}, {"epoch": 4})
            with resume_state(tmp_path, "train-tiny", KEY) as third:
                assert third.epochs() == 0
                names = [place.folder.name.partition(".")[2] for place in (second, third)]
                assert names == ["2", "3"]
    finally:
        done.set()
        other.join()
    assert other.exitcode == 0
    assert list(tmp_path.iterdir()) == []


def test_the_saved_place_is_taken_before_an_empty_one(tmp_path: Path) -> None:
    with resume_state(tmp_path, "train-tiny", KEY), pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    assert [folder.suffix for folder in tmp_path.iterdir()] == [".2"]
    with resume_state(tmp_path, "train-tiny", KEY) as place:
        assert place.epochs() == 2
    assert not list(tmp_path.glob("*.2"))


def test_nobody_is_beside_whoever_found_the_place_just_before_it_was_removed(
    tmp_path: Path,
) -> None:
    with resume_state(tmp_path, "train-tiny", KEY) as first:
        descriptor = os.open(first.folder, os.O_RDONLY)  # a second process is about to lock it
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with resume_state(tmp_path, "train-tiny", KEY) as third:
        assert not os.path.samestat(os.fstat(descriptor), third.folder.stat())
        assert try_lock(third.folder / ".lock") is None
    os.close(descriptor)


def abandoned(folder: Path, seed: int, when: float) -> None:
    with resume_state(folder, "train-tiny", {"seed": seed}) as place:
        place.save("a", {"x": torch.zeros(1)}, {"epoch": seed})
        for path in (place.folder / "a.safetensors", place.folder):
            os.utime(path, (when, when))
        raise KeyboardInterrupt


def test_abandoned_places_go(tmp_path: Path) -> None:
    for seed in range(12):
        with pytest.raises(KeyboardInterrupt):
            abandoned(tmp_path, seed, 1_000_000_000 if seed == 11 else time.time() - 1000 + seed)
    (tmp_path / "my notes").mkdir()
    old = tmp_path / "ablate-other-0123456789abcdef"
    young = tmp_path / "ablate-other-0123456789abcde0"
    held = tmp_path / "ablate-other-0123456789abcde1"
    for folder in (old, young, held):
        folder.mkdir()
    for folder in (old, held):
        os.utime(folder, (1, 1))
    lock = try_lock(held / ".lock")
    assert lock is not None
    with resume_state(tmp_path, "train-tiny", KEY):
        pass
    lock.release()
    left = {path.name for path in tmp_path.iterdir()}
    assert {"my notes", young.name, held.name} < left
    assert old.name not in left
    seeds = sorted(
        int(saved[1]["epoch"])
        for path in tmp_path.glob("train-tiny-*")
        if (saved := ResumeState(path).load("a"))
    )
    assert seeds == list(range(3, 11))


def test_the_environment_names_what_decides_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment_key(torch.device("cpu"))
    assert before == environment_key(torch.device("cpu"))
    assert before["torch"] == torch.__version__
    assert before["threads"] == 1
    assert environment_key(torch.device("cuda"))["device"] == "cuda"
    torch.set_num_threads(2)
    assert environment_key(torch.device("cpu")) != before
    torch.set_num_threads(1)
    monkeypatch.setattr("dhmd.training.resume.file_sha256", lambda _: "changed")
    assert environment_key(torch.device("cpu"))["code"] != before["code"]
