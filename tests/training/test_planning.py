"""The number of processes, and the size of stacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dhmd.data.aligned import read_corpus
from dhmd.training import planning
from dhmd.training.planning import activation_bytes, choose_workers, max_members, split_evenly
from tests.aligned_files import ragged, write_aligned
from tests.training.artefacts import TinyArtefacts
from tests.training.corpora import TINY, tiny_configuration, tiny_corpus, tiny_data

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def num_workers(
    tiny_artefacts: TinyArtefacts,
    *,
    workers: int | None,
    threads: int | None = 1,
    device: torch.device = CPU,
    num_members: int = 5,
    enough_work: bool = True,
) -> int:
    compute = replace(TINY.compute, workers=workers, threads=threads)
    corpus = read_corpus(tiny_artefacts.aligned())
    return choose_workers(compute, corpus, device, num_members=num_members, enough_work=enough_work)


def test_workers_are_limited_by_cores_members_and_memory(
    tiny_artefacts: TinyArtefacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "usable_cores", lambda: 8)
    monkeypatch.setattr(planning, "installed_memory", lambda: 100 << 30)
    assert num_workers(tiny_artefacts, workers=None) == 5
    assert num_workers(tiny_artefacts, workers=None, num_members=30) == 8
    assert num_workers(tiny_artefacts, workers=None, num_members=30, threads=None) == 8
    assert num_workers(tiny_artefacts, workers=None, threads=3) == 2
    assert num_workers(tiny_artefacts, workers=None, enough_work=False) == 1
    assert num_workers(tiny_artefacts, workers=None, device=GPU) == 1
    monkeypatch.setattr(planning, "installed_memory", lambda: 4 << 30)
    assert num_workers(tiny_artefacts, workers=None) == 3
    monkeypatch.setattr(planning, "installed_memory", lambda: 1 << 20)
    assert num_workers(tiny_artefacts, workers=None) == 1
    monkeypatch.setattr(planning, "installed_memory", lambda: None)
    assert num_workers(tiny_artefacts, workers=None) == 5
    # compute.workers is used, up to the number of members.
    assert num_workers(tiny_artefacts, workers=3, enough_work=False) == 3
    assert num_workers(tiny_artefacts, workers=9) == 5
    assert num_workers(tiny_artefacts, workers=1) == 1
    assert num_workers(tiny_artefacts, workers=3, device=GPU) == 1
    monkeypatch.setattr(planning, "visible_gpus", lambda: ["0", "1", "2"])  # one process per GPU
    assert num_workers(tiny_artefacts, workers=None, device=GPU) == 3
    assert num_workers(tiny_artefacts, workers=2, device=GPU) == 2
    assert num_workers(tiny_artefacts, workers=None, device=GPU, enough_work=False) == 1


def test_items_are_split_evenly_and_in_order() -> None:
    assert split_evenly([1, 2, 3, 4, 5], 2) == [[1, 2, 3], [4, 5]]
    assert split_evenly([1, 2, 3, 4, 5], 3) == [[1, 2], [3, 4], [5]]
    assert split_evenly([1, 2], 4) == [[1], [2]]
    assert split_evenly([1, 2], 1) == [[1, 2]]


def test_the_memory_of_a_small_step_is_estimated(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "c.h5")
    train = corpus.index("train")
    steps = 3 * max(corpus.features["text"].lengths[train])  # aligned: equally many of each
    model = {"width": 8, "heads": 2, "layers": 3}
    configuration = tiny_configuration({"model": model, "train": {"batch_size": 4}})
    assert activation_bytes(configuration, corpus) == 4 * 3 * (
        2 * 6 * steps**2 + 8 * 120 * steps * 3
    )
    assert max_members(configuration, corpus, CPU) == 30
    assert max_members(configuration, corpus, GPU) == 512


def test_long_sequences_train_in_smaller_stacks(tmp_path: Path) -> None:
    """With 50 words, 375 and 500 frames, the activations of a member take about 4 GB."""
    data = tiny_data(alignment="none", absent=False)
    count = len(data.ids)
    features = {
        name: ragged([np.ones((steps, 1), np.float32)] * count)
        for name, steps in (("text", 50), ("audio", 375), ("vision", 500))
    }
    names = {name: (name,) for name in features}
    write_aligned(tmp_path / "c.h5", replace(data, features=features, feature_names=names))
    corpus = read_corpus(tmp_path / "c.h5")
    model = {"width": 50, "heads": 10, "layers": 4}
    configuration = tiny_configuration({"model": model, "train": {"batch_size": 16}})
    assert 4e9 < activation_bytes(configuration, corpus) < 5e9
    assert max_members(configuration, corpus, CPU) == 1
    assert max_members(configuration, corpus, GPU) == 7
