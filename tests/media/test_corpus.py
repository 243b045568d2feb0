"""Labels, folds and the recipe of a folder of videos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.data.alignment import CorpusJob, align_corpus
from dhmd.data.csd import open_sequence
from dhmd.data.formats.drafting import LabelOptions
from dhmd.media.corpus import assign_folds, label_values, read_labels
from dhmd.recipes import check_recipe_file, load_recipe
from dhmd.settings import load_params
from tests.media.conftest import skip_without, write_video

ROOT = Path(__file__).parents[2]
LABELS = """file,start,end,label,fold
talks/a b [x1].mp4,0,1.5,-2,train
talks/a b [x1].mp4,1.5,3,1.0,train
c.mov,,,3,valid

d.mp4,,,0,test
"""


def rows(folder: Path, text: str) -> dict:
    """Write a labels file, and read its rows."""
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return read_labels(folder / "labels.csv")


def values(folder: Path, labels: list[str], **task: object) -> tuple:
    """Return the classes and the label values of a labels file."""
    lines = [f"{n}.mp4,{label}" for n, label in enumerate(labels)]
    label_rows = rows(folder, "\n".join(["file,label", *lines]))
    options = LabelOptions(**task)  # type: ignore[arg-type]
    classes, values_by_video = label_values(label_rows, options, Path("l.csv"))
    return classes, [values_by_video[str(n)].item() for n in range(len(labels))]


def test_labels_belong_to_segments_or_whole_videos(tmp_path: Path) -> None:
    label_rows = rows(tmp_path, LABELS)
    assert list(label_rows) == ["a b (x1)", "c", "d"]
    assert [(row.start, row.end) for row in label_rows["a b (x1)"]] == [(0.0, 1.5), (1.5, 3.0)]
    assert label_rows["c"][0].start is None
    assert assign_folds(label_rows, (0.7, 0.1, 0.2), 1, tmp_path) == {
        "train": ["a b (x1)"],
        "valid": ["c"],
        "test": ["d"],
    }


def test_videos_are_assigned_by_seed(tmp_path: Path) -> None:
    label_rows = rows(tmp_path, "file,label\n" + "".join(f"{n}.mp4,{n}\n" for n in range(20)))
    first = assign_folds(label_rows, (0.7, 0.1, 0.2), 1, tmp_path)
    assert [len(videos) for videos in first.values()] == [14, 2, 4]
    assert sorted(video for videos in first.values() for video in videos) == sorted(label_rows)
    assert assign_folds(label_rows, (0.7, 0.1, 0.2), 1, tmp_path) == first
    assert assign_folds(label_rows, (0.7, 0.1, 0.2), 2, tmp_path) != first
    with pytest.raises(DhmdError, match=r"--fractions is 0\.7 0\.3 0"):
        assign_folds(label_rows, (0.7, 0.3, 0.0), 1, tmp_path)
    with pytest.raises(DhmdError, match="the split train has none of the 2 videos: add videos"):
        assign_folds({name: label_rows[name] for name in ("1", "2")}, (0.7, 0.1, 0.2), 1, tmp_path)


def test_labels_are_classes_or_values(tmp_path: Path) -> None:
    assert values(tmp_path, ["-1.5", "2"]) == ((), [-1.5, 2.0])
    assert values(tmp_path, ["sad", "happy", "sad"]) == (("happy", "sad"), [1.0, 0.0, 1.0])
    assert values(tmp_path, ["sad", "happy"], classes=("sad", "happy"))[1] == [0.0, 1.0]
    assert values(tmp_path, ["0", "1"], task="classification") == (("0", "1"), [0.0, 1.0])
    assert values(tmp_path, ["0", "1"], task="regression") == ((), [0.0, 1.0])
    assert values(tmp_path, ["1", "4", "5"], scale=(1.0, 5.0)) == ((), [-3.0, 1.5, 3.0])


@pytest.mark.parametrize(
    ("labels", "task", "sentence"),
    [
        (["0", "1"], {}, "may be classes or values: add --task classification or --task regr"),
        (["0.5", "7"], {}, "the label '7' is not a number from -3 to 3: give the range"),
        (["0.5", "x"], {"task": "regression"}, "the label 'x' is not a number"),
        (["a", "c"], {"classes": ("a", "b")}, "the label 'c' is not one of at least two classes"),
        (["a", "a"], {}, "the label 'a' is not one of at least two classes (a)"),
    ],
)
def test_invalid_labels_are_errors(tmp_path: Path, labels, task, sentence: str) -> None:
    with pytest.raises(DhmdError) as caught:
        values(tmp_path, labels, **task)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no row"),
        ("file,start\na,1\n", "has no column label"),
        ("file,label\n", "has no row"),
        ("file,label\na\n", "line 2 has 1 cells, but must have 2"),
        ("file,label\na,\n", "line 2 has an empty cell in the column label"),
        ("file,label,start,end\na,1,0,\n", "line 2 must have both start and end, or neither"),
        (
            "file,label,start,end\na,1,x,2\n",
            "line 2: start: 'x' is not a time in seconds",
        ),
        ("file,label,start,end\na,1,2,2\n", "line 2: the segment ends at 2 s, before it starts"),
        ("file,label\na,1\na,2\n", "line 3: a video with several rows must have start and end"),
        ("file,label,split\na,1,dev\n", "split is 'dev', but must be one of train, valid, test"),
        (
            "file,label,start,end,split\na,1,0,1,train\na,1,1,2,test\n",
            "line 3: all segments of a video must have the same split",
        ),
    ],
)
def test_invalid_lines_are_errors(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DhmdError) as caught:
        rows(tmp_path, text)
    assert sentence in str(caught.value)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "recipes" / "folds").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name in ("demo", "my_videos"):
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_videos_are_imported_and_aligned(repository: Path, say, face, capsys) -> None:
    skip_without("ffmpeg", "opensmile", "mediapipe", "pocketsphinx")
    videos = repository / "videos"
    videos.mkdir()
    texts = {"a": "I loved this film. It was great.", "b": "it was bad", "c": "it was okay"}
    for name, text in texts.items():
        sound = say(text)
        write_video(videos / f"{name}.mp4", [face] * round(len(sound) / 1600), sound)
        (videos / f"{name}.txt").write_text(text)
    labels = repository / "labels.csv"
    labels.write_text(
        "file,start,end,label,split\na.mp4,0,1.3,5,train\na.mp4,1.3,3,4,train\n"
        "b.mp4,,,1,valid\nc.mp4,,,3,test\nabsent.mp4,,,3,test\n"
    )
    command = ["import", "videos", "videos", "--labels", "labels.csv", "--label-range", "1", "5"]
    command += ["--dataset", "talks"]
    assert main(command) == 1
    assert "line 6: videos has no file for the video 'absent'" in capsys.readouterr().err
    assert not (repository / "recipes" / "talks.yaml").exists()
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    assert main(command) == 0
    assert "dvc exp run -S 'datasets=[talks]'" in capsys.readouterr().out
    check_recipe_file("talks", repository)
    recipe = load_recipe("talks", repository)
    assert (recipe.labels.low, recipe.labels.high, recipe.text_is_words) == (-3.0, 3.0, True)
    assert recipe.sequences["audio"].sha256 is not None
    assert recipe.align["max_steps"] >= 4
    folds = repository / "recipes" / "folds" / "talks.json"
    assert json.loads(folds.read_text()) == {"train": ["a"], "valid": ["b"], "test": ["c"]}
    placed = repository / "data" / "placed" / "talks"
    with open_sequence(placed / "labels.csd") as sequence:
        assert np.allclose(sequence.read("a").features[:, 0], [3.0, 1.5])
        assert sequence.read("b").features.item() == -3.0
        assert sequence.read("b").intervals[0, 1] > 0.5
    # It is a corpus that aligns; audio and vision here, since text needs an encoder.
    modalities = {name: recipe.modalities[name] for name in ("audio", "vision")}
    job = CorpusJob(
        recipe=replace(recipe, modalities=modalities),
        paths={name: placed / f"{name}.csd" for name in recipe.sequences},
        align=load_params(repository).for_dataset("talks").align,
        alignment="word",
        folds_path=folds,
    )
    report = align_corpus(job, repository / "talks.h5")
    assert report["segments"] == 4
    # Own settings of the recipe stay when more videos come.
    path = repository / "recipes" / "talks.yaml"
    path.write_text(path.read_text().replace("epochs: 48", "epochs: 7  # short"))
    assert main(command) == 0
    assert "epochs: 7  # short" in path.read_text()
