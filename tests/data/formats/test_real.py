"""Import of a published file if it is available, and checks of the shipped recipes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from dhmd.config.schema import load_section
from dhmd.data.aligned import read_corpus
from dhmd.data.alignment import AlignConfig
from dhmd.data.download import download
from dhmd.data.formats import align_dataset
from dhmd.recipes import check_recipe_file, load_recipe
from dhmd.settings import load_params
from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "real" / "mmmo"


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real pieces are not in ../shared/real")
def test_mmmo_is_imported(tmp_path):
    recipe = load_recipe("mmmo", ROOT)
    raw, output = tmp_path / "raw", tmp_path / "mmmo.h5"
    download(recipe, override=str(REAL), root=tmp_path, output=raw)
    align_dataset(
        load_params(ROOT).for_dataset("mmmo"), raw, output, root=ROOT, recipes=ROOT / "recipes"
    )
    corpus = read_corpus(output, test_labels=True)
    assert [len(corpus.index(split)) for split in ("train", "valid", "test")] == [80, 16, 24]
    assert {m: f.values.shape[1] for m, f in corpus.features.items()} == {
        "text": 300,
        "audio": 74,
        "vision": 36,
    }
    assert corpus.present_NM.all()
    assert corpus.report["file"] == "ICT-MMMO aligned_20.pkl"
    # The corpus has all values of the pickle except rows of zeros at the end.
    with open(REAL / "aligned_20.pkl", "rb") as stream:
        content = pickle.load(stream)
    n = 0
    for split in ("train", "valid", "test"):
        part = content[split]
        for i, utterance_id in enumerate(part["id"]):
            assert corpus.ids[n] == utterance_id.replace("$_$", "[") + "]"
            assert corpus.labels_N[n] == part["regression_labels"][i]
            length = corpus.features["text"].lengths[n]
            for modality in ("text", "audio", "vision"):
                assert np.array_equal(corpus.features[modality][n], part[modality][i][:length])
                assert not part[modality][i][length:].any()
            last = [part[m][i][length - 1].any() for m in ("text", "audio", "vision")]
            assert any(last)
            n += 1


@pytest.mark.parametrize("name", [n for n in SHIPPED if load_recipe(n, ROOT).imported])
def test_shipped_recipes_are_complete(name):
    check_recipe_file(name, ROOT)
    recipe = load_recipe(name, ROOT)
    assert f"data/placed/{name}" in recipe.provenance
    align = load_section(AlignConfig, {}, recipe=recipe.align)
    assert align.max_steps >= 1
