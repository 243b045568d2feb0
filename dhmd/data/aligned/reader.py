"""Read the aligned features file with the splits of one fold."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.hdf5 import open_checked
from dhmd.data.aligned.corpus import (
    SPLITS,
    Alignment,
    Corpus,
    Ragged,
    Statistics,
    Task,
    Tokens,
)
from dhmd.data.aligned.writer import SCHEMA, SCHEMA_VERSION, TOKEN_FIELDS


def read_corpus(path: Path, *, fold: str | None = None, test_labels: bool = False) -> Corpus:
    """Read the aligned features file with the splits of one fold.

    Args:
        path: the aligned features file.
        fold: the fold's name; None for the first fold.
        test_labels: whether to read labels and ground truth of the test split, which only
            evaluation needs; otherwise they are NaN.

    Raises:
        DhmdError: the file is absent, damaged or of another schema, or does not have the fold.
    """
    if not path.is_file():
        raise DhmdError(f"{path}: there is no such aligned features file; run the align stage")
    remedy = "run the align stage again"
    with open_checked(path, f"{path}: the aligned features file is damaged; {remedy}") as file:
        schema, version = file.attrs.get("schema"), file.attrs.get("schema_version")
        if schema is None:
            raise DhmdError(f"{path}: not an aligned features file; run the align stage")
        if schema != SCHEMA or version != SCHEMA_VERSION:
            raise DhmdError(
                f"{path}: an aligned features file of schema {schema} {version}, but this version"
                f" reads {SCHEMA} {SCHEMA_VERSION}; {remedy}"
            )
        folds = json.loads(file.attrs["folds"])
        if fold not in (None, *folds):
            raise DhmdError(f"{path}: no fold {fold!r}; there are {', '.join(folds)}")
        corpus = _read(file, fold or str(folds[0]), test_labels)
        _check(corpus, str(path))
        return corpus


def _read(file: Any, fold: str, test_labels: bool) -> Corpus:
    modalities = tuple(json.loads(file.attrs["modalities"]))
    group = file["folds"][fold]
    split_N = np.array(SPLITS, dtype="U5")[group["split"][()]]
    hidden_N = (split_N == "test") & (not test_labels)
    labels_N = file["labels"][()]
    labels_N[hidden_N] = np.nan
    planted = {}
    if "planted" in file:
        values = file["planted"]["values"][()]
        values[hidden_N] = np.nan
        planted = {name: values[:, p] for p, name in enumerate(_strings(file["planted"]["names"]))}
    statistics = {}
    for modality in modalities:
        mean_d, std_d = group["statistics"][modality][()]
        statistics[modality] = Statistics(mean_d=mean_d, std_d=std_d)
    words, word_intervals = _words(file)
    tokens = None
    if "tokens" in file:
        tokens = Tokens(**{name: file["tokens"][name][()] for name in TOKEN_FIELDS})
    features = file["features"]
    return Corpus(
        name=str(file.attrs["name"]),
        task=cast(Task, str(file.attrs["task"])),
        low=float(file.attrs["low"]),
        high=float(file.attrs["high"]),
        class_names=tuple(json.loads(file.attrs["class_names"])),
        alignment=cast(Alignment, str(file.attrs["alignment"])),
        ids=_strings(file["ids"]),
        videos=_strings(file["videos"]),
        modalities=modalities,
        features={
            m: Ragged(values=features[m]["values"][()], offsets=features[m]["offsets"][()])
            for m in modalities
        },
        feature_names={m: _strings(features[m]["names"]) for m in modalities},
        present_NM=file["present"][()].astype(bool),
        labels_N=labels_N,
        fold=fold,
        folds=tuple(json.loads(file.attrs["folds"])),
        split_N=split_N,
        words=words,
        word_intervals=word_intervals,
        planted=planted,
        statistics=statistics,
        tokens=tokens,
        identity=str(group.attrs["identity"]),
        sources=json.loads(_strings(file["sources"])[0]),
        report=json.loads(_strings(file["report"])[0]),
    )


def _words(file: Any) -> tuple[tuple[tuple[str, ...], ...] | None, Ragged | None]:
    if "words" not in file:
        return None, None
    text, offsets = _strings(file["words"]["text"]), file["words"]["offsets"][()]
    segments = tuple(text[start:end] for start, end in pairwise(offsets))
    intervals = file["words"]["intervals"][()]
    if np.isnan(intervals).any():  # the format has words without times
        return segments, None
    return segments, Ragged(values=intervals, offsets=offsets)


def _strings(dataset: Any) -> tuple[str, ...]:
    return tuple(dataset.asstr()[()].tolist())


def _check(corpus: Corpus, where: str) -> None:
    """Check that the content is consistent; the first contradiction is an error."""
    count = len(corpus.ids)
    known = corpus.labels_N[np.isin(corpus.split_N, ("train", "valid"))]
    checks = {
        "ids, videos, splits and labels differ in length": not count
        or len({count, len(corpus.videos), len(corpus.split_N), len(corpus.labels_N)}) > 1,
        "words and ids differ in length": corpus.words is not None and len(corpus.words) != count,
        "present has the wrong shape": corpus.present_NM.shape != (count, len(corpus.modalities)),
        "a label is not finite": not np.isfinite(known).all(),
        "a label is not a class index": corpus.task == "classification"
        and not np.isin(known, np.arange(len(corpus.class_names))).all(),
        "a label is not a set of classes": corpus.task == "multilabel"
        and not (known // 2 ** len(corpus.class_names) == 1).all(),
    }
    for name in corpus.modalities:
        values, offsets = corpus.features[name].values, corpus.features[name].offsets
        mean_d, std_d = corpus.statistics[name].mean_d, corpus.statistics[name].std_d
        width = (len(corpus.feature_names[name]),)
        fits = values.dtype.kind == "f" and offsets.dtype.kind == "i"
        fits = fits and values.shape[1:] == mean_d.shape == std_d.shape == width
        checks[f"{name} has the wrong shape"] = not fits or offsets.shape != (count + 1,)
        checks[f"the offsets of {name} do not fit its rows"] = (
            offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any()
        )
        checks[f"{name} has values that are not finite"] = not all(
            np.isfinite(part).all() for part in (values, mean_d, std_d)
        )
        checks[f"a standard deviation of {name} is not positive"] = not (std_d > 0).all()
    for problem, exists in checks.items():
        if exists:
            raise DhmdError(f"{where} is damaged: {problem}; run the align stage again")
