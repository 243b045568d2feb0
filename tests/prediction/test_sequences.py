"""Input files and segments of `.csd` folders, and features that do not fit the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import AlignConfig, Origin
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.csd import write_sequence
from dhmd.prediction.model import Model
from dhmd.prediction.sequences import find_files, pause_segments, read_segments
from tests.prediction.corpora import Pipeline, change

MODALITIES = ("text", "audio")


def origin(reference: str = "words", **files: str) -> Origin:
    audio = {} if reference == "vectors" else {"audio": "acoustic"}
    modalities = {"text": "vectors", **audio}
    return Origin(
        modalities=modalities, reference=reference, files=files, align=AlignConfig(), epsilon=1e-5
    )


def with_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_files_are_found_by_sequence_and_by_name_at_the_source(tmp_path: Path) -> None:
    with_files(tmp_path, "words.csd", "COVAREP.csd", "labels.csd", "notes.txt")
    files = find_files(tmp_path, origin(acoustic="COVAREP.csd", vectors="GloVe.csd"), MODALITIES)
    assert files.paths == {
        "words": tmp_path / "words.csd",
        "acoustic": tmp_path / "COVAREP.csd",
    }
    assert files.modalities == ("audio",)
    assert files.missing == {"text": "vectors.csd or GloVe.csd"}


def test_an_ambiguous_name_is_not_used(tmp_path: Path) -> None:
    with_files(tmp_path, "words.csd", "features.csd")
    shared = origin(acoustic="features.csd", vectors="features.csd")
    with pytest.raises(DhmdError, match=r"add at least one of vectors\.csd, acoustic\.csd"):
        find_files(tmp_path, shared, MODALITIES)
    # The name of the words' own sequence cannot be another sequence's file.
    files = find_files(
        with_files(tmp_path, "vectors.csd"), origin(acoustic="words.csd"), MODALITIES
    )
    assert files.modalities == ("text",)


def test_text_may_be_the_reference_sequence(tmp_path: Path) -> None:
    reference_origin = origin(reference="vectors")
    files = find_files(with_files(tmp_path, "vectors.csd"), reference_origin, ("text",))
    assert files.paths == {"vectors": tmp_path / "vectors.csd"}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "no file that the model reads: words.csd, vectors.csd, acoustic.csd or A.csd"),
        (("vectors.csd",), "has no words.csd: add the words"),
        (("words.csd",), "add at least one of vectors.csd, acoustic.csd or A.csd"),
        (("words.csd", "acoustic.csd", "A.csd"), "both acoustic.csd and A.csd"),
    ],
)
def test_unusable_directories_are_refused(
    tmp_path: Path, names: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(DhmdError, match=sentence):
        find_files(with_files(tmp_path, *names), origin(acoustic="A.csd"), MODALITIES)


def test_an_unknown_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match="has no sequence of vision"):
        find_files(tmp_path, origin(), ("vision",))


# Segments


def test_segments_of_a_csv_keep_the_order_of_their_video(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b"start,end,video\r\n2,4.5,b\r\n0,1,a\r\n\r\n1,2,b\r\n")
    segments = read_segments(tmp_path / "s.csv")
    assert {video: rows.tolist() for video, rows in segments.items()} == {
        "b": [[2.0, 4.5], [1.0, 2.0]],
        "a": [[0.0, 1.0]],
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "video, start, end, each once"),
        ("video,begin,end\na,0,1\n", "header is 'video,begin,end'"),
        ("video,start,end\n", "has no segment"),
        ("video,start,end\na,0\n", "line 2 has 2 cells, but must have 3"),
        ("video,start,end\na,0,1\n ,0,1\n", "line 3 has an empty cell in the column video"),
        ("video,start,end\na,0,soon\n", "line 2: end is 'soon', but must be a finite number"),
        ("video,start,end\na,nan,1\n", "line 2: start is 'nan'"),
        ("video,start,end\na,0,inf\n", "line 2: end is 'inf'"),
        ("video,start,end\na,3,2\n", "line 2: the segment ends at 2, before it starts at 3"),
        ('video,start,end\n"a,0,1\n', "not readable as CSV"),
    ],
)
def test_invalid_segments_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DhmdError, match=sentence) as caught:
        read_segments(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "s.csv", tmp_path / "absent.csv", tmp_path):
        with pytest.raises(DhmdError, match=f"{path} is no"):
            read_segments(path)
    (tmp_path / "s.csd").write_bytes(b"no HDF5")
    with pytest.raises(DhmdError, match="not a whole HDF5 file"):
        read_segments(tmp_path / "s.csd")


def sequence(path: Path, entries: dict[str, list[list[float]]]) -> Path:
    write_sequence(
        path,
        root_name="x",
        entries=(
            (video, np.zeros((len(rows), 1)), np.array(rows, dtype=float).reshape(-1, 2))
            for video, rows in entries.items()
        ),
        metadata=None,
    )
    return path


def test_segments_of_a_csd_keep_their_order(tmp_path: Path) -> None:
    path = sequence(tmp_path / "s.csd", {"v": [[3, 4], [1, 2]]})
    assert {v: rows.tolist() for v, rows in read_segments(path).items()} == {"v": [[3, 4], [1, 2]]}
    with pytest.raises(DhmdError, match="split into entries"):
        read_segments(sequence(tmp_path / "t.csd", {"v[0]": [[3, 4]]}))


def test_videos_are_divided_at_pauses(tmp_path: Path) -> None:
    spoken = [["so", 0, 0.4], ["sp", 0.4, 0.8], ["good", 0.8, 1], ["sp", 1, 1.6], ["bad", 1.6, 2]]
    spoken += [["end", 2.4, 3], ["late", 3.6, 4], ["short", 4, 4]]
    write_sequence(
        tmp_path / "w.csd",
        root_name="words",
        entries=[
            (
                "v",
                np.array([[word] for word, _, _ in spoken], dtype=object),
                np.array([times for _, *times in spoken], dtype=float),
            )
        ],
        metadata=None,
    )
    # Video w has no words, x no rows at all.
    sequence(tmp_path / "a.csd", {"v": [[0, 9]], "w": [[0.5, 1], [2, 5]], "x": []})
    paths = {"words": tmp_path / "w.csd", "audio": tmp_path / "a.csd"}
    with Sequences(paths, paths) as sequences:
        segments = pause_segments(sequences, "words", ["words", "audio"], 50)
        short = pause_segments(sequences, "words", ["words", "audio"], 1)
    assert {video: rows.tolist() for video, rows in segments.items()} == {
        "v": [[0, 1], [1.6, 3], [3.6, 4]],
        "w": [[0.5, 5]],
        "x": [[0, 0]],
    }
    # A segment of too many words is divided at its longest pause.
    assert short["v"].tolist() == [[0, 0.4], [0.8, 1], [1.6, 2], [2.4, 3], [3.6, 4]]


# Features


def replace_words_by_numbers(folder: Path) -> None:
    change(folder / "words.csd", lambda _, rows, times: (np.ones((len(rows), 1)), times))


def replace_audio_by_words(folder: Path) -> None:
    (folder / "acoustic.csd").write_bytes((folder / "words.csd").read_bytes())


def remove_columns(folder: Path) -> None:
    change(folder / "visual.csd", lambda _, rows, times: (rows[:, :5], times))


def rename_a_column(folder: Path) -> None:
    change(folder / "visual.csd", names=lambda names: (names[0], "brow", *names[2:]))


def truncate_text(folder: Path) -> None:
    content = (folder / "vectors.csd").read_bytes()
    (folder / "vectors.csd").write_bytes(content[: len(content) // 2])


def remove_columns_of_one_entry(folder: Path) -> None:
    change(
        folder / "visual.csd",
        lambda video, rows, times: (rows[:, :3] if video == "255224" else rows, times),
    )


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (replace_words_by_numbers, r"words\.csd has numbers where the model expects words"),
        (
            replace_audio_by_words,
            r"acoustic\.csd has words where the model expects numbers for audio",
        ),
        (
            remove_columns,
            r"visual\.csd has 5 columns, but the model was trained on 28 columns of vision",
        ),
        (rename_a_column, r"visual\.csd has 'brow' as column 1, but the model was trained on '"),
        (truncate_text, r"vectors\.csd: not a whole HDF5 file"),
        (remove_columns_of_one_entry, r"visual\.csd: entry '255224' has 3 columns of numbers"),
    ],
)
def test_features_that_do_not_fit_the_model_are_refused(
    trained: Pipeline, tmp_path: Path, damage: Callable[[Path], Any], sentence: str
) -> None:
    folder = trained.inputs(tmp_path / "new")
    damage(folder)
    with pytest.raises(DhmdError, match=sentence):
        Model(trained.model).run(folder)


def test_columns_without_names_are_accepted_with_a_warning(
    trained: Pipeline, tmp_path: Path
) -> None:
    folder = trained.inputs(tmp_path / "new")
    path = folder / "visual.csd"
    change(path, names=lambda _: None)
    predicted = Model(trained.model).run(folder)
    assert predicted.notes[0] == (
        f"{path} has no column names, so the order of its columns is not checked"
    )
    named = Model(trained.model).run(trained.inputs(tmp_path / "named"))
    assert_frame_equal(predicted.table(), named.table())


def test_a_video_with_only_words_is_left_out(trained: Pipeline, tmp_path: Path) -> None:
    folder = trained.inputs(tmp_path / "new", "words", "acoustic")
    change(
        folder / "acoustic.csd",
        lambda video, rows, times: None if video == "25522" else (rows, times),
    )
    predicted = Model(trained.model).run(folder)
    assert any("segments are empty and left out (25522[0]: no " in n for n in predicted.notes)
    assert "25522[0]" not in predicted.table().index


def test_features_of_another_extractor_are_refused_by_name(
    trained: Pipeline, tmp_path: Path
) -> None:
    opensmile = {"name": "openSMILE", "version": "3.0.2", "settings": {"set": "eGeMAPSv02"}}
    folder = trained.inputs(tmp_path / "new")
    expected = Model(trained.model).run(folder).table()
    change(folder / "acoustic.csd", metadata={"extractor": opensmile})
    with pytest.raises(
        DhmdError,
        match=r"acoustic\.csd has features of openSMILE 3\.0\.2 \(set eGeMAPSv02\), but.* "
        r"trained on Tiny_acoustic\.csd, .*COVAREP and FACET cannot be applied to new videos",
    ):
        Model(trained.model).run(folder)
    # A model that was trained on such features reads no others.
    model = shutil.copytree(trained.model, tmp_path / "model")
    content = json.loads((model / "model.json").read_text())
    content["origin"]["extractors"] = {"acoustic": opensmile}
    (model / "model.json").write_text(json.dumps(content))
    assert_frame_equal(Model(model).run(folder).table(), expected)
    older = opensmile | {"version": "2.9"}
    change(folder / "acoustic.csd", metadata={"extractor": older})
    with pytest.raises(DhmdError, match=r"openSMILE 2\.9 .* but features of openSMILE 3\.0\.2"):
        Model(model).run(folder)
