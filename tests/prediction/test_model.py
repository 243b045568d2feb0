"""End to end: predictions of the training files equal those of the pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from dhmd.data.csd import open_sequence
from dhmd.prediction.model import Model, Outputs
from dhmd.prediction.utterances import Utterances
from tests.prediction.corpora import CLASSES, SEEDS, Array, Pipeline, change


def test_the_training_files_give_the_predictions_of_the_pipeline(
    trained: Pipeline, tmp_path: Path
) -> None:
    folder = trained.inputs(tmp_path / "new")
    model = Model(trained.model, "cpu")
    table, expected = model.predict(folder, segments=trained.raw / "labels.csd"), trained.outputs()
    assert set(table.index) == set(expected)
    assert len(expected) > 60
    with open_sequence(trained.raw / "labels.csd") as labels:
        for name, value_S in expected.items():
            row = table.loc[name]
            np.testing.assert_allclose([row[f"seed_{s}"] for s in SEEDS], value_S, atol=1e-5)
            assert row["mean"] == pytest.approx(np.mean(value_S), abs=1e-5)
            assert row["spread"] == pytest.approx(np.std(value_S, ddof=1), abs=1e-5)
            video, index = name.rstrip("]").split("[")
            interval = labels.read(video).intervals[int(index)]
            assert [row["start"], row["end"]] == interval.tolist()
    assert np.ptp(table["mean"]) > 1e-2  # not one constant
    # So does the aligned corpus, and the last prediction can be explained.
    corpus = read_corpus(trained.model.parent / "aligned.h5")
    again = model.predict(corpus)
    columns = [f"seed_{seed}" for seed in SEEDS]
    np.testing.assert_array_equal(again[columns], [expected[name] for name in corpus.ids])
    assert again["text"].tolist() == [" ".join(words) for words in corpus.words or ()]
    explained = model.explain(corpus.ids[3])
    np.testing.assert_allclose(explained.outputs["prediction"], expected[corpus.ids[3]], atol=1e-5)


def test_an_unaligned_classification_gives_the_predictions_of_the_pipeline(
    trained_classes: Pipeline, tmp_path: Path
) -> None:
    folder = trained_classes.inputs(tmp_path / "new", "words", "vectors", "visual")
    labels = trained_classes.raw / "labels.csd"
    table = Model(trained_classes.model).predict(folder, segments=labels)
    expected = trained_classes.outputs()
    assert set(expected) <= set(table.index)  # one without words and vision, but with audio
    assert len(expected) > 60
    for name, probability_SC in expected.items():
        row, mean_C = table.loc[name], probability_SC.mean(0)
        assert row["mean"] == CLASSES[mean_C.argmax()]
        probability = [row[f"probability_{one}"] for one in CLASSES]
        np.testing.assert_allclose(probability, mean_C, atol=1e-5)
        spread = probability_SC[:, mean_C.argmax()].std(ddof=1)
        assert row["spread"] == pytest.approx(spread, abs=1e-5)
        for seed, probability_C in zip(SEEDS, probability_SC, strict=True):
            assert row[f"seed_{seed}"] == CLASSES[probability_C.argmax()]
            probability = row[f"seed_{seed}_probability"]
            assert probability == pytest.approx(probability_C.max(), abs=1e-5)


def test_files_may_have_their_names_at_the_source(trained: Pipeline, tmp_path: Path) -> None:
    first, second = trained.inputs(tmp_path / "a"), trained.inputs(tmp_path / "b")
    for path in second.iterdir():
        path.rename(second / f"Tiny_{path.name}")
    model = Model(trained.model)
    assert_frame_equal(model.predict(first), model.predict(second))


def test_words_that_would_be_cut_off_are_an_error_unless_allowed(
    trained: Pipeline, tmp_path: Path
) -> None:
    folder, segments = trained.inputs(tmp_path / "new"), tmp_path / "segments.csv"
    with open_sequence(folder / "words.csd") as words:
        ends = {video: words.read(video).intervals.max() for video in words.ids}
    lines = ["video,start,end", *(f"{video},0,{end}" for video, end in ends.items())]
    segments.write_text("\n".join(lines), encoding="utf-8")
    model = Model(trained.model)
    # The model was aligned with nine steps a segment at most.
    with pytest.raises(DhmdError, match=r"words \(\d\d%\) would be cut off, .* reads 9 words"):
        model.run(folder, segments=segments)
    outputs = model.run(folder, segments=segments, truncate=True)
    assert list(outputs.table().index) == [f"{video}[0]" for video in ends]
    assert any("steps of words are cut off" in note for note in outputs.notes)
    # Pauses divide the same videos into segments that the model reads whole.
    outputs = model.run(folder)
    assert len(outputs.table()) > len(ends)
    assert outputs.utterances.cut[0] == 0


def test_segments_from_a_csv_file_equal_those_from_the_labels(
    trained: Pipeline, tmp_path: Path
) -> None:
    folder, lines = trained.inputs(tmp_path / "new"), ["end,video,start,remark"]
    with open_sequence(trained.raw / "labels.csd") as labels:
        for video in labels.ids:
            for start, end in labels.read(video).intervals.tolist():
                lines.append(f'{end!r},{video},{start!r},"so, so"')
    (tmp_path / "segments.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    a, b = (
        Model(trained.model).predict(folder, segments=segments)
        for segments in (trained.raw / "labels.csd", tmp_path / "segments.csv")
    )
    assert_frame_equal(a, b)


def test_a_missing_file_is_an_absent_modality(trained: Pipeline, tmp_path: Path) -> None:
    without = trained.inputs(tmp_path / "without", "words", "vectors", "visual")
    silent = trained.inputs(tmp_path / "silent")
    # Audio without a single row is absent in each segment, as in the pipeline.
    change(silent / "acoustic.csd", lambda _, rows, times: (rows[:0], times[:0]))
    labels = trained.raw / "labels.csd"
    a, b = (Model(trained.model).run(folder, segments=labels) for folder in (without, silent))
    assert a.notes[0] == (
        f"{without} has no acoustic.csd or Tiny_acoustic.csd: audio is treated as absent"
    )
    assert_frame_equal(a.table(), b.table())
    whole = trained.outputs()
    differing = [abs(v - whole[name][0]) for name, v in a.table()["seed_4"].items()]
    assert max(differing) > 1e-3


def test_a_modality_may_lack_some_videos(trained: Pipeline, tmp_path: Path) -> None:
    folder, labels = trained.inputs(tmp_path / "new"), trained.raw / "labels.csd"
    change(
        folder / "acoustic.csd",
        lambda video, rows, times: None if video == "25522" else (rows, times),
    )
    predicted = Model(trained.model).run(folder, segments=labels)
    assert predicted.notes[0] == (
        "1 of 11 videos are not in acoustic (25522): they are kept, and their audio is absent"
    )
    table, expected = predicted.table(), trained.outputs()
    assert set(table.index) == set(expected)
    gap = {name: abs(value - expected[name][0]) for name, value in table["seed_4"].items()}
    assert max(value for name, value in gap.items() if name.startswith("25522[")) > 1e-3
    assert max(value for name, value in gap.items() if not name.startswith("25522[")) < 1e-5


def test_omitted_segments_are_reported(trained: Pipeline, tmp_path: Path) -> None:
    folder, segments = trained.inputs(tmp_path / "new"), tmp_path / "segments.csv"
    segments.write_text(
        "video,start,end\n25522,0,0\n25522,0,6\nnobody,0,3\n25522,5000,5001\n", encoding="utf-8"
    )
    predicted = Model(trained.model).run(folder, segments=segments, truncate=True)
    assert list(predicted.table().index) == ["25522[1]"]
    assert "left out, because no file has them: nobody" in predicted.notes
    assert predicted.notes[0] == (
        "2 of 3 (66.7%) segments are empty and left out (25522[0]: no length, 25522[2]: no words)"
    )
    segments.write_text("video,start,end\nnobody,0,3\n", encoding="utf-8")
    with pytest.raises(DhmdError, match=r"is left to predict: .*no file has them.*nobody"):
        Model(trained.model).run(folder, segments=segments)


def test_values_that_are_not_finite_are_cleaned_as_in_the_pipeline(
    trained: Pipeline, tmp_path: Path
) -> None:
    predicted = Model(trained.model).run(trained.inputs(tmp_path / "new"))
    assert any("count as missing" in note for note in predicted.notes)


def altered_model(trained: Pipeline, folder: Path, key: str, value: object) -> Path:
    shutil.copytree(trained.model, folder)
    content = json.loads((folder / "model.json").read_text())
    content[key] = value
    (folder / "model.json").write_text(json.dumps(content))
    return folder


def test_a_model_folder_without_origin_is_refused(trained: Pipeline, tmp_path: Path) -> None:
    model = altered_model(trained, tmp_path / "null", "origin", None)
    folder = trained.inputs(tmp_path / "new")
    with pytest.raises(DhmdError, match="does not describe how its training data was prepared"):
        Model(model).run(folder)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("origin", {"modalities": {}}, "model.json.*origin"),
        ("alignment", "sideways", "alignment is 'sideways'"),
        ("normalisation", {}, "normalisation of text are missing"),
        ("normalisation", "text", "normalisation"),
    ],
)
def test_a_damaged_description_is_refused(
    trained: Pipeline, tmp_path: Path, key: str, value: object, sentence: str
) -> None:
    model = altered_model(trained, tmp_path / "model", key, value)
    with pytest.raises(DhmdError, match=sentence):
        Model(model).run(trained.inputs(tmp_path / "new"))


def test_a_diverged_seed_is_left_out(trained: Pipeline, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.model, model)
    with open(model / "history.csv", "a", encoding="utf-8") as stream:
        stream.write("7,1,diverged,1\n")
    folder = trained.inputs(tmp_path / "new")
    predicted = Model(model).run(folder)
    assert predicted.seeds == (4,)
    assert "seed 7 diverged in training and is left out" in predicted.notes
    table = predicted.table()
    assert "seed_7" not in table
    assert table["mean"].equals(table["seed_4"])
    assert table["spread"].isna().all()
    explained = Model(model).explanations(predicted.utterances)
    assert explained.seeds == (4,)
    outputs = explained[table.index[0]].outputs["prediction"]
    assert outputs.tolist() == pytest.approx([table["seed_4"].iloc[0]])
    with open(model / "history.csv", "a", encoding="utf-8") as stream:
        stream.write("4,1,diverged,1\n")
    with pytest.raises(DhmdError, match=r"all seeds of .* diverged"):
        Model(model).run(folder)
    (model / "history.csv").write_text("seed;name\nx\n")
    with pytest.raises(DhmdError, match=r"history\.csv: the header"):
        Model(model).run(folder)


def test_a_model_needs_only_weights_and_descriptions(trained: Pipeline, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model.json", "seed-4.safetensors", "seed-7.safetensors"):
        shutil.copy(trained.model / name, model)
    folder = trained.inputs(tmp_path / "new")
    assert_frame_equal(Model(model).predict(folder), Model(trained.model).predict(folder))


def test_an_absent_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DhmdError, match="device is cuda, but PyTorch finds no GPU"):
        Model(tmp_path, "cuda")


def utterances(*ids: str) -> Utterances:
    intervals_N2 = np.array([[0.0, 1.25], [2.0, 3.1]])[: len(ids)]
    return Utterances(ids=ids, intervals_N2=intervals_N2, lengths={}, values={})


def csv_text(
    of: Utterances, seeds: tuple[int, ...], values: Array, classes: tuple[str, ...]
) -> str:
    outputs = Outputs(of, seeds, values, classes, ())
    return outputs.table().to_csv(lineterminator="\n")


def test_numbers_in_the_table_have_the_fewest_exact_digits() -> None:
    prediction_SNO = np.array([[[0.1], [1.0]], [[0.3], [-2e-5]]], dtype=np.float32)
    assert csv_text(utterances("v[0]", 'a "b", c[1]'), (1, 5), prediction_SNO, ()) == (
        "id,start,end,mean,spread,seed_1,seed_5\n"
        "v[0],0.0,1.25,0.2,0.14142136,0.1,0.3\n"
        '"a ""b"", c[1]",2.0,3.1,0.49999,0.70712095,1.0,-2e-05\n'
    )


def test_the_mean_class_has_the_highest_mean_probability() -> None:
    # One seed is sure of "yes", the other leans to "no": the mean is yes.
    prediction_SNO = np.array([[[0.0, 1.0]], [[0.75, 0.25]]], dtype=np.float32)
    assert csv_text(utterances("v[0]"), (1, 2), prediction_SNO, ("no", "yes")) == (
        "id,start,end,mean,spread,probability_no,probability_yes,"
        "seed_1,seed_1_probability,seed_2,seed_2_probability\n"
        "v[0],0.0,1.25,yes,0.53033006,0.375,0.625,yes,1.0,no,0.75\n"
    )
