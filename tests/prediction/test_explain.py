"""Explanations have the outputs of the train stage and the effect of dropping a modality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from dhmd.prediction.model import Model
from tests.prediction.corpora import CLASSES, SEEDS, Pipeline


def test_a_regression_is_explained_from_what_the_train_stage_computed(trained: Pipeline) -> None:
    corpus = read_corpus(trained.model.parent / "aligned.h5")
    model = Model(trained.model, "cpu")
    found = model.explanations(model.read(corpus))
    stored = [trained.outputs(n) for n in ("prediction", "missing/text", "vertex/homogeneous")]
    edges, codes = trained.outputs("edges/heterogeneous"), trained.codes("homogeneous")
    one = next(id for id in found.ids if np.isfinite(stored[1][id]).all())
    explained = found[one]
    assert explained.outputs.index.tolist() == list(SEEDS)
    np.testing.assert_allclose(explained.outputs["prediction"], stored[0][one], atol=1e-5)
    text = explained.contributions.loc["text"]
    assert text["without"] == pytest.approx(stored[1][one].mean(), abs=1e-5)
    assert text["difference"] == pytest.approx((stored[0][one] - stored[1][one]).mean(), abs=1e-5)
    assert text["std"] == pytest.approx((stored[0][one] - stored[1][one]).std(ddof=1), abs=1e-5)
    auxiliary = explained.auxiliary["homogeneous"]["prediction"]
    np.testing.assert_allclose(auxiliary, stored[2][one].mean(0), atol=1e-5)
    table = explained.edges["heterogeneous"]
    np.testing.assert_allclose(table, edges[one].mean(0), atol=1e-5)
    assert table.index.tolist() == table.columns.tolist() == ["text", "audio", "vision"]
    np.testing.assert_allclose(table.sum(axis=0), 1, atol=1e-5)  # of the sources, per target
    listed = explained.codes.query("space == 'homogeneous' and modality == 'audio'")
    largest = codes[one][1].argmax()
    assert listed.iloc[0]["code"] == largest
    assert listed.iloc[0]["activation"] == pytest.approx(codes[one][1, largest], abs=1e-5)
    assert explained.words == corpus.words[found.ids.index(one)]
    words = {word.text for words in found.code_words.values() for word in words}
    assert words
    assert words <= {word for words in corpus.words for word in words}
    with pytest.raises(DhmdError, match="there is no utterance 'x'; the ids are "):
        found["x"]


def test_new_utterances_have_the_code_words_of_the_training_data(
    trained: Pipeline, tmp_path: Path
) -> None:
    model, folder = Model(trained.model), trained.inputs(tmp_path / "new", "words", "vectors")
    alone = model.explanations(model.read(folder))
    model.corpus = trained.model.parent / "aligned.h5"
    described = model.explanations(model.read(folder))
    whole = model.explanations(model.read(read_corpus(model.corpus)))
    assert described.code_words == whole.code_words != alone.code_words


def test_the_contribution_to_a_class_is_that_to_its_probability(trained_classes: Pipeline) -> None:
    corpus = read_corpus(trained_classes.model.parent / "aligned.h5")
    model = Model(trained_classes.model, "cpu")
    found = model.explanations(model.read(corpus))
    probability, without = trained_classes.outputs(), trained_classes.outputs("missing/vision")
    present = dict(zip(found.ids, found.present_NM.all(1), strict=True))
    one = next(id for id in found.ids if np.isfinite(without[id]).all() and present[id])
    explained = found[one]
    assert explained.outputs.columns.tolist() == list(CLASSES)
    best = probability[one].mean(0).argmax()
    vision = explained.contributions.loc["vision"]
    assert vision["full"] == pytest.approx(probability[one][:, best].mean(), abs=1e-5)
    assert vision["without"] == pytest.approx(without[one][:, best].mean(), abs=1e-5)
    assert explained.auxiliary["homogeneous"].shape == (2, 3)
    alone = next(id for id in found.ids if not present[id])
    assert found[alone].contributions["difference"].isna().all()


def test_a_corpus_without_the_models_features_is_refused(trained: Pipeline) -> None:
    corpus = read_corpus(trained.model.parent / "aligned.h5")
    names = {**corpus.feature_names, "audio": ("one",)}
    with pytest.raises(DhmdError, match="tiny has other features of audio than the training data"):
        Model(trained.model).read(replace(corpus, feature_names=names))
