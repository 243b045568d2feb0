"""The jobs, end to end on tiny corpora."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from dhmd.models.batch import EnsembleBatch
from dhmd.training.configuration import Configuration
from dhmd.training.weights import load_model
from tests.aligned_files import write_aligned
from tests.training.artefacts import (
    TinyArtefacts,
    ablate,
    copy_folder,
    equal,
    pretrain,
    read_files,
    read_outputs,
    train,
)
from tests.training.corpora import TINY, tiny_configuration, tiny_data
from tests.training.learners import Recorder

QUICK = tiny_configuration({"train": {"epochs": 1}})
ALL = ("text", "audio", "vision")
CASES = [
    ("regression", "word", "dhmd", ALL),
    ("classification", "none", "dhmd", ("text", "vision")),
    ("regression", "none", "dhmd", ("audio",)),
    ("classification", "word", "late_fusion", ALL),
    ("regression", "none", "mult", ALL),
    ("classification", "none", "gru", ("audio",)),
]


@pytest.mark.parametrize(("task", "alignment", "architecture", "modalities"), CASES)
def test_a_job_writes_what_evaluation_and_report_read(
    tiny_artefacts: TinyArtefacts,
    tmp_path: Path,
    task: str,
    alignment: str,
    architecture: str,
    modalities: tuple[str, ...],
) -> None:
    configuration = replace(QUICK, architecture=architecture, modalities=modalities)
    aligned, recorder = tiny_artefacts.aligned(task, alignment), Recorder()
    pretrained = tiny_artefacts.pretrained(task, alignment)
    train(configuration, aligned, pretrained, tmp_path / "m", tmp_path / "s", recorder)
    corpus = read_corpus(aligned)
    expected = {"model.json", "history.csv", "outputs.h5"}
    expected |= {f"seed-{seed}.safetensors" for seed in (1, 2)}
    assert set(read_files(tmp_path / "m")) == expected
    assert recorder.starts == [("train", ("seed-1", "seed-2"), 0)]
    assert recorder.outputs == [tmp_path / "m"]
    assert list((tmp_path / "s" / "tasks").iterdir()) == []
    outputs = read_outputs(tmp_path / "m")
    _check_outputs(outputs, corpus, configuration)
    _check_history(tmp_path / "m", task)
    _check_that_the_model_can_be_loaded(tmp_path / "m", outputs, corpus)


def _check_outputs(outputs: dict[str, Any], corpus: Any, configuration: Configuration) -> None:
    modalities, count = configuration.modalities, len(corpus.ids)
    size, attributes = len(modalities), outputs["attributes"]
    classes = (3,) if corpus.task == "classification" else ()
    assert list(attributes["seeds"]) == [1, 2]
    assert json.loads(attributes["modalities"]) == list(modalities)
    assert attributes["task"] == corpus.task
    assert attributes["identity"] == corpus.identity
    assert attributes["fold"] == "standard"
    assert tuple(outputs["ids"]) == corpus.ids
    assert list(outputs["split"]) == list(corpus.split_N)
    prediction = outputs["prediction"]
    assert prediction.shape == (2, count, *classes)
    assert prediction.dtype == np.float32
    assert np.isfinite(prediction).all()
    if classes:
        assert prediction.sum(-1) == pytest.approx(np.ones((2, count)), abs=1e-5)
    test = corpus.split_N == "test"
    missing = {name for name in outputs if name.startswith("missing/")}
    random_drops = {name for name in missing if "random" in name}
    noise = {f"missing/noise for {name}" for name in modalities if size > 1}
    assert len(random_drops) == (4 if size > 1 else 0)
    assert noise <= missing
    pair = "missing/" + "+".join(modalities[:2])
    assert len(missing - random_drops - noise) == 2**size - 2
    assert pair in missing or size < 3
    for name in missing:
        assert np.isfinite(outputs[name][:, test]).all()
        assert np.isnan(outputs[name][:, ~test]).all()
    if configuration.architecture != "dhmd":
        assert set(outputs) - missing == {"attributes", "ids", "split", "prediction"}
        return
    columns = [corpus.modalities.index(name) for name in modalities]
    present_NM = corpus.present_NM[:, columns]
    widths = {"homogeneous": 8, "heterogeneous": 8 * max(size - 1, 1)}
    for space in widths:
        assert outputs[f"vertex/{space}"].shape == (2, count, size, *classes)
        edges = outputs[f"edges/{space}"]
        assert edges.shape == (2, count, size, size)
        for m in range(size):
            targets = edges[:, :, :, m]
            assert np.isnan(targets[:, ~present_NM[:, m]]).all()
            assert targets[:, present_NM[:, m]].sum(-1) == pytest.approx(1, abs=1e-5)
        codes = outputs[f"codes/{space}"]
        assert codes.shape == (count, size, 12)
        assert codes.sum(-1) == pytest.approx(present_NM.astype(float), abs=1e-5)
        assert outputs[f"embedding/{space}"].shape == (count, size, 8)
    statistics = json.loads(attributes["dictionary_stats"])
    assert set(statistics) == set(widths)
    for seed_statistics in statistics.values():
        assert len(seed_statistics) == 2
        assert seed_statistics[0]["used"] + seed_statistics[0]["dead"] == 12


def _check_history(folder: Path, task: str) -> None:
    rows = list(csv.DictReader((folder / "history.csv").open()))
    score = "valid/mae" if task == "regression" else "valid/loss"
    for seed in ("1", "2"):
        last_rows = {row["name"]: row for row in rows if row["seed"] == seed}
        assert {"train/total", "train/task", score, "lr"} <= set(last_rows)
        assert last_rows["selected"]["value"] == "1"
        assert last_rows["selected"]["epoch"] == "1"


def _check_that_the_model_can_be_loaded(folder: Path, outputs: dict[str, Any], corpus: Any) -> None:
    model, _, description = load_model(folder, torch.device("cpu"))
    assert description.identity == corpus.identity
    assert description.alignment == corpus.alignment
    longest = max(int(corpus.features[name].lengths.max()) for name in description.inputs)
    features, masks, present = [], [], []
    for name, width in description.inputs.items():
        x = torch.zeros(2, 1, len(corpus.ids), longest, width)
        mask = torch.zeros(2, 1, len(corpus.ids), longest, dtype=torch.bool)
        present_N = corpus.present_NM[:, corpus.modalities.index(name)]
        for n in np.flatnonzero(present_N):
            rows = description.normalisation[name](corpus.features[name][n])
            x[:, 0, n, : len(rows)] = torch.from_numpy(rows)
            mask[:, 0, n, : len(rows)] = True
        features.append(x)
        masks.append(mask)
        present.append(torch.from_numpy(present_N))
    index = torch.arange(len(corpus.ids)).expand(2, -1)
    batch = EnsembleBatch(
        modalities=tuple(description.inputs),
        index_EB=index,
        video_EB=index,
        features=features,
        masks=masks,
        present_EMB=torch.stack(present).expand(2, -1, -1),
        weight_EB=torch.ones(2, len(corpus.ids)),
        labels_EB=torch.zeros(2, len(corpus.ids)),
    )
    with torch.no_grad():
        output = description.task.predictions(model.predict(batch))
    output = output if description.task.classes else output[..., 0]
    assert output.numpy() == pytest.approx(outputs["prediction"], abs=2e-5)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_pretraining_writes_encoders_scores_and_teachers(
    tiny_artefacts: TinyArtefacts, task: str
) -> None:
    folder, corpus = tiny_artefacts.pretrained(task), read_corpus(tiny_artefacts.aligned(task))
    outputs, count = read_outputs(folder), len(corpus.ids)
    classes = (3,) if task == "classification" else ()
    assert outputs["prediction"].shape == outputs["teacher"].shape == (2, count, 3, *classes)
    train_N = corpus.split_N == "train"
    present = corpus.present_NM[None, ..., *[None] * len(classes)]
    shape = outputs["prediction"].shape
    assert equal(np.isfinite(outputs["prediction"]), np.broadcast_to(present, shape))
    has_teacher = corpus.present_NM & train_N[:, None]
    expected = np.broadcast_to(has_teacher[None, ..., *[None] * len(classes)], shape)
    assert equal(np.isfinite(outputs["teacher"]), expected)
    if classes:
        assert outputs["teacher"][:, has_teacher].sum(-1) == pytest.approx(1, abs=1e-5)
    tensors = load_file(folder / "seed-1.safetensors")
    assert set(tensors) == {
        f"{name}.convolution.{part}" for name in ALL for part in ("weight_EIX", "bias_EO")
    }
    rows = list(csv.DictReader((folder / "history.csv").open()))
    assert {row["seed"] for row in rows} == {"1", "2"}
    names = {row["name"] for row in rows}
    assert {f"{name}/train/task" for name in ALL} <= names
    assert {f"{name}/selected" for name in ALL} <= names


def test_teachers_are_not_trained_on_their_own_targets(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    """New labels of a video change the teachers of other videos, but not its own."""
    data = tiny_data()
    labels = data.labels_N.copy()
    changed_labels = np.array(data.videos) == "v2"
    labels[changed_labels] = np.where(labels[changed_labels] > 0, -3, 3)
    write_aligned(tmp_path / "c.h5", replace(data, labels_N=labels))
    pretrain(TINY, tmp_path / "c.h5", tmp_path / "p", tmp_path / "s")
    before, after = read_outputs(tiny_artefacts.pretrained()), read_outputs(tmp_path / "p")
    assert equal(before["teacher"][:, changed_labels], after["teacher"][:, changed_labels])
    changed = before["teacher"] != after["teacher"]
    others = read_corpus(tiny_artefacts.aligned()).split_N == "train"
    others &= ~changed_labels
    # Two of three folds train on the video: the teachers of their held-out utterances change.
    assert 0.3 < changed[:, others].mean() < 0.9
    trained = np.isfinite(before["prediction"])
    assert (before["prediction"] != after["prediction"])[trained].mean() > 0.9


def test_modalities_are_pretrained_independently(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    configuration = replace(TINY, modalities=("audio",))
    pretrain(configuration, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "s")
    one_modality, all_modalities = (
        read_outputs(tmp_path / "p"),
        read_outputs(tiny_artefacts.pretrained()),
    )
    assert equal(one_modality["teacher"][:, :, 0], all_modalities["teacher"][:, :, 1])
    assert equal(one_modality["prediction"][:, :, 0], all_modalities["prediction"][:, :, 1])


def test_training_starts_from_pretrained_encoders(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    """With a learning rate near 0, the encoders of the model equal the pretrained ones."""
    with_pretraining = tiny_configuration({"train": {"epochs": 1, "lr": 1e-12}})
    tiny_artefacts.train(with_pretraining, tmp_path)
    without_pretraining = tiny_configuration(
        {"train": {"epochs": 1, "lr": 1e-12}, "pretrain": {"enabled": False}}
    )
    train(
        without_pretraining,
        tiny_artefacts.aligned(),
        tiny_artefacts.pretrained(),
        tmp_path / "f",
        tmp_path / "s",
    )
    for seed in (1, 2):
        pretrained = load_file(tiny_artefacts.pretrained() / f"seed-{seed}.safetensors")
        weights = load_file(tmp_path / "m" / f"seed-{seed}.safetensors")
        random_weights = load_file(tmp_path / "f" / f"seed-{seed}.safetensors")
        for index, name in enumerate(ALL):
            weight = pretrained[f"{name}.convolution.weight_EIX"]
            target = f"encoders.{index}.convolution.weight_EIX"
            assert torch.allclose(weights[target], weight)
            assert not torch.allclose(random_weights[target], weight)


# ---- reproducibility and resuming ----------------------------------------------------------------


def test_a_job_is_reproducible(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    torch.rand(5)  # the state of torch's own generator does not matter
    tiny_artefacts.train(TINY, tmp_path)
    assert read_files(tmp_path / "m") == read_files(tiny_artefacts.model())
    pretrain(TINY, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "s")
    assert read_files(tmp_path / "p") == read_files(tiny_artefacts.pretrained())


def test_a_seed_does_not_depend_on_other_seeds(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    one_seed = tiny_configuration({"train": {"seeds": (2,)}})
    tiny_artefacts.train(one_seed, tmp_path)
    outputs, both = read_outputs(tmp_path / "m"), read_outputs(tiny_artefacts.model())
    assert outputs["prediction"][0] == pytest.approx(both["prediction"][1], abs=2e-3)
    assert np.abs(both["prediction"][0] - both["prediction"][1]).max() > 0.05


@pytest.mark.parametrize("epoch", [1, 2, 3])  # after 3 only the outputs are left to write
def test_an_interrupted_training_resumes_with_the_same_result(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, epoch: int
) -> None:
    interrupted, resumed = Recorder(stop_after=epoch), Recorder()
    with pytest.raises(KeyboardInterrupt):
        tiny_artefacts.train(TINY, tmp_path, interrupted)
    assert not (tmp_path / "m").exists()
    tiny_artefacts.train(TINY, tmp_path, resumed)
    assert resumed.starts == [("train", ("seed-1", "seed-2"), epoch)]
    assert [number for number, _ in resumed.epochs] == list(range(epoch + 1, 4))
    assert read_files(tmp_path / "m") == read_files(tiny_artefacts.model())
    assert list((tmp_path / "s" / "tasks").iterdir()) == []


def test_interrupted_pretraining_resumes(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    interrupted, resumed = Recorder(stop_after=3), Recorder()  # two epochs of text, one of audio
    with pytest.raises(KeyboardInterrupt):
        pretrain(TINY, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "s", interrupted)
    pretrain(TINY, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "s", resumed)
    assert resumed.resumed_epoch == 1
    assert [(number, sorted(rows)[0]) for number, rows in resumed.epochs] == [
        (2, "audio/seed-1"),
        (1, "vision/seed-1"),
        (2, "vision/seed-1"),
    ]
    assert read_files(tmp_path / "p") == read_files(tiny_artefacts.pretrained())


def test_another_configuration_does_not_resume_from_the_checkpoint(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_artefacts.train(TINY, tmp_path, Recorder(2))
    other = tiny_configuration({"kd": {"lambda": 0.9}, "train": {"epochs": 1}})
    recorder = Recorder()
    tiny_artefacts.train(other, tmp_path, recorder)
    assert recorder.resumed_epoch == 0
    assert len(recorder.epochs) == 1
    assert len(list((tmp_path / "s" / "tasks").iterdir())) == 1


def test_a_damaged_checkpoint_is_ignored(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_artefacts.train(TINY, tmp_path, Recorder(2))
    (checkpoint,) = (tmp_path / "s").glob("tasks/*/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    recorder = Recorder()
    tiny_artefacts.train(TINY, tmp_path, recorder)
    assert len(recorder.epochs) == 3
    assert read_files(tmp_path / "m") == read_files(tiny_artefacts.model())


def test_a_failed_write_keeps_the_old_output(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "old").write_text("old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dhmd.training.jobs.write_history", full)
    with pytest.raises(DhmdError, match=r"cannot write .*m: .*No space left"):
        tiny_artefacts.train(QUICK, tmp_path)
    assert read_files(tmp_path / "m") == {"old": b"old"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_last_line_reports_score_seeds_and_folder(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    variants = {
        "gru": replace(QUICK, architecture="gru"),
        "mult": replace(QUICK, architecture="mult"),
    }
    with caplog.at_level("INFO", logger="dhmd"):
        pretrain(QUICK, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "s")
        first = caplog.messages[-1]
        train(QUICK, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "m", tmp_path / "s")
        second = caplog.messages[-1]
        ablate(variants, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "a", tmp_path / "s")
    number = r"-?\d\.\d{4}"
    scores = rf"mae {number}, corr {number} \(2 seeds\)"
    each = "; ".join(f"{name} {scores}" for name in ALL)
    assert re.fullmatch(rf"pretrain: validation {each}, written to .*/p", first)
    assert re.fullmatch(rf"train: validation {scores}, written to .*/m", second)
    best = rf"ablate: the best of 2 variants on validation is (gru|mult), {scores}, written to .*/a"
    assert re.fullmatch(best, caplog.messages[-1])
    rows = list(csv.DictReader((tmp_path / "m" / "history.csv").open()))
    errors = [float(row["value"]) for row in rows if row["name"] == "valid/mae"]
    assert f"mae {np.mean(errors):.4f}" in second


# ---- errors --------------------------------------------------------------------------------------


def test_a_diverged_seed_does_not_change_the_others(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    """Start seed 1 from encoders of NaN."""
    pretrained = copy_folder(tiny_artefacts.pretrained(), tmp_path / "p")
    tensors = load_file(pretrained / "seed-1.safetensors")
    save_file({k: v * torch.nan for k, v in tensors.items()}, pretrained / "seed-1.safetensors")
    recorder = Recorder()
    train(TINY, tiny_artefacts.aligned(), pretrained, tmp_path / "m", tmp_path / "s", recorder)
    outputs, expected = read_outputs(tmp_path / "m"), read_outputs(tiny_artefacts.model())
    for name in ("prediction", "vertex/homogeneous", "edges/heterogeneous", "missing/text"):
        assert np.isnan(outputs[name][0]).all(), name
        assert equal(outputs[name][1], expected[name][1]), name
    seed_2 = (tmp_path / "m" / "seed-2.safetensors").read_bytes()
    assert seed_2 == (tiny_artefacts.model() / "seed-2.safetensors").read_bytes()
    rows = list(csv.DictReader((tmp_path / "m" / "history.csv").open()))
    seed_1_rows = [row for row in rows if row["seed"] == "1"]
    assert [(row["name"], row["epoch"]) for row in seed_1_rows] == [("diverged", "1")]
    assert all(set(rows_of_epoch) == {"seed-2"} for _, rows_of_epoch in recorder.epochs)


def test_a_diverged_teacher_is_refused(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    import h5py

    pretrained = copy_folder(tiny_artefacts.pretrained(), tmp_path / "p")
    with h5py.File(pretrained / "outputs.h5", "a") as file:
        file["teacher"][1, :8, 2] = np.nan
    with pytest.raises(DhmdError, match=r"vision.*seed-2"):
        train(QUICK, tiny_artefacts.aligned(), pretrained, tmp_path / "m", tmp_path / "s")


def test_encoders_of_other_data_seeds_shapes_or_modalities_are_refused(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    given, aligned = tiny_artefacts.pretrained(), tiny_artefacts.aligned()

    def refused(configuration: Configuration, pretrained: Path, message: str) -> None:
        with pytest.raises(DhmdError, match=message):
            train(configuration, aligned, pretrained, tmp_path / "m", tmp_path / "s")
        assert not (tmp_path / "m").exists()

    refused(TINY, tiny_artefacts.pretrained("classification"), "different data or seeds")
    refused(tiny_configuration({"train": {"seeds": (1, 9)}}), given, "different data or seeds")
    refused(tiny_configuration({"model": {"width": 16}}), given, "does not fit the model")
    refused(TINY, tmp_path / "nowhere", "is not a model folder")
    pretrain(replace(TINY, modalities=("text",)), aligned, tmp_path / "p", tmp_path / "s")
    refused(TINY, tmp_path / "p", "audio")
    truncated = copy_folder(given, tmp_path / "broken")
    data = (truncated / "outputs.h5").read_bytes()
    (truncated / "outputs.h5").write_bytes(data[: len(data) // 2])
    refused(TINY, truncated, "outputs.h5.*truncated")


def test_a_modality_missing_from_the_corpus_is_refused(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    data = tiny_data()
    two_modalities = replace(
        data,
        modalities=("text", "audio"),
        features={k: v for k, v in data.features.items() if k != "vision"},
        feature_names={k: v for k, v in data.feature_names.items() if k != "vision"},
        present_NM=np.ones((len(data.ids), 2), dtype=bool),
    )
    write_aligned(tmp_path / "c.h5", two_modalities)
    with pytest.raises(DhmdError, match="no vision"):
        pretrain(TINY, tmp_path / "c.h5", tmp_path / "p", tmp_path / "s")


def test_labels_of_the_test_split_change_nothing(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    data = tiny_data()
    labels = np.where(data.folds["standard"] == "test", 0.5, data.labels_N).astype(np.float32)
    write_aligned(tmp_path / "c.h5", replace(data, labels_N=labels))
    pretrain(TINY, tmp_path / "c.h5", tmp_path / "p", tmp_path / "s")
    train(TINY, tmp_path / "c.h5", tmp_path / "p", tmp_path / "m", tmp_path / "s")
    outputs, expected = read_outputs(tmp_path / "m"), read_outputs(tiny_artefacts.model())
    assert outputs.keys() == expected.keys()
    for name in set(outputs) - {"attributes", "ids", "split"}:
        assert equal(outputs[name], expected[name]), name


def test_training_beats_the_median_label(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    longer = tiny_configuration(
        {
            "train": {"epochs": 12, "lr": 0.03, "modality_dropout": 0.0, "seeds": (1,)},
            "model": {"dropout": {"output": 0.0}},
        }
    )
    tiny_artefacts.train(longer, tmp_path)
    corpus = read_corpus(tiny_artefacts.aligned(), test_labels=True)
    test = corpus.index("test")
    error = np.abs(
        read_outputs(tmp_path / "m")["prediction"][:, test] - corpus.labels_N[test]
    ).mean(1)
    median_error = np.abs(np.median(corpus.labels_N) - corpus.labels_N[test]).mean()
    assert (error < 0.7 * median_error).all(), (error, median_error)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_refused(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    configuration = tiny_configuration({"compute": {"device": "cuda"}})
    with pytest.raises(DhmdError, match=r"compute\.device is cuda, but PyTorch finds no GPU"):
        tiny_artefacts.train(configuration, tmp_path)


def test_a_missing_aligned_file_is_refused(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match=r"nothing\.h5"):
        train(
            TINY,
            tmp_path / "nothing.h5",
            tiny_artefacts.pretrained(),
            tmp_path / "m",
            tmp_path / "s",
        )
