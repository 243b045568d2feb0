"""What an alignment may not depend on, over random videos."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dhmd.data.aligned import Corpus
from tests.data.alignment.files import Entries, align, hand_entries

MODALITIES = {"text": "vectors", "audio": "acoustic", "vision": "visual"}


def random_entries(seed: int) -> Entries:
    """Video v by chance, on a grid of eighths of a second; the others as they are."""
    rng = np.random.default_rng(seed)
    entries = hand_entries()
    edges = np.cumsum(rng.integers(1, 8, 9)) / 8
    times = np.stack([edges[:-1], edges[1:]], axis=1)
    entries["words"]["v"] = ([[f"word{k}"] for k in range(8)], times)
    entries["vectors"]["v"] = (rng.integers(-9, 9, (8, 1)).astype(float), times)
    for name, width in (("acoustic", 2), ("visual", 1)):
        start = rng.integers(0, int(edges[-1] * 8), 12) / 8
        rows = np.stack([start, start + rng.integers(1, 9, 12) / 8], axis=1)
        entries[name]["v"] = (rng.integers(-9, 9, (12, width)).astype(float), rows)
    segments = np.array([[edges[0], edges[3]], [edges[2], edges[6]], [edges[6], edges[8]]])
    entries["labels"]["v"] = (np.array([[1.0], [-1.0], [0.5]]), segments)
    return entries


def aligned(entries: Entries, **options: Any) -> Corpus:
    with tempfile.TemporaryDirectory() as folder:
        return align(Path(folder), entries, **options)[0]


def same(one: Corpus, other: Corpus, modalities: tuple[str, ...]) -> None:
    assert one.ids == other.ids
    assert one.words == other.words
    for name in modalities:
        np.testing.assert_array_equal(one.features[name].offsets, other.features[name].offsets)
        np.testing.assert_allclose(
            one.features[name].values, other.features[name].values, rtol=1e-6, atol=1e-6
        )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(MODALITIES)))
def test_dropping_a_modality_changes_no_other(seed: int, dropped: str) -> None:
    entries = random_entries(seed)
    left = {name: sequence for name, sequence in MODALITIES.items() if name != dropped}
    whole, less = aligned(entries), aligned(entries, recipe={"modalities": left})
    assert less.modalities == tuple(left)
    same(less, whole, less.modalities)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 1000))
def test_the_order_of_rows_and_the_beginning_of_time_do_not_matter(seed: int, shift: int) -> None:
    entries, moved = random_entries(seed), random_entries(seed)
    rng = np.random.default_rng(seed)
    for name, videos in moved.items():
        rows, times = videos["v"]
        # The labels' order is their name: `v[0]`, `v[1]`, ….
        order = np.arange(len(times)) if name == "labels" else rng.permutation(len(times))
        videos["v"] = (np.asarray(rows)[order], np.asarray(times)[order] + shift)
    same(aligned(moved), aligned(entries), tuple(MODALITIES))
