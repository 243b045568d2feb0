"""End to end: predictions of the pipeline's own files equal the pipeline's predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.csd import open_sequence
from dhmd.prediction import predict_folder
from dhmd.prediction.job import table_text
from dhmd.prediction.utterances import Utterances
from tests.prediction.corpora import CLASSES, SEEDS, Pipeline, change, read_table


def test_the_pipelines_own_files_give_its_own_predictions(
    trained: Pipeline, tmp_path: Path
) -> None:
    folder, output = trained.inputs(tmp_path / "new"), tmp_path / "predictions.csv"
    predicted = predict_folder(
        trained.model, folder, output, segments=trained.raw / "labels.csd", device="cpu"
    )
    rows, expected = read_table(output), trained.outputs()
    assert set(rows) == set(expected)
    assert len(expected) > 60
    with open_sequence(trained.raw / "labels.csd") as labels:
        for name, value_S in expected.items():
            row = rows[name]
            seeds = [float(row[f"seed_{seed}"]) for seed in SEEDS]
            np.testing.assert_allclose(seeds, value_S, atol=1e-5)
            assert float(row["mean"]) == pytest.approx(np.mean(value_S), abs=1e-5)
            video, index = name.rstrip("]").split("[")
            interval = labels.read(video).intervals[int(index)]
            assert [float(row["start"]), float(row["end"])] == interval.tolist()
    assert np.ptp([float(row["mean"]) for row in rows.values()]) > 1e-2  # not one constant
    assert predicted.segments == len(rows)
    assert predicted.seeds == SEEDS


def test_unaligned_classes_too(trained_classes: Pipeline, tmp_path: Path) -> None:
    folder = trained_classes.inputs(tmp_path / "new", "words", "vectors", "visual")
    output = tmp_path / "predictions.csv"
    predict_folder(
        trained_classes.model, folder, output, segments=trained_classes.raw / "labels.csd"
    )
    rows, expected = read_table(output), trained_classes.outputs()
    assert set(expected) <= set(rows)  # one without words and vision, but with audio, may be more
    assert len(expected) > 60
    for name, probability_SC in expected.items():
        mean_C = probability_SC.mean(0)
        columns = [("mean", mean_C)]
        columns += [(f"seed_{seed}", p_C) for seed, p_C in zip(SEEDS, probability_SC, strict=True)]
        for column, probability_C in columns:
            assert rows[name][column] == CLASSES[probability_C.argmax()]
            found = float(rows[name][f"{column}_probability"])
            assert found == pytest.approx(probability_C.max(), abs=1e-5)


def test_files_may_have_their_names_at_the_source(trained: Pipeline, tmp_path: Path) -> None:
    first, second = trained.inputs(tmp_path / "a"), trained.inputs(tmp_path / "b")
    for path in second.iterdir():
        path.rename(second / f"Tiny_{path.name}")
    predict_folder(trained.model, first, tmp_path / "a.csv")
    predict_folder(trained.model, second, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_video_is_one_segment_unless_segments_are_given(
    trained: Pipeline, tmp_path: Path
) -> None:
    folder = trained.inputs(tmp_path / "new")
    predicted = predict_folder(trained.model, folder, tmp_path / "p.csv")
    rows = read_table(tmp_path / "p.csv")
    with open_sequence(folder / "words.csd") as words:
        assert list(rows) == [f"{video}[0]" for video in words.ids]
        for video in words.ids:
            intervals = words.read(video).intervals
            row = rows[f"{video}[0]"]
            assert float(row["start"]) == intervals[:, 0].min()
            assert float(row["end"]) == intervals[:, 1].max()
    # The model was aligned with nine steps a segment at most.
    assert any("steps of words are cut off" in note for note in predicted.notes)
    assert any("give shorter ones with --segments" in note for note in predicted.notes)


def test_segments_from_csv_equal_those_from_labels(trained: Pipeline, tmp_path: Path) -> None:
    folder, lines = trained.inputs(tmp_path / "new"), ["end,video,start,remark"]
    with open_sequence(trained.raw / "labels.csd") as labels:
        for video in labels.ids:
            for start, end in labels.read(video).intervals.tolist():
                lines.append(f'{end!r},{video},{start!r},"so, so"')
    (tmp_path / "segments.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    for name, segments in (("a", trained.raw / "labels.csd"), ("b", tmp_path / "segments.csv")):
        predict_folder(trained.model, folder, tmp_path / name, segments=segments)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_file_is_an_absent_modality(trained: Pipeline, tmp_path: Path) -> None:
    without = trained.inputs(tmp_path / "without", "words", "vectors", "visual")
    silent = trained.inputs(tmp_path / "silent")
    # Audio without a single row is absent in each segment, as in the pipeline.
    change(silent / "acoustic.csd", lambda _, rows, times: (rows[:0], times[:0]))
    labels = trained.raw / "labels.csd"
    predicted = predict_folder(trained.model, without, tmp_path / "a", segments=labels)
    predict_folder(trained.model, silent, tmp_path / "b", segments=labels)
    assert predicted.notes[0] == (
        f"{without} has no acoustic.csd or Tiny_acoustic.csd: audio is treated as absent"
    )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    whole = trained.outputs()
    rows = read_table(tmp_path / "a")
    differing = [abs(float(row["seed_4"]) - whole[name][0]) for name, row in rows.items()]
    assert max(differing) > 1e-3


def test_a_modality_may_lack_some_videos(trained: Pipeline, tmp_path: Path) -> None:
    folder, labels = trained.inputs(tmp_path / "new"), trained.raw / "labels.csd"
    change(
        folder / "acoustic.csd",
        lambda video, rows, times: None if video == "25522" else (rows, times),
    )
    predicted = predict_folder(trained.model, folder, tmp_path / "p.csv", segments=labels)
    assert predicted.notes[0] == (
        "1 of 11 videos are not in acoustic (25522): they are kept, and their audio is absent"
    )
    rows, expected = read_table(tmp_path / "p.csv"), trained.outputs()
    assert set(rows) == set(expected)
    gap = {name: abs(float(rows[name]["seed_4"]) - expected[name][0]) for name in rows}
    assert max(value for name, value in gap.items() if name.startswith("25522[")) > 1e-3
    assert max(value for name, value in gap.items() if not name.startswith("25522[")) < 1e-5


def test_omitted_segments_are_reported(trained: Pipeline, tmp_path: Path) -> None:
    folder, segments = trained.inputs(tmp_path / "new"), tmp_path / "segments.csv"
    segments.write_text(
        "video,start,end\n25522,0,0\n25522,0,100\nnobody,0,3\n25522,5000,5001\n", encoding="utf-8"
    )
    predicted = predict_folder(trained.model, folder, tmp_path / "p.csv", segments=segments)
    assert list(read_table(tmp_path / "p.csv")) == ["25522[1]"]
    assert "left out, because no file has them: 1 video: nobody" in predicted.notes
    assert predicted.notes[0] == (
        "2 of 3 (66.7%) segments are empty and left out (25522[0]: no length, 25522[2]: no words)"
    )


def test_no_remaining_segment_is_an_error(trained: Pipeline, tmp_path: Path) -> None:
    folder, segments = trained.inputs(tmp_path / "new"), tmp_path / "segments.csv"
    segments.write_text("video,start,end\nnobody,0,3\n", encoding="utf-8")
    with pytest.raises(DhmdError, match=r"is left to predict: .*no file has them.*nobody"):
        predict_folder(trained.model, folder, tmp_path / "p.csv", segments=segments)
    assert not (tmp_path / "p.csv").exists()


def test_values_that_are_not_finite_are_cleaned_as_in_the_pipeline(
    trained: Pipeline, tmp_path: Path
) -> None:
    predicted = predict_folder(trained.model, trained.inputs(tmp_path / "new"), tmp_path / "p.csv")
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
    with pytest.raises(
        DhmdError, match=r"does not describe how its training data was aligned from \.csd"
    ):
        predict_folder(model, folder, tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("origin", {"modalities": {}}, "model.json.*origin"),
        ("alignment", "sideways", "has the alignment 'sideways'"),
        ("normalisation", {}, "does not describe text"),
        ("normalisation", "text", "damaged"),
    ],
)
def test_a_damaged_description_is_refused(
    trained: Pipeline, tmp_path: Path, key: str, value: object, sentence: str
) -> None:
    model = altered_model(trained, tmp_path / "model", key, value)
    with pytest.raises(DhmdError, match=sentence):
        predict_folder(model, trained.inputs(tmp_path / "new"), tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_a_diverged_seed_is_left_out(trained: Pipeline, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.model, model)
    with open(model / "history.csv", "a", encoding="utf-8") as stream:
        stream.write("7,1,diverged,1\n")
    folder = trained.inputs(tmp_path / "new")
    predicted = predict_folder(model, folder, tmp_path / "p.csv")
    assert predicted.seeds == (4,)
    assert "seed 7 diverged in training and is left out" in predicted.notes
    for row in read_table(tmp_path / "p.csv").values():
        assert "seed_7" not in row
        assert row["mean"] == row["seed_4"]
    with open(model / "history.csv", "a", encoding="utf-8") as stream:
        stream.write("4,1,diverged,1\n")
    with pytest.raises(DhmdError, match=r"every seed of .* diverged"):
        predict_folder(model, folder, tmp_path / "q.csv")
    (model / "history.csv").write_text("seed;name\nx\n")
    with pytest.raises(DhmdError, match=r"history\.csv is damaged"):
        predict_folder(model, folder, tmp_path / "q.csv")
    assert not (tmp_path / "q.csv").exists()


def test_weights_and_descriptions_are_enough(trained: Pipeline, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model.json", "seed-4.safetensors", "seed-7.safetensors"):
        shutil.copy(trained.model / name, model)
    folder = trained.inputs(tmp_path / "new")
    predict_folder(model, folder, tmp_path / "a.csv")
    predict_folder(trained.model, folder, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_gpu_that_is_not_there_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DhmdError, match="--device is cuda, but torch sees no GPU here"):
        predict_folder(tmp_path, tmp_path, tmp_path / "p.csv", device="cuda")


def test_the_output_is_no_folder_and_no_input(trained: Pipeline, tmp_path: Path) -> None:
    folder = trained.inputs(tmp_path / "new")
    before = (folder / "words.csd").read_bytes()
    with pytest.raises(DhmdError, match="is a folder"):
        predict_folder(trained.model, folder, tmp_path)
    with pytest.raises(DhmdError, match="is one of the inputs"):
        predict_folder(trained.model, folder, folder / "words.csd")
    assert (folder / "words.csd").read_bytes() == before


def test_the_output_cannot_destroy_the_model_or_a_special_file(
    trained: Pipeline, tmp_path: Path
) -> None:
    folder, description = trained.inputs(tmp_path / "new"), trained.model / "model.json"
    before = description.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for output, said in (
        (description, "an input"),
        (trained.model / "new.csv", "an input"),
        (tmp_path / "link", "is a link to"),
        (Path("/dev/null"), "is a device or a pipe"),
    ):
        with pytest.raises(DhmdError, match=said):
            predict_folder(trained.model, folder, output)
    assert description.read_bytes() == before
    assert (tmp_path / "link").is_symlink()


def utterances(*ids: str) -> Utterances:
    intervals_N2 = np.array([[0.0, 1.25], [2.0, 3.1]])[: len(ids)]
    return Utterances(ids=ids, intervals_N2=intervals_N2, lengths=[], values=[], notes=())


def test_the_table_has_values_in_their_fewest_digits() -> None:
    prediction_SNO = np.array([[[0.1], [1.0]], [[0.3], [-2e-5]]], dtype=np.float32)
    assert table_text(utterances("v[0]", 'a "b", c[1]'), (1, 5), prediction_SNO, ()) == (
        "id,start,end,mean,seed_1,seed_5\n"
        "v[0],0.0,1.25,0.2,0.1,0.3\n"
        '"a ""b"", c[1]",2.0,3.1,0.49999,1.0,-2e-05\n'
    )


def test_the_mean_of_classes_is_over_their_probabilities() -> None:
    # One seed is sure of "yes", the other leans to "no": the mean is yes.
    prediction_SNO = np.array([[[0.0, 1.0]], [[0.75, 0.25]]], dtype=np.float32)
    assert table_text(utterances("v[0]"), (1, 2), prediction_SNO, ("no", "yes")) == (
        "id,start,end,mean,mean_probability,seed_1,seed_1_probability,seed_2,seed_2_probability\n"
        "v[0],0.0,1.25,yes,0.625,yes,1.0,no,0.75\n"
    )


def test_a_set_of_classes_has_every_probability() -> None:
    probability_SNO = np.array([[[0.75, 0.5], [0.25, 0.0]], [[0.75, 1.0], [0.25, 0.25]]])
    names = ("happy", "sad")
    text = table_text(utterances("a", "b"), (1, 2), probability_SNO, names, multilabel=True)
    header, *rows = [line.split(",") for line in text.splitlines()]
    assert header[3:9] == ["mean", "mean_happy", "mean_sad", "seed_1", "seed_1_happy", "seed_1_sad"]
    assert rows[0][3:9] == ["happy+sad", "0.75", "0.75", "happy", "0.75", "0.5"]
    assert rows[1][3:6] == ["none", "0.25", "0.125"]
