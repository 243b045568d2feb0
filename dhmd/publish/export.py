"""Export a model: its folder without the predictions of its corpus, and a model card."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from dhmd.base.errors import DhmdError
from dhmd.base.files import whole_folder
from dhmd.publish.card import model_card
from dhmd.publish.hub import CARD, PATTERNS
from dhmd.training.weights import load_model


def export(model: Path, out: Path, *, root: Path | None = None, license_: str = "") -> None:
    """Write a folder with the model and its card; the folder can be used like the original.

    Args:
        model: a model folder, such as `models/demo`.
        out: the folder to write; it does not exist or is empty.
        root: the repository with the dataset's config and results, which the card describes.
        license_: an identifier of the Hugging Face hub; by default `mit` for generated data, else
            `other`, as the terms of the data apply.

    Raises:
        DhmdError: the model is damaged, or `out` has files.
    """
    _, _, description = load_model(model, torch.device("cpu"))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DhmdError(f"{out} exists: choose another --out.")
    if out.resolve().is_relative_to(model.resolve()):
        raise DhmdError(f"{out} is inside {model}: choose another --out.")
    card = model_card(model, description, root=root, license_=license_)
    with whole_folder(out) as folder:
        for path in sorted(path for pattern in PATTERNS for path in model.glob(pattern)):
            target = folder / path.relative_to(model)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        (folder / CARD).write_text(card, encoding="utf-8")
