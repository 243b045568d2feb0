"""Long sequences train in smaller stacks, by what their attention keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dhmd.data.aligned import Ragged, read_corpus, write_aligned
from dhmd.training.memory import bytes_kept, most_members
from tests.training.corpora import tiny_configuration, tiny_corpus, tiny_data


def test_by_hand(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "c.h5")
    train = corpus.index("train")
    steps = 3 * max(corpus.features["text"].lengths[train])  # aligned: equally many of each
    model = {"width": 8, "heads": 2, "layers": 3}
    configuration = tiny_configuration({"model": model, "train": {"batch_size": 4}})
    kept = bytes_kept(configuration, corpus)
    assert kept == 4 * 3 * (2 * 6 * steps**2 + 8 * 120 * steps * 3)
    assert most_members(configuration, corpus, "cpu") == 30
    assert most_members(configuration, corpus, "cuda") == 512


def test_unaligned_lengths_of_mosi(tmp_path: Path) -> None:
    """50 words, 375 and 500 frames: a member's step keeps about 4 GB."""
    data = tiny_data(alignment="none", absent=False)
    count = len(data.ids)
    features = {
        name: Ragged.from_rows([np.ones((steps, 1), np.float32)] * count)
        for name, steps in (("text", 50), ("audio", 375), ("vision", 500))
    }
    names = {name: (name,) for name in features}
    write_aligned(tmp_path / "c.h5", replace(data, features=features, feature_names=names))
    corpus = read_corpus(tmp_path / "c.h5")
    model = {"width": 50, "heads": 10, "layers": 4}
    configuration = tiny_configuration({"model": model, "train": {"batch_size": 16}})
    assert 4e9 < bytes_kept(configuration, corpus) < 5e9
    assert most_members(configuration, corpus, "cpu") == 1
    assert most_members(configuration, corpus, "cuda") == 7
