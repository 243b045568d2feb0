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
    tiny: TinyArtefacts,
    tmp_path: Path,
    task: str,
    alignment: str,
    architecture: str,
    modalities: tuple[str, ...],
) -> None:
    configuration = replace(QUICK, architecture=architecture, modalities=modalities)
    cache, recorder = tiny.aligned(task, alignment), Recorder()
    pretrained = tiny.pretrained(task, alignment)
    train(configuration, cache, pretrained, tmp_path / "m", tmp_path / "s", recorder)
    corpus = read_corpus(cache)
    expected = {"model.json", "history.csv", "outputs.h5"}
    expected |= {f"seed-{seed}.safetensors" for seed in (1, 2)}
    assert set(read_files(tmp_path / "m")) == expected
    assert recorder.starts == [("train", ("seed-1", "seed-2"), 0)]
    assert recorder.outputs == [tmp_path / "m"]
    assert list((tmp_path / "s" / "tasks").iterdir()) == []
    found = read_outputs(tmp_path / "m")
    _check_outputs(found, corpus, configuration)
    _check_history(tmp_path / "m", task)
    _check_that_it_can_be_loaded(tmp_path / "m", found, corpus)


def _check_outputs(found: dict[str, Any], corpus: Any, configuration: Configuration) -> None:
    modalities, count = configuration.modalities, len(corpus.ids)
    size, attributes = len(modalities), found["attributes"]
    classes = (3,) if corpus.task == "classification" else ()
    assert list(attributes["seeds"]) == [1, 2]
    assert json.loads(attributes["modalities"]) == list(modalities)
    assert attributes["task"] == corpus.task
    assert attributes["identity"] == corpus.identity
    assert attributes["fold"] == "standard"
    assert tuple(found["ids"]) == corpus.ids
    assert list(found["split"]) == list(corpus.split_N)
    prediction = found["prediction"]
    assert prediction.shape == (2, count, *classes)
    assert prediction.dtype == np.float32
    assert np.isfinite(prediction).all()
    if classes:
        assert prediction.sum(-1) == pytest.approx(np.ones((2, count)), abs=1e-5)
    test = corpus.split_N == "test"
    missing = {name for name in found if name.startswith("missing/")}
    chance = {name for name in missing if "random" in name}
    noise = {f"missing/noise for {name}" for name in modalities if size > 1}
    assert len(chance) == (4 if size > 1 else 0)
    assert noise <= missing
    joined = "missing/" + "+".join(modalities[:2])
    assert len(missing - chance - noise) == 2**size - 2
    assert joined in missing or size < 3
    for name in missing:
        assert np.isfinite(found[name][:, test]).all()
        assert np.isnan(found[name][:, ~test]).all()
    if configuration.architecture != "dhmd":
        assert set(found) - missing == {"attributes", "ids", "split", "prediction"}
        return
    columns = [corpus.modalities.index(name) for name in modalities]
    there_NM = corpus.present_NM[:, columns]
    widths = {"homogeneous": 8, "heterogeneous": 8 * max(size - 1, 1)}
    for space in widths:
        assert found[f"vertex/{space}"].shape == (2, count, size, *classes)
        edges = found[f"edges/{space}"]
        assert edges.shape == (2, count, size, size)
        for m in range(size):
            targets = edges[:, :, :, m]
            assert np.isnan(targets[:, ~there_NM[:, m]]).all()
            assert targets[:, there_NM[:, m]].sum(-1) == pytest.approx(1, abs=1e-5)
        codes = found[f"codes/{space}"]
        assert codes.shape == (count, size, 12)
        assert codes.sum(-1) == pytest.approx(there_NM.astype(float), abs=1e-5)
        assert found[f"embedding/{space}"].shape == (count, size, 8)
    statistics = json.loads(attributes["dictionary_stats"])
    assert set(statistics) == set(widths)
    for each in statistics.values():
        assert len(each) == 2
        assert each[0]["used"] + each[0]["dead"] == 12


def _check_history(folder: Path, task: str) -> None:
    rows = list(csv.DictReader((folder / "history.csv").open()))
    score = "valid/mae" if task == "regression" else "valid/loss"
    for seed in ("1", "2"):
        own = {row["name"]: row for row in rows if row["seed"] == seed}
        assert {"train/total", "train/task", score, "lr"} <= set(own)
        assert own["selected"]["value"] == "1"
        assert own["selected"]["epoch"] == "1"


