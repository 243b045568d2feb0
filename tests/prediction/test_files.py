"""Which file is which sequence, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import AlignConfig, Origin
from dhmd.prediction.files import find_files

MODALITIES = ("text", "audio")


def origin(**files: str) -> Origin:
    return Origin(
        modalities={"text": "vectors", "audio": "acoustic"},
        reference="words",
        files=files,
        align=AlignConfig(),
        epsilon=1e-5,
    )


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_sequence_names_and_names_at_the_source(tmp_path: Path) -> None:
    filled(tmp_path, "words.csd", "COVAREP.csd", "labels.csd", "notes.txt")
    found = find_files(tmp_path, origin(acoustic="COVAREP.csd", vectors="GloVe.csd"), MODALITIES)
    assert found.paths == {
        "words": tmp_path / "words.csd",
        "acoustic": tmp_path / "COVAREP.csd",
    }
    assert found.modalities == ("audio",)
    assert found.missing == {"text": "vectors.csd or GloVe.csd"}


def test_a_name_that_does_not_tell_sequences_apart_is_none(tmp_path: Path) -> None:
    filled(tmp_path, "words.csd", "features.csd")
    shared = origin(acoustic="features.csd", vectors="features.csd")
    with pytest.raises(DhmdError, match=r"add at least one of vectors\.csd, acoustic\.csd"):
        find_files(tmp_path, shared, MODALITIES)
    # The words' own name is no other sequence's.
    found = find_files(filled(tmp_path, "vectors.csd"), origin(acoustic="words.csd"), MODALITIES)
    assert found.modalities == ("text",)


def test_a_text_sequence_may_be_the_reference_itself(tmp_path: Path) -> None:
    own = Origin(
        modalities={"text": "vectors"},
        reference="vectors",
        files={},
        align=AlignConfig(),
        epsilon=1e-5,
    )
    found = find_files(filled(tmp_path, "vectors.csd"), own, ("text",))
    assert found.paths == {"vectors": tmp_path / "vectors.csd"}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "holds no file for the model: it reads words.csd, vectors.csd, acoustic.csd or A.csd"),
        (("vectors.csd",), "has no words.csd, whose rows are the words"),
        (("words.csd",), "add at least one of vectors.csd, acoustic.csd or A.csd"),
        (("words.csd", "acoustic.csd", "A.csd"), "both acoustic.csd and A.csd"),
    ],
)
def test_what_cannot_do_is_refused(tmp_path: Path, names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(DhmdError, match=sentence):
        find_files(filled(tmp_path, *names), origin(acoustic="A.csd"), MODALITIES)


def test_a_folder_is_needed(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", filled(tmp_path, "file") / "file"):
        with pytest.raises(DhmdError, match="is no folder"):
            find_files(path, origin(), MODALITIES)


def test_a_modality_that_the_origin_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match="names no sequence of vision"):
        find_files(tmp_path, origin(), ("vision",))
