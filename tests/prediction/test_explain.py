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


def test_a_regression_is_explained_from_what_the_train_stage_computed(
    trained_regression: Pipeline,
) -> None:
    corpus = read_corpus(trained_regression.model.parent / "aligned.h5")
    model = Model(trained_regression.model, "cpu")
    explanations = model.explanations(model.read(corpus))
    stored = [
        trained_regression.outputs(n) for n in ("prediction", "missing/text", "vertex/homogeneous")
    ]
    edges, codes = (
        trained_regression.outputs("edges/heterogeneous"),
        trained_regression.codes("homogeneous"),
    )
    utterance = next(id for id in explanations.ids if np.isfinite(stored[1][id]).all())
    explanation = explanations[utterance]
    assert explanation.outputs.index.tolist() == list(SEEDS)
    np.testing.assert_allclose(explanation.outputs["prediction"], stored[0][utterance], atol=1e-5)
    text = explanation.contributions.loc["text"]
    assert text["without"] == pytest.approx(stored[1][utterance].mean(), abs=1e-5)
    assert text["difference"] == pytest.approx(
        (stored[0][utterance] - stored[1][utterance]).mean(), abs=1e-5
    )
    assert text["std"] == pytest.approx(
        (stored[0][utterance] - stored[1][utterance]).std(ddof=1), abs=1e-5
    )
    auxiliary = explanation.auxiliary["homogeneous"]["prediction"]
    np.testing.assert_allclose(auxiliary, stored[2][utterance].mean(0), atol=1e-5)
    table = explanation.edges["heterogeneous"]
    np.testing.assert_allclose(table, edges[utterance].mean(0), atol=1e-5)
    assert table.index.tolist() == table.columns.tolist() == ["text", "audio", "vision"]
    np.testing.assert_allclose(table.sum(axis=0), 1, atol=1e-5)  # of the sources, per target
    codes_table = explanation.codes.query("space == 'homogeneous' and modality == 'audio'")
    largest = codes[utterance][1].argmax()
    assert codes_table.iloc[0]["code"] == largest
    assert codes_table.iloc[0]["activation"] == pytest.approx(
        codes[utterance][1, largest], abs=1e-5
    )
    assert explanation.words == corpus.words[explanations.ids.index(utterance)]
    words = {word.text for words in explanations.code_words.values() for word in words}
    assert words
    assert words <= {word for words in corpus.words for word in words}
    with pytest.raises(DhmdError, match="there is no utterance 'x'; the ids are "):
        explanations["x"]


def test_new_utterances_have_the_code_words_of_the_training_data(
    trained_regression: Pipeline, tmp_path: Path
) -> None:
    model, folder = (
        Model(trained_regression.model),
        trained_regression.inputs(tmp_path / "new", "words", "vectors"),
    )
    without_data = model.explanations(model.read(folder))
    model.corpus = trained_regression.model.parent / "aligned.h5"
    described = model.explanations(model.read(folder))
    whole = model.explanations(model.read(read_corpus(model.corpus)))
    assert described.code_words == whole.code_words != without_data.code_words


def test_the_contribution_to_a_class_is_that_to_its_probability(
    trained_classification: Pipeline,
) -> None:
    corpus = read_corpus(trained_classification.model.parent / "aligned.h5")
    model = Model(trained_classification.model, "cpu")
    explanations = model.explanations(model.read(corpus))
    probability, without = (
        trained_classification.outputs(),
        trained_classification.outputs("missing/vision"),
    )
    present = dict(zip(explanations.ids, explanations.present_NM.all(1), strict=True))
    utterance = next(
        id for id in explanations.ids if np.isfinite(without[id]).all() and present[id]
    )
    explanation = explanations[utterance]
    assert explanation.outputs.columns.tolist() == list(CLASSES)
    best = probability[utterance].mean(0).argmax()
    vision = explanation.contributions.loc["vision"]
    assert vision["full"] == pytest.approx(probability[utterance][:, best].mean(), abs=1e-5)
    assert vision["without"] == pytest.approx(without[utterance][:, best].mean(), abs=1e-5)
    assert explanation.auxiliary["homogeneous"].shape == (2, 3)
    incomplete = next(id for id in explanations.ids if not present[id])
    assert explanations[incomplete].contributions["difference"].isna().all()


def test_a_corpus_without_the_models_features_is_refused(trained_regression: Pipeline) -> None:
    corpus = read_corpus(trained_regression.model.parent / "aligned.h5")
    names = {**corpus.feature_names, "audio": ("one",)}
    with pytest.raises(DhmdError, match="tiny has other features of audio than the training data"):
        Model(trained_regression.model).read(replace(corpus, feature_names=names))