def _check_that_it_can_be_loaded(folder: Path, found: dict[str, Any], corpus: Any) -> None:
    model, _, description = load_model(folder, torch.device("cpu"))
    assert description.identity == corpus.identity
    assert description.alignment == corpus.alignment
    longest = max(int(corpus.features[name].lengths.max()) for name in description.inputs)
    features, masks, present = [], [], []
    for name, width in description.inputs.items():
        x = torch.zeros(2, 1, len(corpus.ids), longest, width)
        mask = torch.zeros(2, 1, len(corpus.ids), longest, dtype=torch.bool)
        here = corpus.present_NM[:, corpus.modalities.index(name)]
        for n in np.flatnonzero(here):
            rows = description.normalisation[name](corpus.features[name][n])
            x[:, 0, n, : len(rows)] = torch.from_numpy(rows)
            mask[:, 0, n, : len(rows)] = True
        features.append(x)
        masks.append(mask)
        present.append(torch.from_numpy(here))
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
    assert output.numpy() == pytest.approx(found["prediction"], abs=2e-5)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_pretraining_writes_encoders_scores_and_teachers(tiny: TinyArtefacts, task: str) -> None:
    folder, corpus = tiny.pretrained(task), read_corpus(tiny.aligned(task))
    found, count = read_outputs(folder), len(corpus.ids)
    classes = (3,) if task == "classification" else ()
    assert found["prediction"].shape == found["teacher"].shape == (2, count, 3, *classes)
    train_N = corpus.split_N == "train"
    there = corpus.present_NM[None, ..., *[None] * len(classes)]
    shape = found["prediction"].shape
    assert equal(np.isfinite(found["prediction"]), np.broadcast_to(there, shape))
    taught = corpus.present_NM & train_N[:, None]
    expected = np.broadcast_to(taught[None, ..., *[None] * len(classes)], shape)
    assert equal(np.isfinite(found["teacher"]), expected)
    if classes:
        assert found["teacher"][:, taught].sum(-1) == pytest.approx(1, abs=1e-5)
    tensors = load_file(folder / "seed-1.safetensors")
    assert set(tensors) == {
        f"{name}.convolution.{part}" for name in ALL for part in ("weight_EIX", "bias_EO")
    }
    rows = list(csv.DictReader((folder / "history.csv").open()))
    assert {row["seed"] for row in rows} == {"1", "2"}
    names = {row["name"] for row in rows}
    assert {f"{name}/train/task" for name in ALL} <= names
    assert {f"{name}/selected" for name in ALL} <= names


def test_teachers_are_not_trained_on_their_own_targets(tiny: TinyArtefacts, tmp_path: Path) -> None:
    """New labels in one video change the teachers of other videos only."""
    data = tiny_data()
    labels = data.labels_N.copy()
    touched = np.array(data.videos) == "v2"
    labels[touched] = np.where(labels[touched] > 0, -3, 3)
    write_aligned(tmp_path / "c.h5", replace(data, labels_N=labels))
    pretrain(TINY, tmp_path / "c.h5", tmp_path / "p", tmp_path / "s")
    before, after = read_outputs(tiny.pretrained()), read_outputs(tmp_path / "p")
    assert equal(before["teacher"][:, touched], after["teacher"][:, touched])
    moved = before["teacher"] != after["teacher"]
    others = read_corpus(tiny.aligned()).split_N == "train"
    others &= ~touched
    # Of three folds two do not leave the video out: their left-out utterances move.
    assert 0.3 < moved[:, others].mean() < 0.9
    trained = np.isfinite(before["prediction"])
    assert (before["prediction"] != after["prediction"])[trained].mean() > 0.9


def test_modalities_are_pretrained_independently(tiny: TinyArtefacts, tmp_path: Path) -> None:
    configuration = replace(TINY, modalities=("audio",))
    pretrain(configuration, tiny.aligned(), tmp_path / "p", tmp_path / "s")
    alone, together = read_outputs(tmp_path / "p"), read_outputs(tiny.pretrained())
    assert equal(alone["teacher"][:, :, 0], together["teacher"][:, :, 1])
    assert equal(alone["prediction"][:, :, 0], together["prediction"][:, :, 1])


