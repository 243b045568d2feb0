"""Which videos there are, in which split, with how many utterances."""

from __future__ import annotations

from dataclasses import dataclass

from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.streams import stream

SPLITS = ("train", "valid", "test")
# Two ids of MOSEI, one the prefix of the other. They sit in different splits, so that a reader
# that matches ids by prefix leaks.
PREFIX_IDS = {"train": "25522", "test": "255224"}


@dataclass(frozen=True, kw_only=True)
class Video:
    """One video. `index` names its random streams; `first` is its first row in the plan."""

    id: str
    index: int
    split: str
    first: int
    segments: int


def lay_out(config: GeneratorConfig) -> tuple[Video, ...]:
    """All videos, split by split; rows of the plan follow the same order."""
    counts = [
        (split, count)
        for split, total in zip(
            SPLITS, (config.n_train, config.n_valid, config.n_test), strict=True
        )
        for count in _segment_counts(config, split, total)
    ]
    # Numbers are shuffled over the splits: an id's order must say nothing about its split.
    numbers = stream(config.seed, "ids").permutation(len(counts))
    digits = max(4, len(str(len(counts))))
    videos: list[Video] = []
    prefixes = dict(PREFIX_IDS)
    row = 0
    for index, (split, count) in enumerate(counts):
        name = prefixes.pop(split, f"generated{numbers[index]:0{digits}d}")
        videos.append(Video(id=name, index=index, split=split, first=row, segments=count))
        row += count
    return tuple(videos)


def _segment_counts(config: GeneratorConfig, split: str, total: int) -> list[int]:
    """Counts within the bounds that add up to `total` (only the last video may have fewer)."""
    rng = stream(config.seed, "segments", split)
    counts: list[int] = []
    left = total
    while left > config.segments_max:
        count = int(rng.integers(config.segments_min, config.segments_max + 1))
        # Leave enough for one more video, where the bounds allow it.
        if left - count < config.segments_min:
            count = max(config.segments_min, left - config.segments_min)
        counts.append(min(count, left))
        left -= counts[-1]
    return [*counts, left] if left else counts
