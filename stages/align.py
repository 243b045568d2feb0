"""Stage `align`: align the modalities to words, into data/aligned/<dataset>.h5."""

from __future__ import annotations

from pathlib import Path

from stages._entry import Stage, run


def work(stage: Stage) -> None:
    """Align the computational sequences, or import another format."""
    from dhmd.data.formats import align_dataset

    recipes = Path("recipes")
    align_dataset(stage.settings, stage.raw, stage.aligned, root=stage.root, recipes=recipes)


if __name__ == "__main__":
    run("align", work)