def test_training_starts_from_pretrained_encoders(tiny: TinyArtefacts, tmp_path: Path) -> None:
    """With a learning rate near 0, the encoders of the model stay the pretrained ones."""
    still = tiny_configuration({"train": {"epochs": 1, "lr": 1e-12}})
    tiny.train(still, tmp_path)
    fresh = tiny_configuration(
        {"train": {"epochs": 1, "lr": 1e-12}, "pretrain": {"enabled": False}}
    )
    train(fresh, tiny.aligned(), tiny.pretrained(), tmp_path / "f", tmp_path / "s")
    for seed in (1, 2):
        given = load_file(tiny.pretrained() / f"seed-{seed}.safetensors")
        own = load_file(tmp_path / "m" / f"seed-{seed}.safetensors")
        other = load_file(tmp_path / "f" / f"seed-{seed}.safetensors")
        for index, name in enumerate(ALL):
            weight = given[f"{name}.convolution.weight_EIX"]
            target = f"encoders.{index}.convolution.weight_EIX"
            assert torch.allclose(own[target], weight)
            assert not torch.allclose(other[target], weight)


# ---- the same again ------------------------------------------------------------------------------


def test_a_job_is_reproducible(tiny: TinyArtefacts, tmp_path: Path) -> None:
    torch.rand(5)  # the state of torch's own generator does not matter
    tiny.train(TINY, tmp_path)
    assert read_files(tmp_path / "m") == read_files(tiny.model())
    pretrain(TINY, tiny.aligned(), tmp_path / "p", tmp_path / "s")
    assert read_files(tmp_path / "p") == read_files(tiny.pretrained())


def test_a_seed_does_not_depend_on_other_seeds(tiny: TinyArtefacts, tmp_path: Path) -> None:
    alone = tiny_configuration({"train": {"seeds": (2,)}})
    tiny.train(alone, tmp_path)
    found, together = read_outputs(tmp_path / "m"), read_outputs(tiny.model())
    assert found["prediction"][0] == pytest.approx(together["prediction"][1], abs=2e-3)
    assert np.abs(together["prediction"][0] - together["prediction"][1]).max() > 0.05


@pytest.mark.parametrize("epoch", [1, 2, 3])  # after 3 only the outputs are left to write
def test_an_interrupted_training_resumes_with_the_same_result(
    tiny: TinyArtefacts, tmp_path: Path, epoch: int
) -> None:
    recorder, again = Recorder(stop_after=epoch), Recorder()
    with pytest.raises(KeyboardInterrupt):
        tiny.train(TINY, tmp_path, recorder)
    assert not (tmp_path / "m").exists()
    tiny.train(TINY, tmp_path, again)
    assert again.starts == [("train", ("seed-1", "seed-2"), epoch)]
    assert [number for number, _ in again.epochs] == list(range(epoch + 1, 4))
    assert read_files(tmp_path / "m") == read_files(tiny.model())
    assert list((tmp_path / "s" / "tasks").iterdir()) == []


def test_interrupted_pretraining_resumes(tiny: TinyArtefacts, tmp_path: Path) -> None:
    recorder, again = Recorder(stop_after=3), Recorder()  # two epochs of text, one of audio
    with pytest.raises(KeyboardInterrupt):
        pretrain(TINY, tiny.aligned(), tmp_path / "p", tmp_path / "s", recorder)
    pretrain(TINY, tiny.aligned(), tmp_path / "p", tmp_path / "s", again)
    assert again.resumed_epoch == 1
    assert [(number, sorted(rows)[0]) for number, rows in again.epochs] == [
        (2, "audio/seed-1"),
        (1, "vision/seed-1"),
        (2, "vision/seed-1"),
    ]
    assert read_files(tmp_path / "p") == read_files(tiny.pretrained())


