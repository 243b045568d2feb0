"""Transcripts and tables as inputs of a model whose text is words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.data.csd import write_sequence
from dhmd.prediction.model import Model
from tests.data.text.tiny import write_tiny
from tests.prediction.corpora import Pipeline
from tests.test_api import small_demo

ROOT = Path(__file__).parents[2]
SRT = """1
00:00:01,000 --> 00:00:03,000
So <i>good</i>, so good!

2
00:00:03,500 --> 00:00:05,500
[music] Not bad.
"""
SENTENCES = ["So good, so good!", "Not bad."]


@pytest.fixture(scope="module")
def words_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """Train a model of words and audio in a clone with a small generated corpus."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(ROOT / "recipes", root / "recipes")
    shutil.copy(ROOT / "params.yaml", root)
    small_demo(root)
    settings = {
        "model.modalities": ["text", "audio"],
        "features.text": "contextual",
        "features.encoder": str(write_tiny(root / "encoder")),
        "align.max_steps": 8,
        "pretrain.epochs": 1,
        "pretrain.folds": 2,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        patch.chdir(root)
        yield dhmd.train("demo", seeds=2, epochs=1, **settings)


def predict(model: Model, *paths: Path) -> pd.DataFrame:
    return model.run(list(paths)).table()


def test_a_subtitle_file_is_predicted_cue_by_cue(words_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "talk [HD].srt"
    path.write_text(SRT, encoding="utf-8")
    outputs = words_model.run(path)
    table = outputs.table()
    assert table.index.tolist() == ["talk (HD)[0]", "talk (HD)[1]"]
    assert table["text"].tolist() == ["so good so good", "not bad"]
    assert table[["start", "end"]].to_numpy().tolist() == [[1, 3], [3.5, 5.5]]
    assert table["mean"].nunique() == 2
    assert "audio is treated as absent" in outputs.notes[0]
    explained = words_model.explain("talk (HD)[1]")
    assert explained.words == ("not", "bad")
    assert explained.outputs["prediction"].tolist() == pytest.approx(
        table.iloc[1][["seed_1", "seed_2"]].tolist(), abs=1e-5
    )
    with pytest.raises(DhmdError, match="nothing has been predicted yet"):
        Model(words_model.folder).explain("talk (HD)[1]")


def test_all_formats_of_the_same_words_have_equal_predictions(
    words_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "a.srt").write_text(SRT, encoding="utf-8")
    (tmp_path / "b.vtt").write_text("WEBVTT\n\n" + SRT.replace(",", "."), encoding="utf-8")
    spoken = [
        {"start": 1.0, "end": 3.0, "text": SENTENCES[0]},
        {"start": 3.5, "end": 5.5, "text": SENTENCES[1]},
    ]
    (tmp_path / "c.json").write_text(json.dumps({"segments": spoken}), encoding="utf-8")
    words = "word,start,end\nSo,1,1.5\ngood,1.5,2\nso,2,2.5\ngood!,2.5,3\nNot,3.5,4\nbad.,4,5.5\n"
    (tmp_path / "d.csv").write_text(words, encoding="utf-8")
    (tmp_path / "e.txt").write_text(" ".join(SENTENCES), encoding="utf-8")
    expected = predict(words_model, tmp_path / "a.srt")
    values = ["text", "mean", "seed_1", "seed_2"]
    for name in ("b.vtt", "c.json", "d.csv", "e.txt"):
        actual = predict(words_model, tmp_path / name).reset_index(drop=True)
        assert_frame_equal(actual[values], expected.reset_index(drop=True)[values])
    tables = [
        pd.DataFrame({"text": SENTENCES}),
        pd.DataFrame(spoken),
        pd.read_csv(tmp_path / "d.csv").assign(video="talk"),
    ]
    for table in tables:
        actual = words_model.run(table).table().reset_index(drop=True)
        assert_frame_equal(actual[values], expected.reset_index(drop=True)[values])


def test_several_transcripts_take_the_other_modalities_from_a_folder(
    words_model: Model, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.srt").write_text(SRT, encoding="utf-8")
    features = tmp_path / "features"
    features.mkdir()
    times = np.arange(0, 6, 0.2)
    write_sequence(
        features / "acoustic.csd",
        root_name="acoustic",
        entries=[("a", np.full((30, 36), 5.0), np.stack([times, times + 0.2], axis=1))],
        metadata=None,
    )
    paths = [tmp_path / "a.srt", tmp_path / "b.srt"]
    without, having = predict(words_model, *paths), predict(words_model, *paths, features)
    assert without.index.tolist() == ["a[0]", "a[1]", "b[0]", "b[1]"]
    differing = (without["mean"] - having["mean"]).abs()
    assert (differing[:2] > 1e-6).all()
    assert (differing[2:] < 1e-6).all()


def test_unusable_inputs_are_refused_in_one_sentence(
    words_model: Model, trained: Pipeline, tmp_path: Path
) -> None:
    path = tmp_path / "talk.srt"
    path.write_text(SRT, encoding="utf-8")
    (tmp_path / "talk.mp4").touch()
    (tmp_path / "other").mkdir()
    shutil.copy(path, tmp_path / "other")
    for model, source, sentence in (
        (words_model, tmp_path / "none.srt", "none.srt does not exist"),
        (
            words_model,
            tmp_path / "talk.mp4",
            "`dhmd extract VIDEO --out FOLDER` writes such a folder",
        ),
        (words_model, [path, tmp_path / "other" / "talk.srt"], "have the same name"),
        (words_model, [tmp_path / "other", tmp_path], "is a second folder"),
        (words_model, pd.DataFrame({"a": [1]}), "the column text .*; its columns are a"),
        (words_model, pd.DataFrame({"word": ["so"]}), "the words of text has no column start"),
        (
            words_model,
            pd.DataFrame({"text": ["so"], "start": [2.0], "end": [1.0]}),
            "start and end must be numbers of seconds",
        ),
        (trained_model := Model(trained.model), path, "reads text as vectors and not as words"),
    ):
        with pytest.raises(DhmdError, match=sentence):
            model.run(source)
    assert "dhmd of tiny" in repr(trained_model)


def test_long_sentences_are_an_error_unless_the_cut_is_allowed(words_model: Model) -> None:
    table = pd.DataFrame({"text": ["so good " * 10, "not bad"]})
    with pytest.raises(
        DhmdError, match=r"12 of 22 words \(55%\) would be cut off, .* reads 8 words"
    ):
        words_model.run(table)
    predictions = words_model.run(table, truncate=True).table()
    assert predictions["text"].tolist() == ["so good so good so good so good", "not bad"]
