"""Users' arrays, concatenated or padded, in .npz and .h5 files."""

from __future__ import annotations

import zipfile

import h5py
import numpy as np
import pytest

from tests.data.formats.files import array_splits, write_arrays
from tests.data.formats.recipes import arrays_recipe, error_message, import_files


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("padded", [False, True])
def test_splits_are_read(tmp_path, suffix, padded):
    content = array_splits(padded=padded)
    write_arrays(tmp_path, content, suffix)
    corpus = import_files(arrays_recipe(suffix), tmp_path)
    assert corpus.ids == tuple(i for part in content.values() for i in part["ids"])
    assert np.allclose(corpus.labels_N, np.concatenate([p["labels"] for p in content.values()]))
    n = 0
    for part in content.values():
        for i in range(len(part["ids"])):
            if padded:
                expected = part["audio"][i, : part["audio_lengths"][i]]
            else:
                expected = part["audio"][part["audio_offsets"][i] : part["audio_offsets"][i + 1]]
            assert np.allclose(corpus.features["audio"][n], expected)
            n += 1
    assert corpus.feature_names["audio"] == ("f0", "f1", "f2", "f3", "f4")
    assert corpus.feature_names["text"][0] == "text_0"
    assert all(word == "so" for words in corpus.words for word in words)
    assert [len(words) for words in corpus.words] == corpus.features["text"].lengths.tolist()


def test_unaligned_arrays_require_alignment_none(tmp_path):
    content = array_splits()
    for part in content.values():
        part["audio"] = np.repeat(part["audio"], 2, axis=0)
        part["audio_offsets"] = part["audio_offsets"] * 2
    write_arrays(tmp_path, content)
    message = error_message(arrays_recipe(), tmp_path)
    assert "'train0[0]' has" in message
    assert "set data.alignment to none, or align them (22 in total)" in message.split(";")[0]
    corpus = import_files(arrays_recipe(), tmp_path, alignment="none")
    assert np.array_equal(corpus.features["audio"].lengths, 2 * corpus.features["vision"].lengths)


def changed(key, change):
    def apply(part):
        part[key] = change(part[key])

    return apply


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda part: part.pop("labels"), "has no array 'labels'; it has"),
        (lambda part: part.pop("ids"), "has no array 'ids'"),
        (lambda part: part.pop("audio"), "has no array 'audio'"),
        (lambda part: part.pop("audio_offsets"), "has no array 'audio_offsets'"),
        (changed("audio_offsets", lambda x: x[::-1]), "ascending numbers from 0 to"),
        (changed("audio_offsets", lambda x: x[:-1]), "ascending numbers from 0 to"),
        (changed("audio_offsets", lambda x: x + 0.5), "are not whole numbers"),
        (changed("audio", lambda x: x[:, 0]), "must have 2 axes"),
        (changed("audio", lambda x: x[:, :3]), "audio has 3 columns, but audio_names has 5"),
        (changed("text", lambda x: x[:, :3]), "'valid0[0]' has 3 values per step, but 8"),
        (changed("labels", lambda x: x[1:]), "must have shape [4], one label per utterance"),
        (changed("labels", lambda x: x + 100), "allows -3 to 3"),
        (
            changed("ids", lambda x: np.array("v[0]")),
            "ids is of type str, but must be a list of text",
        ),
        (changed("ids", lambda x: np.array(["v"] * len(x))), "the id 'v' is not video[i]"),
        (changed("ids", lambda x: np.array(["v[0]"] * len(x))), "the id 'v[0]' occurs twice"),
        (changed("words", lambda x: x[:-1]), "words for"),
    ],
)
def test_invalid_arrays_are_errors(tmp_path, change, expected):
    content = array_splits()
    change(content["valid"])
    write_arrays(tmp_path, content)
    assert expected in error_message(arrays_recipe(), tmp_path)


def test_padded_lengths_are_checked(tmp_path):
    content = array_splits(padded=True)
    content["train"]["audio_lengths"] = content["train"]["audio_lengths"] + 10
    write_arrays(tmp_path, content)
    assert "audio_lengths are not within 0 to 6" in error_message(arrays_recipe(), tmp_path)


def test_objects_in_an_npz_are_errors(tmp_path):
    content = array_splits()
    content["train"]["words"] = content["train"]["words"].astype(object)
    write_arrays(tmp_path, content)
    assert "Object arrays cannot be loaded" in error_message(arrays_recipe(), tmp_path)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [("npz", "cannot read {} as arrays ("), ("h5", "{}: not a whole HDF5 file")],
)
def test_truncated_files_are_errors(tmp_path, suffix, expected):
    write_arrays(tmp_path, array_splits(), suffix)
    path = tmp_path / f"valid.{suffix}"
    path.write_bytes(path.read_bytes()[:-300])
    assert error_message(arrays_recipe(suffix), tmp_path).startswith(expected.format(path))
    path.unlink()
    assert str(path) in error_message(arrays_recipe(suffix), tmp_path)


def test_words_are_dropped_with_their_rows(tmp_path):
    content = array_splits()
    content["train"]["words"] = content["train"]["words"].astype("U3")
    content["train"]["words"][1:3] = "sp"
    write_arrays(tmp_path, content)
    whole = import_files(arrays_recipe(), tmp_path)
    corpus = import_files(arrays_recipe(), tmp_path, drop_words=("sp",), empty_segments="keep")
    assert corpus.report["counts"]["words_dropped"] == 2
    for modality in ("text", "audio", "vision"):
        expected = np.delete(whole.features[modality].values, [1, 2], axis=0)
        assert np.array_equal(corpus.features[modality].values, expected)
    unaligned = import_files(
        arrays_recipe(), tmp_path, alignment="none", drop_words=("sp",), empty_segments="keep"
    )
    assert len(unaligned.features["text"].values) == len(whole.features["text"].values) - 2
    assert len(unaligned.features["audio"].values) == len(whole.features["audio"].values)
    for part in content.values():
        del part["words"]
    write_arrays(tmp_path, content)
    message = error_message(arrays_recipe(), tmp_path, drop_words=("sp",))
    assert message == (
        "align.drop_words is ['sp'], but the files of tiny have no words: "
        "set align.drop_words to []"
    )


def test_an_hdf5_file_with_an_external_link_is_an_error(tmp_path):
    write_arrays(tmp_path, array_splits(), "h5")
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["audio"] = h5py.ExternalLink(str(tmp_path / "valid.h5"), "/audio")
    assert "'audio' is a link, which is not allowed" in error_message(arrays_recipe("h5"), tmp_path)


def test_a_damaged_array_in_an_npz_is_an_error(tmp_path):
    content = array_splits()
    write_arrays(tmp_path, content)
    path = tmp_path / "train.npz"
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("audio.npy").header_offset + 30 + len("audio.npy")
    data = bytearray(path.read_bytes())
    data[start + 20 : start + 60] = b"\xff" * 40
    path.write_bytes(bytes(data))
    message = error_message(arrays_recipe(), tmp_path)
    assert message.startswith(f"cannot read {path} as arrays (Error -3 while decompressing")
    assert message.endswith("): download or write it again")


def test_a_regression_of_whole_numbers_is_a_warning(tmp_path):
    content = array_splits()
    for part in content.values():
        part["labels"] = np.arange(len(part["labels"])) % 4
    write_arrays(tmp_path, content)
    warnings = " ".join(import_files(arrays_recipe(), tmp_path).report["warnings"])
    assert "all labels are non-negative whole numbers, and the task is regression" in warnings
