"""Recipes for small files, and functions that import the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.data.alignment import AlignConfig, CorpusJob
from dhmd.data.formats import check_corpus, import_corpus, raw_paths
from dhmd.recipes import Recipe, parse_recipe
from tests.data.formats.files import write_pickle

SPLITS = ("train", "valid", "test")
REGRESSION = {"task": "regression", "low": -3.0, "high": 3.0}
BINARY = {"task": "classification", "classes": ["no", "yes"]}
ALL = {"text": "text", "audio": "audio", "vision": "vision"}


def recipe(format: str, sequences: dict[str, str], **more: Any) -> Recipe:
    """Return a recipe named `tiny`."""
    mapping = {
        "title": "tiny",
        "format": format,
        "sequences": {name: {"path": path} for name, path in sequences.items()},
        "modalities": ALL,
        "labels": REGRESSION,
    }
    return parse_recipe("tiny", mapping | more)


def mmsa_recipe(**more: Any) -> Recipe:
    return recipe("mmsa", {"pickle": "file.pkl"}, **more)


def urfunny_recipe(*, words: bool = False, **more: Any) -> Recipe:
    sequences = {
        "folds": "data_folds.pkl",
        "text": "language_sdk.pkl",
        "embeddings": "word_embedding_list.pkl",
        "audio": "covarep_features_sdk.pkl",
        "vision": "openface_features_sdk.pkl",
        "labels": "humor_label_sdk.pkl",
    }
    if words:
        sequences["words"] = "word_list.pkl"
    return recipe("urfunny", sequences, labels=BINARY | {"sequence": "labels"}, **more)


def mustard_recipe(**more: Any) -> Recipe:
    sequences = {
        "pickle": "mustard.pkl",
        "vectors": "glove.txt",
        "utterances": "sarcasm_data.json",
        "splits": "split_indices.p",
    }
    modalities = {"text": "vectors", "audio": "acoustic", "vision": "visual"}
    return recipe("mustard", sequences, **({"labels": BINARY, "modalities": modalities} | more))


def arrays_recipe(suffix: str = "npz", **more: Any) -> Recipe:
    return recipe(
        "arrays", {split: f"{split}.{suffix}" for split in ("train", "valid", "test")}, **more
    )


def import_files(
    recipe: Recipe,
    raw: Path,
    *,
    alignment: Any = "word",
    folds: Path | None = None,
    sources: dict[str, str] | None = None,
    fold: str | None = None,
    **align: Any,
) -> Corpus:
    """Import the files in `raw`, and read the corpus with test labels."""
    job = replace(job_of(recipe, raw, alignment, **align), folds_path=folds, sources=sources or {})
    import_corpus(job, raw / "tiny.h5")
    return read_corpus(raw / "tiny.h5", fold=fold, test_labels=True)


def job_of(recipe: Recipe, raw: Path, alignment: Any = "word", **align: Any) -> CorpusJob:
    """Return the job of importing the files in `raw`."""
    return CorpusJob(
        recipe=recipe,
        paths=raw_paths(recipe, raw),
        align=AlignConfig(**align),
        alignment=alignment,
    )


def error_message(recipe: Recipe, raw: Path, **options: Any) -> str:
    """Return the error message of an import that must fail without leaving a file."""
    (raw / "tiny.h5").unlink(missing_ok=True)
    with pytest.raises(DhmdError) as caught:
        import_files(recipe, raw, **options)
    assert not (raw / "tiny.h5").exists()
    assert not list(raw.glob(".partial*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def import_mmsa(raw: Path, content: object, keys: Any = None, **options: Any) -> Corpus:
    """Write a pickle and import it with a recipe that has `keys`."""
    write_pickle(raw / "file.pkl", content)
    return import_files(mmsa_recipe(**(keys or {})), raw, **options)


def mmsa_error(raw: Path, content: object, keys: Any = None, **options: Any) -> str:
    """Return the error message of `import_mmsa`."""
    write_pickle(raw / "file.pkl", content)
    return error_message(mmsa_recipe(**(keys or {})), raw, **options)


def problems(recipe: Recipe, raw: Path) -> list[str]:
    """Return the problems that `dhmd data check` lists."""
    return check_corpus(job_of(recipe, raw))
