"""People's own arrays, ragged or padded, from .npz and .h5."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.formats.files import array_splits
from tests.formats.recipes import arrays_recipe, imported, refused


def write(folder: Path, content: dict, suffix: str = "npz") -> None:
    for split, part in content.items():
        path = folder / f"{split}.{suffix}"
        if suffix == "npz":
            np.savez_compressed(path, **part)
            continue
        with h5py.File(path, "w") as file:
            for key, value in part.items():
                text = value.dtype.kind == "U"
                file.create_dataset(key, data=value.tolist() if text else value)


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("padded", [False, True])
def test_splits_are_read(tmp_path, suffix, padded):
    content = array_splits(padded=padded)
    write(tmp_path, content, suffix)
    corpus = imported(arrays_recipe(suffix), tmp_path)
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


def test_unaligned_arrays(tmp_path):
    content = array_splits()
    for part in content.values():
        part["audio"] = np.repeat(part["audio"], 2, axis=0)
        part["audio_offsets"] = part["audio_offsets"] * 2
    write(tmp_path, content)
    message = refused(arrays_recipe(), tmp_path)
    assert "'train0[0]' has" in message
    assert "set data.alignment to none, or align them (22 such)" in message.split(";")[0]
    corpus = imported(arrays_recipe(), tmp_path, alignment="none")
    assert np.array_equal(corpus.features["audio"].lengths, 2 * corpus.features["vision"].lengths)


def changed(key, change):
    def apply(part):
        part[key] = change(part[key])

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda part: part.pop("labels"), "has no array 'labels'; it has"),
        (lambda part: part.pop("ids"), "has no array 'ids'"),
        (lambda part: part.pop("audio"), "has no array 'audio'"),
        (lambda part: part.pop("audio_offsets"), "has no array 'audio_offsets'"),
        (changed("audio_offsets", lambda x: x[::-1]), "audio_offsets do not run from 0 to"),
        (changed("audio_offsets", lambda x: x[:-1]), "audio_offsets do not run from 0 to"),
        (changed("audio_offsets", lambda x: x + 0.5), "are no whole numbers"),
        (changed("audio", lambda x: x[:, 0]), "expected 2 axes"),
        (changed("audio", lambda x: x.astype(str)), "holds text where numbers"),
        (changed("audio", lambda x: x[:, :3]), "audio has 3 values a row, but"),
        (changed("labels", lambda x: x[1:]), "ids, but"),
        (changed("labels", lambda x: x + 100), "allows -3 to 3"),
        (changed("ids", lambda x: np.arange(len(x))), "ids holds int where texts"),
        (changed("ids", lambda x: np.array(["v"] * len(x))), "the id 'v' is not video[i]"),
        (changed("ids", lambda x: np.array(["v[0]"] * len(x))), "the id 'v[0]' comes twice"),
        (changed("words", lambda x: x[:-1]), "words for"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, change, said):
    content = array_splits()
    change(content["valid"])
    write(tmp_path, content)
    assert said in refused(arrays_recipe(), tmp_path)


def test_padded_lengths_are_checked(tmp_path):
    content = array_splits(padded=True)
    content["train"]["audio_lengths"] = content["train"]["audio_lengths"] + 10
    write(tmp_path, content)
    assert "audio_lengths are not within 0 to 6" in refused(arrays_recipe(), tmp_path)


def test_objects_in_an_npz_are_refused(tmp_path):
    content = array_splits()
    write(tmp_path, content)
    part = content["train"]
    part["words"] = part["words"].astype(object)
    np.savez(tmp_path / "train.npz", **part)
    assert "words.npy holds objects, which are refused" in refused(arrays_recipe(), tmp_path)


def test_header_that_promises_ten_gigabytes_is_refused(tmp_path):
    write(tmp_path, array_splits())
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10)}
    )
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        archive.writestr("ids.npy", header.getvalue() + b"short")
    assert "ids.npy is damaged: its size is wrong" in refused(arrays_recipe(), tmp_path)


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_truncated_files_are_refused(tmp_path, suffix):
    write(tmp_path, array_splits(), suffix)
    path = tmp_path / f"valid.{suffix}"
    path.write_bytes(path.read_bytes()[:-300])
    assert f"cannot read {path} as arrays" in refused(arrays_recipe(suffix), tmp_path)
    path.unlink()
    assert f"cannot read {path} as arrays" in refused(arrays_recipe(suffix), tmp_path)


def test_words_are_dropped_with_their_rows(tmp_path):
    content = array_splits()
    content["train"]["words"] = content["train"]["words"].astype("U3")
    content["train"]["words"][1] = "sp"
    content["train"]["words"][2:3] = "sp"
    write(tmp_path, content)
    whole = imported(arrays_recipe(), tmp_path)
    corpus = imported(arrays_recipe(), tmp_path, drop_words=("sp",), empty_segments="keep")
    assert corpus.report["counts"]["words_dropped"] == 2
    for modality in ("text", "audio", "vision"):
        expected = np.delete(whole.features[modality].values, [1, 2], axis=0)
        assert np.array_equal(corpus.features[modality].values, expected)
    loose = imported(
        arrays_recipe(), tmp_path, alignment="none", drop_words=("sp",), empty_segments="keep"
    )
    assert len(loose.features["text"].values) == len(whole.features["text"].values) - 2
    assert len(loose.features["audio"].values) == len(whole.features["audio"].values)
    for part in content.values():
        del part["words"]
    write(tmp_path, content)
    (tmp_path / "tiny.h5").unlink()
    message = refused(arrays_recipe(), tmp_path, drop_words=("sp",))
    assert message == (
        "align.drop_words is ['sp'], but the files of tiny hold no words: set it to []"
    )
