"""What the corpus is made of: labels, lengths, what is missing."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from dhmd.data.aligned.corpus import SPLITS
from dhmd.report.charts.predictions import shortened
from dhmd.report.inputs import Inputs
from dhmd.report.sheet import (
    MODALITY,
    OTHER,
    SERIES,
    WIDE,
    Picture,
    Sheet,
    few_ticks,
    grid,
    heading,
    labels,
    matrix,
)
from dhmd.report.svg import Ink

_HEIGHT: Final = 1.8
_MOST_BARS: Final = 30


def data(inputs: Inputs) -> Picture:
    """Labels and lengths by split and modality, absent modalities."""
    corpus = inputs.corpus
    title = f"The data of {inputs.name}"
    note = inputs.note(split="all splits", count=len(corpus.ids), seeds=None)
    sheet = Sheet("data", title, note, WIDE, _HEIGHT + 0.85)
    shares = sheet.axes(0.7, 0.35, 2.7, _HEIGHT)
    heading(shares, "labels, share of the split")
    _label_shares(shares, inputs)
    lengths = sheet.axes(4.15, 0.35, 2.4, _HEIGHT)
    heading(lengths, "length, share of utterances")
    _lengths(lengths, inputs)
    missing = sheet.axes(7.75, 0.35, 2.1, _HEIGHT)
    heading(missing, "absent modalities")
    absent = np.array([1 - corpus.present_NM[corpus.index(split)].mean(0) for split in SPLITS]).T
    texts = [[f"{value:.1%}" for value in row] for row in absent]
    top = max(float(absent.max()), 0.05)
    matrix(missing, absent, corpus.modalities, SPLITS, texts=texts, high=top)
    return sheet.finish(
        "Left: how labels are spread in each split. Middle: steps of an utterance after alignment. "
        "Right: share of utterances in which a modality is absent."
    )


def _label_shares(axes: Any, inputs: Inputs) -> None:
    values, count = inputs.labels_of_all, len(inputs.classes)
    width = 0.8 / len(SPLITS)
    for index, split in enumerate(SPLITS):
        found = inputs.class_of(values[inputs.corpus.index(split)])
        share = np.bincount(found, minlength=count) / max(len(found), 1)
        at = np.arange(count) + (index - 1) * width
        axes.bar(at, share, width * 0.9, color=SERIES[index], label=split, linewidth=0)
    axes.set_xticks(range(count))
    axes.set_xticklabels(map(shortened, inputs.classes), parse_math=False)
    if max(map(len, inputs.classes)) > 8:
        axes.tick_params(axis="x", labelrotation=20)
    grid(axes, "y")
    few_ticks(axes, "y")
    labels(axes, "label" if inputs.task == "classification" else "label, rounded")
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.25)
    axes.legend(fontsize=7.5, frameon=False, labelcolor=Ink.TEXT, ncols=3, loc="upper center",
                columnspacing=1.0, handlelength=0.9, handletextpad=0.4)  # fmt: skip


def _lengths(axes: Any, inputs: Inputs) -> None:
    corpus = inputs.corpus
    longest = max(int(corpus.features[m].lengths.max(initial=1)) for m in corpus.modalities)
    width = -(-(longest + 1) // _MOST_BARS)
    edges = np.arange(0, longest + width + 1, width) - 0.5
    aligned = corpus.alignment == "word"
    for modality in corpus.modalities[:1] if aligned else corpus.modalities:
        found, _ = np.histogram(corpus.features[modality].lengths, edges)
        colour = OTHER if aligned else MODALITY.get(modality, OTHER)
        name = "all modalities" if aligned and len(corpus.modalities) > 1 else modality
        share = found / max(len(corpus.ids), 1)
        axes.stairs(share, edges, fill=aligned, color=colour, linewidth=1.4, label=name)
    grid(axes, "y")
    few_ticks(axes, "y")
    few_ticks(axes, "x", whole=True)
    labels(axes, "words" if aligned else "steps of each modality")
    if not aligned:
        axes.legend(fontsize=7.5, frameon=False, labelcolor=Ink.TEXT)
