"""Our alignment equals that of the CMU-MultimodalSDK, with its tolerance of 1e-3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.align import align_once
from benchmarks.corpora import Size, write_corpus
from benchmarks.sdk_oracle import Agreement, compare, sdk_align, sdk_available
from dhmd.data.aligned import read_corpus
from dhmd.recipes import Recipe, load_recipe

REAL = Path(__file__).parents[3] / "shared" / "real" / "mosi"

needs_sdk = pytest.mark.skipif(
    not sdk_available(), reason="cmu-multimodal-sdk 0.0.6 is not installed"
)


def agreement(paths: Mapping[str, Path], recipe: Recipe, folds: Path, tmp_path: Path) -> Agreement:
    """Align with both and compare all segments, words and values."""
    assert recipe.reference is not None
    assert recipe.labels.sequence is not None
    output = tmp_path / "aligned.h5"
    align_once(paths, recipe, folds, output)
    corpus = read_corpus(output, test_labels=True)
    oracle = sdk_align(paths, reference=recipe.reference, labels=recipe.labels.sequence)
    return compare(corpus, recipe, oracle)


@needs_sdk
@pytest.mark.parametrize("seed", range(2))
def test_generated_files_are_aligned_like_the_sdk(tmp_path: Path, seed: int) -> None:
    size = Size(
        num_videos=11,  # video1 is a prefix of video10
        seconds=12.0,
        text_width=3,
        audio_width=4,
        audio_rate=20.0,
        vision_width=2,
        vision_rate=7.0,
        segment_seconds=2.5,
    )
    corpus = write_corpus(tmp_path, size, seed=seed)
    result = agreement(corpus.paths, corpus.recipe, corpus.folds, tmp_path)
    assert result.num_segments == 44
    assert result.largest <= 1e-6
    assert result.border_rows < result.num_rows / 100


@needs_sdk
@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(1800)  # the SDK alone takes a minute, and several on a busy machine
@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not in ../shared/real")
def test_the_real_files_of_mosi_are_aligned_like_the_sdk(tmp_path: Path) -> None:
    """Compare 2,198 of 2,199 segments (one has no length); the SDK takes a minute."""
    recipe = load_recipe("mosi_real", Path(__file__).parents[3])
    paths = {name: REAL / file.path for name, file in recipe.required_sequences.items()}
    result = agreement(paths, recipe, REAL / "folds.json", tmp_path)
    assert result.num_segments == 2198
    assert result.largest <= 1e-6
    assert result.border_rows == 0