def test_another_configuration_does_not_resume_from_the_checkpoint(
    tiny: TinyArtefacts, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny.train(TINY, tmp_path, Recorder(2))
    other = tiny_configuration({"kd": {"lambda": 0.9}, "train": {"epochs": 1}})
    again = Recorder()
    tiny.train(other, tmp_path, again)
    assert again.resumed_epoch == 0
    assert len(again.epochs) == 1
    assert len(list((tmp_path / "s" / "tasks").iterdir())) == 1


def test_a_damaged_checkpoint_is_ignored(tiny: TinyArtefacts, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny.train(TINY, tmp_path, Recorder(2))
    (checkpoint,) = (tmp_path / "s").glob("tasks/*/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    again = Recorder()
    tiny.train(TINY, tmp_path, again)
    assert len(again.epochs) == 3
    assert read_files(tmp_path / "m") == read_files(tiny.model())


def test_a_failed_write_keeps_the_old_output(
    tiny: TinyArtefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "old").write_text("old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dhmd.training.jobs.write_history", full)
    with pytest.raises(DhmdError, match=r"cannot write .*m: .*No space left"):
        tiny.train(QUICK, tmp_path)
    assert read_files(tmp_path / "m") == {"old": b"old"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_last_line_reports_score_seeds_and_folder(
    tiny: TinyArtefacts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    variants = {
        "gru": replace(QUICK, architecture="gru"),
        "mult": replace(QUICK, architecture="mult"),
    }
    with caplog.at_level("INFO", logger="dhmd"):
        pretrain(QUICK, tiny.aligned(), tmp_path / "p", tmp_path / "s")
        first = caplog.messages[-1]
        train(QUICK, tiny.aligned(), tmp_path / "p", tmp_path / "m", tmp_path / "s")
        second = caplog.messages[-1]
        ablate(variants, tiny.aligned(), tmp_path / "p", tmp_path / "a", tmp_path / "s")
    number = r"-?\d\.\d{4}"
    scores = rf"mae {number}, corr {number} \(2 seeds\)"
    each = "; ".join(f"{name} {scores}" for name in ALL)
    assert re.fullmatch(rf"pretrain: validation {each}, written to .*/p", first)
    assert re.fullmatch(rf"train: validation {scores}, written to .*/m", second)
    best = rf"ablate: best of 2 on validation is (gru|mult), {scores}, written to .*/a"
    assert re.fullmatch(best, caplog.messages[-1])
    rows = list(csv.DictReader((tmp_path / "m" / "history.csv").open()))
    errors = [float(row["value"]) for row in rows if row["name"] == "valid/mae"]
    assert f"mae {np.mean(errors):.4f}" in second


# ---- what may go wrong ---------------------------------------------------------------------------


def test_a_diverged_seed_does_not_change_the_others(tiny: TinyArtefacts, tmp_path: Path) -> None:
    """Seed 1 starts from encoders of NaN."""
    broken = copy_folder(tiny.pretrained(), tmp_path / "p")
    tensors = load_file(broken / "seed-1.safetensors")
    save_file({k: v * torch.nan for k, v in tensors.items()}, broken / "seed-1.safetensors")
    recorder = Recorder()
    train(TINY, tiny.aligned(), broken, tmp_path / "m", tmp_path / "s", recorder)
    found, whole = read_outputs(tmp_path / "m"), read_outputs(tiny.model())
    for name in ("prediction", "vertex/homogeneous", "edges/heterogeneous", "missing/text"):
        assert np.isnan(found[name][0]).all(), name
        assert equal(found[name][1], whole[name][1]), name
    other = (tmp_path / "m" / "seed-2.safetensors").read_bytes()
    assert other == (tiny.model() / "seed-2.safetensors").read_bytes()
    rows = list(csv.DictReader((tmp_path / "m" / "history.csv").open()))
    own = [row for row in rows if row["seed"] == "1"]
    assert [(row["name"], row["epoch"]) for row in own] == [("diverged", "1")]
    assert all(set(seen) == {"seed-2"} for _, seen in recorder.epochs)


def test_a_diverged_teacher_is_refused(tiny: TinyArtefacts, tmp_path: Path) -> None:
    import h5py

    broken = copy_folder(tiny.pretrained(), tmp_path / "p")
    with h5py.File(broken / "outputs.h5", "a") as file:
        file["teacher"][1, :8, 2] = np.nan
    with pytest.raises(DhmdError, match=r"vision.*seed-2"):
        train(QUICK, tiny.aligned(), broken, tmp_path / "m", tmp_path / "s")


def test_encoders_of_other_data_seeds_shapes_or_modalities_are_refused(
    tiny: TinyArtefacts, tmp_path: Path
) -> None:
    given, cache = tiny.pretrained(), tiny.aligned()

    def refused(configuration: Configuration, pretrained: Path, words: str) -> None:
        with pytest.raises(DhmdError, match=words):
            train(configuration, cache, pretrained, tmp_path / "m", tmp_path / "s")
        assert not (tmp_path / "m").exists()

    refused(TINY, tiny.pretrained("classification"), "other data or seeds")
    refused(tiny_configuration({"train": {"seeds": (1, 9)}}), given, "other data or seeds")
    refused(tiny_configuration({"model": {"width": 16}}), given, "does not fit the model")
    refused(TINY, tmp_path / "nowhere", "is no model folder")
    pretrain(replace(TINY, modalities=("text",)), cache, tmp_path / "p", tmp_path / "s")
    refused(TINY, tmp_path / "p", "audio")
    broken = copy_folder(given, tmp_path / "broken")
    data = (broken / "outputs.h5").read_bytes()
    (broken / "outputs.h5").write_bytes(data[: len(data) // 2])
    refused(TINY, broken, "outputs.h5.*truncated")


def test_a_modality_missing_from_the_corpus_is_refused(tiny: TinyArtefacts, tmp_path: Path) -> None:
    data = tiny_data()
    few = replace(
        data,
        modalities=("text", "audio"),
        features={k: v for k, v in data.features.items() if k != "vision"},
        feature_names={k: v for k, v in data.feature_names.items() if k != "vision"},
        present_NM=np.ones((len(data.ids), 2), dtype=bool),
    )
    write_aligned(tmp_path / "c.h5", few)
    with pytest.raises(DhmdError, match="no vision"):
        pretrain(TINY, tmp_path / "c.h5", tmp_path / "p", tmp_path / "s")


def test_labels_of_the_test_split_change_nothing(tiny: TinyArtefacts, tmp_path: Path) -> None:
    data = tiny_data()
    labels = np.where(data.folds["standard"] == "test", 0.5, data.labels_N).astype(np.float32)
    write_aligned(tmp_path / "c.h5", replace(data, labels_N=labels))
    pretrain(TINY, tmp_path / "c.h5", tmp_path / "p", tmp_path / "s")
    train(TINY, tmp_path / "c.h5", tmp_path / "p", tmp_path / "m", tmp_path / "s")
    found, expected = read_outputs(tmp_path / "m"), read_outputs(tiny.model())
    assert found.keys() == expected.keys()
    for name in set(found) - {"attributes", "ids", "split"}:
        assert equal(found[name], expected[name]), name


def test_training_beats_the_median_label(tiny: TinyArtefacts, tmp_path: Path) -> None:
    longer = tiny_configuration(
        {
            "train": {"epochs": 12, "lr": 0.03, "modality_dropout": 0.0, "seeds": (1,)},
            "model": {"dropout": {"output": 0.0}},
        }
    )
    tiny.train(longer, tmp_path)
    corpus = read_corpus(tiny.aligned(), test_labels=True)
    test = corpus.index("test")
    error = np.abs(
        read_outputs(tmp_path / "m")["prediction"][:, test] - corpus.labels_N[test]
    ).mean(1)
    naive = np.abs(np.median(corpus.labels_N) - corpus.labels_N[test]).mean()
    assert (error < 0.7 * naive).all(), (error, naive)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_refused(tiny: TinyArtefacts, tmp_path: Path) -> None:
    configuration = tiny_configuration({"compute": {"device": "cuda"}})
    with pytest.raises(DhmdError, match=r"compute\.device is cuda, but torch sees no GPU"):
        tiny.train(configuration, tmp_path)


def test_a_missing_aligned_file_is_refused(tiny: TinyArtefacts, tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match=r"nothing\.h5"):
        train(TINY, tmp_path / "nothing.h5", tiny.pretrained(), tmp_path / "m", tmp_path / "s")
