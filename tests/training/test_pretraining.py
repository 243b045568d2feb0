"""The folds of pretraining."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.training.pretraining import video_folds
from tests.training.corpora import tiny_corpus


def corpus_of(sizes: dict[str, int]) -> Any:
    """Build a corpus with train videos of the given sizes and videos of other splits."""
    videos = [name for name, size in sizes.items() for _ in range(size)] + ["valid1", "test1"]
    rows = np.arange(len(videos) - 2)
    return SimpleNamespace(
        name="some",
        videos=videos,
        ids=[f"{v}[{i}]" for i, v in enumerate(videos)],
        index=lambda split: {"train": rows}[split],
    )


def test_a_video_is_in_one_fold_and_the_folds_are_about_equal() -> None:
    rng = np.random.default_rng(0)
    corpus = corpus_of({f"v{k}": int(rng.integers(1, 12)) for k in range(40)})
    folds = video_folds(corpus, 5)
    train = corpus.index("train")
    assert (folds[len(train) :] == -1).all()
    assert set(folds[train]) == set(range(5))
    of_video: dict[str, set[int]] = {}
    for row in train:
        of_video.setdefault(corpus.videos[row], set()).add(int(folds[row]))
    assert all(len(each) == 1 for each in of_video.values())
    sizes = np.bincount(folds[train])
    assert sizes.max() - sizes.min() <= 2


def test_the_order_of_rows_does_not_matter() -> None:
    sizes = {"a": 3, "b": 5, "c": 1, "d": 5, "e": 2}
    one, other = corpus_of(sizes), corpus_of(dict(reversed(sizes.items())))

    def by_video(corpus: Any) -> dict[str, int]:
        folds = video_folds(corpus, 2)
        return {corpus.videos[row]: int(folds[row]) for row in corpus.index("train")}

    assert by_video(one) == by_video(other)


def test_too_few_videos_are_refused_by_name(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "c.h5")
    assert set(video_folds(corpus, 6)[corpus.index("train")]) == set(range(6))
    with pytest.raises(DhmdError, match=r"tiny has 6 train videos.*pretrain.folds = 7"):
        video_folds(corpus, 7)
