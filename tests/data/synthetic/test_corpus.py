"""The generated files: reproducible, in CMU's format, and predictive of the latent factors."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dhmd.base.files import file_sha256
from dhmd.data.csd import open_sequence
from dhmd.data.synthetic import GeneratorConfig, generate
from dhmd.data.synthetic.corpus import FOLDS, SEQUENCES
from tests.data.synthetic.trivial_baselines import Pooled, pool, ridge

PLANTED = (
    "truth",
    "reliability_text",
    "reliability_audio",
    "reliability_vision",
    "latent",
    *(f"shared_{index}" for index in range(4)),
    *(f"exclusive_{m}_{index}" for m in ("text", "audio", "vision") for index in range(2)),
)


@pytest.fixture(scope="module")
def pooled(demo_folder: Path) -> Pooled:
    return pool(demo_folder)


@pytest.fixture(scope="module")
def pooled_no_cue(no_cue_folder: Path) -> Pooled:
    return pool(no_cue_folder)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in folder.iterdir()}


def test_equal_configurations_give_equal_bytes(
    tmp_path: Path, small_config: GeneratorConfig
) -> None:
    generate(small_config, tmp_path / "a")
    np.random.seed(5)  # the global state must have no influence
    generate(small_config, tmp_path / "b")
    first = hashes(tmp_path / "a")
    assert first == hashes(tmp_path / "b")
    assert set(first) == {f"{name}.csd" for name in SEQUENCES} | {FOLDS}
    generate(replace(small_config, seed=1), tmp_path / "c")
    other = hashes(tmp_path / "c")
    assert all(first[f"{name}.csd"] != other[f"{name}.csd"] for name in SEQUENCES)


def test_regimes_differ_only_in_labels_or_frames(
    tmp_path: Path, small_config: GeneratorConfig
) -> None:
    for regime in ("noisy", "clean", "no_cue"):
        generate(replace(small_config, regime=regime), tmp_path / regime)

    def values(regime: str, name: str) -> NDArray[Any]:
        with open_sequence(tmp_path / regime / f"{name}.csd") as file:
            return np.concatenate([file.read(video).features for video in file.ids])

    for name in ("words", "vectors", "acoustic", "visual", "planted"):
        np.testing.assert_array_equal(values("noisy", name), values("clean", name))
    assert (values("noisy", "labels") != values("clean", "labels")).any()
    np.testing.assert_array_equal(values("clean", "labels")[:, 0], values("clean", "planted")[:, 0])
    for name in ("labels", "planted"):
        np.testing.assert_array_equal(values("noisy", name), values("no_cue", name))
    assert (values("noisy", "acoustic") != values("no_cue", "acoustic")).any()


def test_the_interaction_changes_text_and_audio_of_reversed_utterances(
    tmp_path: Path,
) -> None:
    config = GeneratorConfig(n_train=400, n_valid=100, n_test=100)
    generate(config, tmp_path / "plain")
    generate(replace(config, interaction=0.5), tmp_path / "mixed")
    plain, mixed = pool(tmp_path / "plain"), pool(tmp_path / "mixed")
    reversed_N = mixed.planted["reversed"] == 1
    np.testing.assert_array_equal(plain.labels_N, mixed.labels_N)
    np.testing.assert_array_equal(plain.features["vision"], mixed.features["vision"])
    for modality in ("text", "audio"):
        same = (plain.features[modality] == mixed.features[modality]).all(axis=1)
        # Audio lags behind the words: a frame at the end of a segment is the next utterance's.
        assert same[~reversed_N].mean() > {"text": 0.999, "audio": 0.7}[modality]
        assert same[reversed_N].mean() < 0.03  # the utterances without audio
    assert correlation(mixed, "audio", "reversed") > 0.3
    for modality in ("text", "vision"):
        assert abs(correlation(mixed, modality, "reversed")) < 0.25


def test_the_default_corpus_is_generated_within_three_seconds(tmp_path: Path) -> None:
    start = time.process_time()
    generate(GeneratorConfig(), tmp_path)
    assert time.process_time() - start < 3.0


def test_files_have_cmus_format(demo_folder: Path) -> None:
    folds = json.loads((demo_folder / FOLDS).read_text())
    videos = sorted(video for split in folds.values() for video in split)
    assert len(set(videos)) == len(videos)
    widths = {"words": 1, "vectors": 20, "acoustic": 36, "visual": 28, "labels": 1, "planted": 15}
    for name in SEQUENCES:
        with open_sequence(demo_folder / f"{name}.csd") as file:
            assert list(file.ids) == videos
            entry = file.read(videos[0])
            assert entry.features.shape == (len(entry.intervals), widths[name])
            if name != "words":
                assert entry.features.dtype == np.float32
                assert file.dimension_names is not None
                assert len(file.dimension_names) == widths[name]
    with open_sequence(demo_folder / "labels.csd") as labels:
        assert labels.root_name == "Opinion Segment Labels"
    with open_sequence(demo_folder / "planted.csd") as planted:
        assert planted.dimension_names == PLANTED


def test_each_word_has_one_vector(demo_folder: Path) -> None:
    seen: dict[str, NDArray[Any]] = {}
    with (
        open_sequence(demo_folder / "words.csd") as words,
        open_sequence(demo_folder / "vectors.csd") as vectors,
    ):
        for video in words.ids:
            text, vector = words.read(video), vectors.read(video)
            np.testing.assert_array_equal(text.intervals, vector.intervals)
            for word, row in zip(text.features[:, 0], vector.features, strict=True):
                np.testing.assert_array_equal(seen.setdefault(word, row), row)
    assert not seen["sp"].any()
    assert seen["not"].any()


def test_splits_share_no_video_and_have_their_sizes(pooled: Pooled) -> None:
    names, counts = np.unique(pooled.split_N, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "train": 600,
        "valid": 200,
        "test": 320,
    }


def correlation(pooled: Pooled, modality: str, name: str) -> float:
    """Return the test correlation of a latent factor with its ridge regression."""
    target = pooled.planted[name]
    prediction = ridge(pooled.features[modality], target, pooled.split_N)
    test = pooled.split_N == "test"
    return float(np.corrcoef(prediction[test], target[test])[0, 1])


@pytest.mark.parametrize("modality", ["text", "audio", "vision"])
def test_each_modality_shows_the_shared_and_its_exclusive_latents(
    pooled: Pooled, modality: str
) -> None:
    assert correlation(pooled, modality, "shared_0") > 0.25
    assert min(correlation(pooled, modality, f"shared_{index}") for index in (1, 2, 3)) > 0.5
    assert correlation(pooled, modality, f"exclusive_{modality}_0") > 0.25
    for other in {"text", "audio", "vision"} - {modality}:
        assert abs(correlation(pooled, modality, f"exclusive_{other}_0")) < 0.2


def test_text_shows_the_tone_best(pooled: Pooled) -> None:
    text = correlation(pooled, "text", "shared_0")
    assert text > 0.1 + max(correlation(pooled, m, "shared_0") for m in ("audio", "vision"))


def test_features_reveal_the_reliability_except_in_no_cue(
    pooled: Pooled, pooled_no_cue: Pooled
) -> None:
    for modality in ("audio", "vision"):
        assert correlation(pooled, modality, f"reliability_{modality}") > 0.6
    assert correlation(pooled, "text", "reliability_text") > 0.2
    for modality in ("text", "audio", "vision"):
        assert abs(correlation(pooled_no_cue, modality, f"reliability_{modality}")) < 0.2
