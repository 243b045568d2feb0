"""outputs.h5: statistics of dictionaries, missing modalities, stable bytes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dhmd.data.aligned import Corpus, read_corpus
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.outputs import (
    DROP_RATES,
    _drop_masks,
    _with_noise,
    collect_details,
    dictionary_statistics,
    missing_modality_predictions,
    write_outputs,
)
from dhmd.training.trainer import evaluation
from dhmd.training.weights import load_model
from tests.training.artefacts import TinyArtefacts, read_outputs

CPU = torch.device("cpu")
Loaded = tuple[Learner, Members, Corpus, DeviceCorpus]


@pytest.fixture
def loaded(tiny_artefacts: TinyArtefacts) -> Loaded:
    """Return a trained model and its corpus."""
    model, members, description = load_model(tiny_artefacts.model(), CPU)
    corpus = read_corpus(tiny_artefacts.aligned())
    return model, members, corpus, DeviceCorpus.of(corpus, description.inputs, CPU)


def random_codes(num_modalities: int = 3) -> np.ndarray:
    """Return sparse activations with absent modalities (zeros) and a code that is never active."""
    rng = np.random.default_rng(0)
    raw = rng.random((12, num_modalities, 7)) * (rng.random((12, num_modalities, 7)) > 0.6)
    raw[..., 0] += 0.01
    raw[..., -1] = 0
    raw /= raw.sum(-1, keepdims=True)
    raw[rng.random((12, num_modalities)) < 0.25] = 0
    return raw.astype(np.float32)


def test_dictionary_statistics_equal_loops() -> None:
    codes = random_codes()
    statistics = dictionary_statistics(codes)
    count, modalities, size = codes.shape
    present = [(n, m) for n in range(count) for m in range(modalities) if codes[n, m].sum() > 0]
    active = np.mean([(codes[n, m] > 0).sum() for n, m in present])
    mean = np.mean([codes[n, m] for n, m in present], axis=0)
    used = sum(1 for k in range(size) if mean[k] > 0)
    entropy = -sum(p * math.log(p) for p in mean / mean.sum() if p > 0)
    same, different = [], []
    for m in range(modalities):
        for k in range(m + 1, modalities):
            for n in range(count):
                for overlaps, other in ((same, n), (different, n - 1)):
                    if (n, m) in present and (other % count, k) in present:
                        overlaps.append(np.minimum(codes[n, m], codes[other, k]).sum())
    assert statistics == {
        "active": pytest.approx(active),
        "used": used,
        "dead": size - used,
        "perplexity": pytest.approx(math.exp(entropy), rel=1e-5),
        "overlap_same_utterance": pytest.approx(np.mean(same), rel=1e-5),
        "overlap_different": pytest.approx(np.mean(different), rel=1e-5),
    }
    assert statistics["dead"] >= 1


def test_there_are_no_statistics_without_activations() -> None:
    assert dictionary_statistics(np.zeros((4, 2, 5), np.float32)) == {}
    assert dictionary_statistics(np.full((4, 2, 5), np.nan, np.float32)) == {}
    one_modality = dictionary_statistics(random_codes(num_modalities=1))
    assert set(one_modality) == {"active", "used", "dead", "perplexity"}


def test_missing_modality_test_reads_only_the_other_modalities(
    tiny_artefacts: TinyArtefacts, loaded: Loaded
) -> None:
    model, members, corpus, data = loaded
    names, test = data.modalities, corpus.index("test")
    predictions = missing_modality_predictions(model, members, data, test)
    random_drops = {f"random {rate} %" for rate in (10, 30, 50, 70)}
    subsets = {"text", "audio", "vision", "text+audio", "text+vision", "audio+vision"}
    noise = {f"noise for {name}" for name in names}
    assert set(predictions) == subsets | random_drops | noise
    stored = read_outputs(tiny_artefacts.model())
    drop_masks = {
        name: np.tile(np.isin(names, name.split("+")), (len(corpus.ids), 1)) for name in subsets
    }
    drop_masks["random 50 %"] = _drop_masks(len(corpus.ids), names)["random 50 %"]
    for name, drop_NM in drop_masks.items():
        value = predictions[name]
        assert np.allclose(value[:, test], stored[f"missing/{name}"][:, test], atol=1e-6)
        assert drop_NM[test].any()
        for row in test:
            present = corpus.present_NM[row]
            remaining = [m for m in range(3) if present[m] and not drop_NM[row, m]]
            if not remaining:  # all modalities are dropped: keep them
                remaining = [m for m in range(3) if present[m]]
            batch = data.batch(torch.tensor([[row]] * 2), torch.ones(2, 1), (9, 9, 9))
            absent = torch.tensor([m not in remaining for m in range(3)]).view(1, 3, 1)
            with torch.no_grad():
                output = model.predict(batch.without(absent.expand(2, 3, 1)))
            assert np.allclose(output[:, 0, 0].numpy(), value[:, row], atol=1e-5)


def test_noise_depends_on_the_utterance_and_has_the_features_moments(loaded: Loaded) -> None:
    model, members, corpus, data = loaded
    names, test = data.modalities, corpus.index("test")
    predictions = missing_modality_predictions(model, members, data, test)
    of_one_row = missing_modality_predictions(model, members, data, test[3:4])
    assert np.allclose(
        of_one_row["noise for audio"][:, test[3]], predictions["noise for audio"][:, test[3]]
    )
    _, batch = next(evaluation(model, members, data, test, 1))
    noisy = _with_noise(batch, names.index("audio"), test)
    for name, old, new in zip(names, batch.features, noisy.features, strict=True):
        assert torch.equal(old, new) == (name != "audio")
    values = noisy.features[names.index("audio")][batch.masks[names.index("audio")]]
    assert values.mean().item() == pytest.approx(0, abs=0.15)
    assert values.std().item() == pytest.approx(1, abs=0.15)
    assert not noisy.features[names.index("audio")][~batch.masks[names.index("audio")]].any()


def test_other_rows_are_nan(tiny_artefacts: TinyArtefacts, loaded: Loaded) -> None:
    model, members, corpus, data = loaded
    rows = np.array([3, 30, 11])
    details, outputs = (
        collect_details(model, members, data, rows),
        read_outputs(tiny_artefacts.model()),
    )
    other_rows = np.setdiff1d(np.arange(len(corpus.ids)), rows)
    for name, value in details.items():
        assert np.isnan(value[:, other_rows]).all()
        if not name.startswith(("codes", "embedding")):
            expected = outputs[name][:, rows]
            assert np.allclose(value[:, rows], expected, atol=1e-5, equal_nan=True), name


def test_the_file_has_the_same_bytes_for_the_same_content(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    corpus = read_corpus(tiny_artefacts.aligned())
    codes = np.zeros((2, len(corpus.ids), 1, 4), np.float32)
    content = {"prediction": np.ones((2, len(corpus.ids)), np.float32), "codes/homogeneous": codes}
    for name in ("a.h5", "b.h5"):
        items = content.items() if name == "a.h5" else reversed(content.items())
        write_outputs(
            tmp_path / name, corpus, seeds=(4, 5), modalities=("text",), arrays=dict(items)
        )
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_random_drops_meet_their_rate_and_leave_one_modality() -> None:
    masks = {
        name: value
        for name, value in _drop_masks(4000, ["a", "b", "c"]).items()
        if "random" in name
    }
    for (name, value), rate in zip(masks.items(), DROP_RATES, strict=True):
        assert name == f"random {round(100 * rate)} %"
        assert value.sum(1).max() <= 2
        # The modality with the largest number stays: with probability rate³ all are below the rate.
        assert value.mean() == pytest.approx(rate - rate**3 / 3, abs=0.02)
    for mask, mask_at_higher_rate in itertools.pairwise(masks.values()):
        assert not (mask & ~mask_at_higher_rate).any()
    assert not any("random" in name for name in _drop_masks(10, ["a"]))
