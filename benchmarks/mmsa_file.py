"""Write random numbers in the layout of an MMSA feature file.

    python -m benchmarks.mmsa_file mosi_mmsa FOLDER

The videos are those of the dataset config's folds, the widths and lengths are MMSA's; there are
fewer utterances. Commands can be tried on such a file; its scores mean nothing.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.files import atomic_file
from dhmd.data.aligned import SPLITS
from dhmd.recipes import Recipe, load_recipe

ROOT = Path(__file__).parents[1]
# Feature widths by corpus, which is the first part of a recipe's name (docs/reproduce.md).
WIDTHS = {
    "mosi": {"text": 768, "audio": 5, "vision": 20},
    "mosei": {"text": 768, "audio": 74, "vision": 35},
}
# Fractions of MOSI's utterances per split.
FRACTIONS = {"train": 0.6, "valid": 0.1, "test": 0.3}
UTTERANCES_PER_VIDEO = 2


def steps_of(recipe: Recipe) -> Mapping[str, int]:
    """Return the padded length of each modality."""
    align: Mapping[str, Any] = recipe.align
    if recipe.name.endswith("_unaligned"):
        return dict(align["max_steps_unaligned"])
    return dict.fromkeys(recipe.modality_names, int(align["max_steps"]))


def splits(recipe: Recipe, num_utterances: int) -> dict[str, dict[str, Any]]:
    """Return the content of the pickle by split: padded float32 arrays, lengths, ids and labels."""
    assert recipe.folds is not None
    folds = json.loads((ROOT / "recipes" / recipe.folds.file).read_text(encoding="utf-8"))
    rng = np.random.default_rng(0)
    steps, widths = steps_of(recipe), WIDTHS[recipe.name.split("_")[0]]
    aligned = len(set(steps.values())) == 1
    content = {}
    for split in SPLITS:
        count = max(2 * UTTERANCES_PER_VIDEO, round(FRACTIONS[split] * num_utterances))
        ids = [
            f"{folds[split][n // UTTERANCES_PER_VIDEO]}$_${n % UTTERANCES_PER_VIDEO}"
            for n in range(count)
        ]
        # MOSI's utterances have 12.5 words of 50 on average.
        words = np.clip(rng.gamma(2.0, 6.25, count), 1, steps["text"]).astype(np.int64)
        mask = np.arange(steps["text"]) < words[:, None]
        part: dict[str, Any] = {
            "id": ids,
            "raw_text": np.array(["generated"] * count),
            "regression_labels": np.round(rng.uniform(-3, 3, count), 1).astype(np.float32),
            "text_bert": np.stack(
                [rng.integers(1000, 30000, mask.shape) * mask, mask, np.zeros_like(mask)], axis=1
            ).astype(np.float32),
        }
        for modality, width in widths.items():
            lengths = words
            if not aligned and modality != "text":
                lengths = np.maximum(1, words * steps[modality] // steps["text"])
                part[f"{modality}_lengths"] = lengths.tolist()
            real = np.arange(steps[modality]) < lengths[:, None]
            values = rng.normal(size=(count, steps[modality], width)).astype(np.float32)
            part[modality] = values * real[..., None]
        content[split] = part
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    recipes = [f"{corpus}_mmsa{end}" for corpus in WIDTHS for end in ("", "_unaligned")]
    parser.add_argument("recipe", choices=recipes)
    parser.add_argument("folder", type=Path, help="folder of the file")
    parser.add_argument("--utterances", type=int, default=80)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, ROOT)
    path = arguments.folder / recipe.sequences["pickle"].path
    content = splits(recipe, arguments.utterances)
    with atomic_file(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=4))
    counts = ", ".join(f"{split} {len(part['id'])}" for split, part in content.items())
    print(f"{path}: {counts}")


if __name__ == "__main__":
    main()
