"""Counts of the corpus, from the aligned cache and the data report in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dhmd.data.aligned import Corpus
from dhmd.data.aligned.corpus import SPLITS

Rows = list[list[str]]

_SHOWN_ELSEWHERE = ("modalities", "alignment", "segments", "videos")
_LONGEST = 400


def split_table(corpus: Corpus) -> tuple[list[str], Rows]:
    """Utterances, videos and absent modalities by split."""
    header = ["split", "utterances", "videos", *(f"no {m}" for m in corpus.modalities)]
    rows = []
    for split in SPLITS:
        index = corpus.index(split)
        videos = {corpus.videos[row] for row in index}
        absent = (~corpus.present_NM[index]).sum(0)
        rows.append([split, f"{len(index):,}", f"{len(videos):,}", *(f"{a:,}" for a in absent)])
    return header, rows


def cleaning_table(corpus: Corpus) -> tuple[list[str], Rows]:
    """Width, lengths, zeros and cleaned values by modality."""
    header = ["modality", "values a step", "shortest", "median", "longest", "zero steps", "cleaned"]
    cleaned = corpus.report.get("modalities", {})
    rows = []
    for modality in corpus.modalities:
        features = corpus.features[modality]
        lengths = features.lengths
        zero = int(np.count_nonzero(~features.values.any(axis=1)))
        found = cleaned.get(modality, {}).get("values_cleaned")
        rows.append(
            [
                modality,
                f"{features.values.shape[1]:,}",
                f"{lengths.min(initial=0):,}",
                f"{np.median(lengths):,.0f}",
                f"{lengths.max(initial=0):,}",
                f"{zero:,}",
                "–" if found is None else f"{found:,}",
            ]
        )
    return header, rows


def other_facts(corpus: Corpus) -> Rows:
    """Whatever else the data report says, a row a fact."""
    return [
        [key.replace("_", " "), _brief(value)]
        for key, value in corpus.report.items()
        if key not in _SHOWN_ELSEWHERE
    ]


def _brief(value: object) -> str:
    """A value on one line, cut where it is long."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{k}: {_brief(v)}" for k, v in value.items()) or "none"
    elif isinstance(value, list):
        text = ", ".join(_brief(v) for v in value) or "none"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
