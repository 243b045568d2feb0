"""The generated files of docs/reproduce.md fit the MMSA dataset configs."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from benchmarks.mmsa_file import splits
from dhmd.config.schema import load_section
from dhmd.data.alignment import AlignConfig, CorpusJob
from dhmd.data.formats import check_corpus
from dhmd.recipes import load_recipe

ROOT = Path(__file__).parents[2]

SHAPES = {
    "mosi_mmsa": {"text": (50, 768), "audio": (50, 5), "vision": (50, 20)},
    "mosi_mmsa_unaligned": {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)},
    "mosei_mmsa": {"text": (50, 768), "audio": (50, 74), "vision": (50, 35)},
    "mosei_mmsa_unaligned": {"text": (50, 768), "audio": (500, 74), "vision": (500, 35)},
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_ids_and_splits_match_the_dataset_config(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, ROOT)
    content = splits(recipe, 20)
    for part in content.values():
        for modality, shape in SHAPES[name].items():
            assert part[modality].shape == (len(part["id"]), *shape)
    file = recipe.sequences["pickle"].path
    path = tmp_path / file
    path.write_bytes(pickle.dumps(content))
    align = load_section(AlignConfig, {}, recipe=recipe.align, recipe_source=recipe.source)
    assert recipe.folds is not None
    alignment = "none" if name.endswith("_unaligned") else "word"
    job = CorpusJob(
        recipe=recipe,
        paths={"pickle": path},
        align=align,
        alignment=alignment,
        folds_path=ROOT / "recipes" / recipe.folds.file,
    )
    assert check_corpus(job) == []
