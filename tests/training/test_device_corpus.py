"""Batches gathered on the device against loops over utterances and steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dhmd.training.device_corpus import DeviceCorpus, Normalisation
from tests.training.corpora import tiny_corpus

CPU = torch.device("cpu")


@pytest.mark.parametrize("alignment", ["word", "none"])
def test_a_batch_has_normalised_features_and_masks(tmp_path: Path, alignment: str) -> None:
    corpus = tiny_corpus(tmp_path / "c.h5", alignment=alignment)
    names = ("text", "vision")
    data = DeviceCorpus.of(corpus, names, CPU)
    assert data.same_steps == (alignment == "word")
    data.teachers_EMNO = torch.arange(2 * 2 * len(corpus.ids)).float().view(2, 2, -1, 1)
    rows = torch.tensor([[0, 7, 33, 12], [5, 5, 39, 2]])
    weight = torch.rand(2, 4)
    batch = data.batch(rows, weight, (3, 20))
    assert batch.weight_EB is weight
    for e in range(2):
        for b in range(4):
            row = int(rows[e, b])
            label = corpus.labels_N[row]
            assert batch.labels_EB[e, b] == (0 if np.isnan(label) else label)
            for m, (name, steps) in enumerate(zip(names, (3, 20), strict=True)):
                present = corpus.present_NM[row, corpus.modalities.index(name)]
                assert batch.present_EMB[e, m, b] == present
                assert batch.teachers_EMBO is not None
                assert batch.teachers_EMBO[e, m, b, 0] == data.teachers_EMNO[e, m, row, 0]
                features = corpus.features[name][row] if present else np.zeros((0, 5))
                statistics = corpus.statistics[name]
                for t in range(steps):
                    step = batch.features[m][e, 0, b, t].numpy()
                    assert batch.masks[m][e, 0, b, t] == (t < len(features))
                    if t < len(features):
                        expected = (features[t] - statistics.mean_d) / statistics.std_d
                        assert step == pytest.approx(expected, abs=1e-5)
                    else:
                        assert (step == 0).all()


def test_outliers_are_clipped_at_ten_deviations() -> None:
    normalisation = Normalisation(np.array([1.0]), np.array([2.0]))
    values = normalisation(np.array([[1.0], [3.0], [1e9], [-1e9]]))
    assert values.dtype == np.float32
    assert values[:, 0].tolist() == [0.0, 1.0, 10.0, -10.0]
