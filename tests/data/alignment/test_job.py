"""`Origin`: align files to predict like the corpus of a model."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import AlignConfig, CorpusJob, EncoderSource, Origin, Sequences
from tests.data.alignment.files import generated_recipe

CONFIG = AlignConfig(
    drop_words=("sp", "uh"),
    max_steps=7,
    max_steps_unaligned={"text": 5, "audio": 6, "vision": 8},
    truncate="last",
    empty_segments="keep",
)


def job() -> CorpusJob:
    """Return the job of aligning a corpus whose files do not exist."""
    names = ("words", "vectors", "acoustic", "visual", "labels")
    recipe = generated_recipe(sequences={n: {"path": f"Corpus/deep/{n}_v2.csd"} for n in names})
    return CorpusJob(recipe=recipe, align=CONFIG, alignment="none", epsilon=1e-3)


def origin() -> Origin:
    """Return the origin of a corpus; one of the files records an extractor."""
    metadata: dict[str, dict[str, object]] = {"acoustic": {"extractor": {"name": "openSMILE"}}}
    names = ("words", "vectors", "acoustic", "visual")
    opened = {name: SimpleNamespace(metadata=metadata.get(name, {})) for name in names}
    return Origin.from_job(job(), cast(Sequences, opened))


def test_an_origin_is_restored_from_json() -> None:
    stored = origin()
    assert stored.extractors == {"acoustic": {"name": "openSMILE"}}
    # The names at the source without folders; labels are omitted.
    names = ("words", "vectors", "acoustic", "visual")
    assert stored.files == {name: f"{name}_v2.csd" for name in names}
    back = Origin.from_json(json.loads(json.dumps(stored.as_json())), "model.json")
    assert back == stored
    encoded = replace(stored, encoder=EncoderSource(digest="ab" * 32))
    assert Origin.from_json(json.loads(json.dumps(encoded.as_json())), "model.json") == encoded
    again = back.job("random", "none", ["text", "audio", "vision"])
    assert again.align == CONFIG
    assert (again.reference, again.alignment, again.epsilon) == ("words", "none", 1e-3)
    assert again.modalities == job().modalities
    assert back.job("random", "none", ["vision"]).modalities == {"vision": "visual"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epsilon": 0}, "epsilon"),
        ({"align": {"max_steps": 0}}, "origin.align.max_steps"),
        ({"extra": 1}, "extra"),
        ({"format": "tape"}, "origin.format"),
        ({"reference": None}, "origin: reference is null"),
    ],
)
def test_invalid_values_are_errors(change: dict[str, object], sentence: str) -> None:
    value = {**origin().as_json(), **change}
    with pytest.raises(DhmdError, match=sentence.replace(".", r"\.")) as caught:
        Origin.from_json(value, "some/model.json")
    assert "some/model.json" in str(caught.value)


def test_unknown_modalities_are_errors() -> None:
    with pytest.raises(DhmdError, match="the model of random was not trained on these modalities"):
        origin().job("random", "word", ["smell"])
