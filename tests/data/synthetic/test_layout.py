from __future__ import annotations

from itertools import pairwise

import pytest

from dhmd.data.synthetic import GeneratorConfig
from dhmd.data.synthetic.layout import lay_out


@pytest.mark.parametrize(
    ("n_train", "n_valid", "n_test"), [(600, 200, 320), (1, 2, 4), (10, 11, 12), (100, 9, 10)]
)
def test_each_split_has_the_utterances_asked_for(n_train: int, n_valid: int, n_test: int) -> None:
    videos = lay_out(GeneratorConfig(n_train=n_train, n_valid=n_valid, n_test=n_test))
    for split, total in (("train", n_train), ("valid", n_valid), ("test", n_test)):
        counts = [video.segments for video in videos if video.split == split]
        assert sum(counts) == total
        assert max(counts) <= 9
        assert total < 3 or min(counts) >= 3
    assert all(b.first == a.first + a.segments for a, b in pairwise(videos))


def test_ids_are_unique_and_two_of_different_splits_prefix_each_other() -> None:
    videos = lay_out(GeneratorConfig())
    splits = {video.id: video.split for video in videos}
    assert len(splits) == len(videos)
    assert (splits["25522"], splits["255224"]) == ("train", "test")


def test_a_fixed_count_of_segments_is_kept() -> None:
    videos = lay_out(GeneratorConfig(segments_min=5, segments_max=5, n_train=50))
    assert {video.segments for video in videos if video.split == "train"} == {5}
