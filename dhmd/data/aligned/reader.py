"""Reading the aligned cache under one fold."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS, refuse_all_traps
from dhmd.data.aligned.corpus import (
    SPLITS,
    Alignment,
    Corpus,
    Ragged,
    Statistics,
    Task,
    Tokens,
)
from dhmd.data.aligned.seal import check_file
from dhmd.data.aligned.validation import check_corpus
from dhmd.data.aligned.writer import SCHEMA, SCHEMA_VERSION, TOKENS


def read_corpus(
    path: Path, *, fold: str | None = None, test_labels: bool = False, verify: bool = True
) -> Corpus:
    """Load a corpus.

    Args:
        path: the cache.
        fold: a fold's name; None takes the first.
        test_labels: whether labels and planted truth of the test split are given (only evaluation
            asks for them); NaN otherwise.
        verify: check the file against its sha256 first.

    Raises:
        DhmdError: the file is absent, damaged, of another schema, or has no such fold.
    """
    path = Path(path)
    check_file(path, verify=verify)
    try:
        with h5py.File(path, "r") as file:
            refuse_all_traps(file, str(path))
            corpus = _read(file, path, fold, test_labels)
            check_corpus(corpus, str(path))
            return corpus
    except READ_ERRORS as error:
        raise _damaged(path, error) from error


def read_identity(path: Path, fold: str | None = None) -> str:
    """The corpus's identity under a fold, without reading features.

    Raises:
        DhmdError: as read_corpus.
    """
    path = Path(path)
    check_file(path, verify=False)
    try:
        with h5py.File(path, "r") as file:
            return str(file["folds"][_choose_fold(file, path, fold)].attrs["identity"])
    except READ_ERRORS as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> DhmdError:
    return DhmdError(
        f"{path}: the aligned cache is damaged ({first_line(error)});"
        " make it again with the align stage or fetch it again"
    )


def _choose_fold(file: Any, path: Path, fold: str | None) -> str:
    schema, version = file.attrs.get("schema"), file.attrs.get("schema_version")
    if schema != SCHEMA or version != SCHEMA_VERSION:
        raise DhmdError(
            f"{path}: an aligned cache of schema {schema} {version}, this version reads {SCHEMA}"
            f" {SCHEMA_VERSION}; make it again with the align stage"
        )
    folds = json.loads(file.attrs["folds"])
    if fold is None:
        return str(folds[0])
    if fold not in folds:
        raise DhmdError(f"{path}: no fold {fold!r}; there are {', '.join(folds)}")
    return fold


def _read(file: Any, path: Path, fold: str | None, test_labels: bool) -> Corpus:
    fold = _choose_fold(file, path, fold)
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
        part = file["tokens"]
        tokens = Tokens(**{name: part[name][()] for name in TOKENS})
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
    if np.isnan(intervals).any():  # a format that holds words without times
        return segments, None
    return segments, Ragged(values=intervals, offsets=offsets)


def _strings(dataset: Any) -> tuple[str, ...]:
    return tuple(dataset.asstr()[()].tolist())
