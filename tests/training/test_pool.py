"""Jobs whose members train in processes of their own."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.training.config import TrainConfig
from dhmd.training.configuration import Configuration, overlay
from tests.training.bench import Bench, ablate, arrays, copied, files, pretrain, train
from tests.training.corpora import TINY, tiny_configuration
from tests.training.learners import Watcher

ROOT = Path(__file__).parents[2]
TWO: Configuration = tiny_configuration({"train": {"workers": 2}})
WORKER = b"dhmd.training.worker"


def children(of: int | None = None) -> list[int]:
    """Workers that live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if WORKER in words and words[-2] == str(of or os.getpid()).encode():
            found.append(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert children() == []


@pytest.fixture(scope="module")
def shared(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Watcher]:
    """A training by two workers that nothing happened to."""
    folder, watcher = tmp_path_factory.mktemp("shared"), Watcher()
    train(TWO, bench.cache(), bench.pretrained(), folder / "m", folder / "s", watcher)
    assert list((folder / "s").iterdir()) == []
    return folder / "m", watcher


def check_close(one: Path, other: Path, tolerance: float = 1e-3) -> None:
    """The same files with the same content, up to rounding."""
    assert files(one).keys() == files(other).keys()
    found, expected = arrays(one), arrays(other)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if name != "attributes" and value.dtype.kind == "f":
            assert value == pytest.approx(expected[name], abs=tolerance, nan_ok=True), name
    rows, wanted = (
        [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
        for folder in (one, other)
    )
    assert [row[:3] for row in rows] == [row[:3] for row in wanted]
    numbers = [np.array([float(row[3]) for row in each[1:]]) for each in (rows, wanted)]
    assert numbers[0] == pytest.approx(numbers[1], abs=tolerance)


def test_two_workers_train_what_one_process_does(
    bench: Bench, shared: tuple[Path, Watcher]
) -> None:
    folder, watcher = shared
    check_close(folder, bench.trained())
    assert watcher.begun == [("train", ("seed-1", "seed-2"), 0)]
    assert watcher.outputs == [folder]
    assert [(e, list(rows)) for e, rows in watcher.epochs] == [
        (epoch, ["seed-1", "seed-2"]) for epoch in (1, 2, 3)
    ]
    assert {"train/total", "valid/mae", "lr"} <= set(watcher.epochs[0][1]["seed-2"])


def test_two_workers_pretrain_what_one_process_does(bench: Bench, tmp_path: Path) -> None:
    watcher = Watcher()
    pretrain(TWO, bench.cache(), tmp_path / "p", tmp_path / "s", watcher)
    check_close(tmp_path / "p", bench.pretrained())
    text = [(e, list(rows)) for e, rows in watcher.epochs if "text/seed-1" in rows]
    assert text == [(epoch, ["text/seed-1", "text/seed-2"]) for epoch in (1, 2)]
    assert len(watcher.epochs) == 6


def test_workers_train_variants_of_several_shapes(bench: Bench, tmp_path: Path) -> None:
    variants: dict[str, Configuration] = {
        "half": tiny_configuration({"kd": {"lambda": 0.5}}),
        "gru": replace(TINY, architecture="gru"),
        "none": tiny_configuration({"kd": {"lambda": 0.0}}),
    }
    ablate(variants, bench.cache(), bench.pretrained(), tmp_path / "one", tmp_path / "s")
    three = {key: overlay(each, {"train": {"workers": 3}}) for key, each in variants.items()}
    watcher = Watcher()
    ablate(three, bench.cache(), bench.pretrained(), tmp_path / "three", tmp_path / "s", watcher)
    for name in variants:
        check_close(tmp_path / "three" / name, tmp_path / "one" / name)
    stacks = [list(rows) for epoch, rows in watcher.epochs if epoch == 3]
    assert sorted(stacks) == [
        ["gru/seed-1", "gru/seed-2"],
        [f"{name}/seed-{seed}" for name in ("half", "none") for seed in (1, 2)],
    ]


# ---- ends that nobody wanted ---------------------------------------------------------------------


class Striking(Watcher):
    """Does something once an epoch is done."""

    def __init__(self, strike: Callable[[], None]) -> None:
        super().__init__()
        self._strike = strike

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        super().epoch(epoch, rows)
        if epoch == 1:
            self._strike()


# Long enough for something to happen after the first epoch.
LONGER = overlay(TWO, {"train": {"epochs": 15, "early_stop": 15}})


@pytest.fixture(scope="module")
def undisturbed(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(LONGER, bench.cache(), bench.pretrained(), folder / "m", folder / "s")
    return folder / "m"


def test_a_worker_that_is_killed_is_named_and_the_rest_goes_on(
    bench: Bench, tmp_path: Path, undisturbed: Path
) -> None:
    def strike() -> None:
        os.kill(children()[0], signal.SIGKILL)

    arguments = (LONGER, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")
    with pytest.raises(DhmdError, match="a worker of this training was ended by SIGKILL, as the"):
        train(*arguments, Striking(strike))
    assert not (tmp_path / "m").exists()
    assert children() == []
    again = Watcher()
    train(*arguments, again)
    assert again.begun[0][2] > 0
    assert files(tmp_path / "m") == files(undisturbed)


def test_an_interrupted_training_leaves_no_worker_and_goes_on(
    bench: Bench, tmp_path: Path, shared: tuple[Path, Watcher]
) -> None:
    arguments = (TWO, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, Watcher(stop_after=1))
    assert children() == []
    assert not (tmp_path / "m").exists()
    (place,) = (tmp_path / "s").iterdir()
    assert not (place / "workers").exists()
    again = Watcher()
    train(*arguments, again)
    assert again.begun[0][2] >= 1
    assert files(tmp_path / "m") == files(shared[0])
    assert list((tmp_path / "s").iterdir()) == []


_CALLER = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from dhmd.training.configuration import Configuration
from dhmd.training.jobs import train_job
from dhmd.training.observer import LogObserver
import json
here = Path({folder!r})
configuration = Configuration.from_json(json.loads((here / "c.json").read_text()), "c.json")
train_job(
    configuration, Path({cache!r}), Path({pretrained!r}), here / "m", fold=None,
    observer=LogObserver(), state=here / "s",
)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal on a parent's death")
def test_workers_end_with_a_killed_parent_and_the_training_goes_on(
    bench: Bench, tmp_path: Path, undisturbed: Path
) -> None:
    """The caller is a script without `if __name__ == "__main__"`, in another folder."""
    (tmp_path / "c.json").write_text(json.dumps(LONGER.as_json()))
    script = tmp_path / "script.py"
    script.write_text(
        _CALLER.format(
            root=str(ROOT),
            folder=str(tmp_path),
            cache=str(bench.cache()),
            pretrained=str(bench.pretrained()),
        )
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as caller:
        assert caller.stderr is not None
        for line in caller.stderr:
            if "epoch   2" in line:
                break
        assert len(children(caller.pid)) == 2
        caller.kill()
    deadline = time.monotonic() + 20
    while children(caller.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not (tmp_path / "m").exists()
    again = Watcher()
    train(LONGER, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s", again)
    assert again.begun[0][2] >= 2
    assert files(tmp_path / "m") == files(undisturbed)


# ---- errors --------------------------------------------------------------------------------------


def test_what_a_worker_refuses_is_said_in_its_words(bench: Bench, tmp_path: Path) -> None:
    configuration = overlay(TWO, {"train": {"seeds": (1, 7)}})
    with pytest.raises(DhmdError, match="was pretrained on other data or seeds: run pretrain"):
        train(configuration, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")
    assert not (tmp_path / "m").exists()


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """As on a full disk, here and in children."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_in_a_worker_is_one_sentence(bench: Bench, tmp_path: Path) -> None:
    folder = copied(bench.pretrained(), tmp_path / "p")
    with (
        no_file_above(20_000),
        pytest.raises(DhmdError, match=r"^cannot write .*\.safetensors: .*File too large"),
    ):
        train(TWO, bench.cache(), folder, tmp_path / "m", tmp_path / "s")
    assert not (tmp_path / "m").exists()


def test_a_defect_shows_the_workers_traceback(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhmd.training.tasks.Task.as_json", lambda _: {})
    with pytest.raises(RuntimeError, match=r"(?s)a worker of this training failed:.*KeyError"):
        train(TWO, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")


def test_a_worker_that_cannot_begin_is_quoted(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(DhmdError, match="a worker of this training ended with status 1"):
        train(TWO, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")


def test_a_diverged_seed_is_told_by_the_caller(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild: TrainConfig = replace(TWO.train, lr=1e30, epochs=2)
    with caplog.at_level(logging.WARNING, logger="dhmd"):
        train(replace(TWO, train=wild), bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path)
    told = sorted(record.getMessage().split(" at ")[0] for record in caplog.records)
    assert [line.split()[0] for line in told] == ["seed-1", "seed-2"]
    assert all("diverged in epoch" in line for line in told)
