"""How good is the model: every seed as a dot, beside floors, encoders, baselines and ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dhmd.evaluation.metrics import COLUMNS, deterioration_sign
from dhmd.evaluation.tables import BASELINES, ORACLE, trivial_title
from dhmd.report.inputs import Inputs, Row
from dhmd.report.published import Published, published_for
from dhmd.report.sheet import (
    MODALITY,
    MODEL,
    OTHER,
    WIDE,
    Picture,
    Sheet,
    dots,
    few_ticks,
    grid,
    heading,
    rows,
    say,
)
from dhmd.report.svg import Ink

MODEL_NAME: Final = "DHMD"
_GUTTER: Final = 1.75
_ROW: Final = 0.25


@dataclass(frozen=True)
class Line:
    """One row of the chart: metric → a value a seed (one value where seeds mean nothing)."""

    name: str
    values: Mapping[str, Sequence[float]]
    colour: str = OTHER


def lines_of(inputs: Inputs) -> list[Line]:
    """Floors, encoders alone, baselines, the model, and on generated data the planted truth."""
    metrics = COLUMNS[inputs.task]
    lines = [
        Line(
            trivial_title(inputs.task, name, entry),
            {metric: [value] for metric, value in entry["test"].items()},
        )
        for name, entry in inputs.tables["trivial_baselines"].items()
    ]
    alone = [row for row in inputs.lists["unimodal"] if row["split"] == "test"]
    for modality in dict.fromkeys(row["modality"] for row in alone):
        chosen = [row for row in alone if row["modality"] == modality]
        colour = MODALITY.get(modality, OTHER)
        lines.append(Line(f"{modality} alone", _by_metric(chosen, metrics), colour))
    compared = [row for row in inputs.lists["ablations"] if row["split"] == "test"]
    for name, title in BASELINES.items():
        if chosen := [row for row in compared if row["variant"] == name]:
            lines.append(Line(title, _by_metric(chosen, metrics)))
    own = {
        metric: [values[metric] for values in inputs.test_seeds.values() if metric in values]
        for metric in metrics
    }
    lines.append(Line(MODEL_NAME, own, MODEL))
    if "oracle" in inputs.tables["summary"]:
        oracle = inputs.tables["summary"]["oracle"]
        lines.append(Line(ORACLE, {m: [v] for m, v in oracle.items()}))
    return lines


def _by_metric(found: Sequence[Row], metrics: Mapping[str, str]) -> dict[str, list[float]]:
    return {metric: [float(row[metric]) for row in found if row[metric]] for metric in metrics}


def results(inputs: Inputs) -> Picture:
    """Every metric of the results table, a panel each."""
    lines = lines_of(inputs)
    metrics = COLUMNS[inputs.task]
    height = _ROW * len(lines)
    title = f"Test results of {inputs.name}: every seed, floors, baselines"
    sheet = Sheet("results", title, inputs.note(), WIDE, height + 0.6)
    for index, (metric, name) in enumerate(metrics.items()):
        axes = _panel(sheet, index, len(metrics), height, _arrow(metric, name))
        rows(axes, [line.name for line in lines], named=index == 0)
        for place, line in enumerate(lines):
            _line(axes, place, line.values.get(metric, ()), line.colour)
            if line.name == MODEL_NAME:
                axes.axhspan(place - 0.5, place + 0.5, color=MODEL, alpha=0.1, linewidth=0)
                _bootstrap(axes, place, inputs.tables["intervals"].get(metric))
                if values := line.values.get(metric):
                    mean = float(np.mean(values))
                    axes.axvline(mean, color=MODEL, linewidth=0.7, linestyle=(0, (3, 3)))
    return sheet.finish(
        f"A dot is a seed, a bar the mean; a bar without dots has no seeds. The band marks "
        f"{MODEL_NAME}, its thin line the 95 % interval over test utterances (bootstrap by video); "
        "the arrow says which way is better."
    )


def published(inputs: Inputs) -> Picture | None:
    """The model beside published numbers of the same features, where there are such; else None."""
    found = [entry for entry in published_for(inputs) if entry.comparable]
    if not found:
        return None
    metrics = {m: n for m, n in COLUMNS[inputs.task].items() if any(m in e.values for e in found)}
    height = _ROW * (len(found) + 1)
    title = f"{inputs.name} beside published numbers on the same kind of text features"
    sheet = Sheet("published", title, inputs.note(), WIDE, height + 0.6)
    for index, (metric, name) in enumerate(metrics.items()):
        axes = _panel(sheet, index, len(metrics), height, _arrow(metric, name))
        rows(axes, [MODEL_NAME, *(entry.model for entry in found)], named=index == 0)
        own = [values[metric] for values in inputs.test_seeds.values() if metric in values]
        _line(axes, 0, own, MODEL)
        _bootstrap(axes, 0, inputs.tables["intervals"].get(metric))
        axes.axhline(0.5, color=Ink.MUTED, linewidth=0.8)
        for place, entry in enumerate(found, start=1):
            _entry(axes, place, entry, metric)
    return sheet.finish(
        "Above the line: this run, a dot a seed. Below: hollow marks are single published numbers, "
        "bars the range of several re-runs, as the table gives them. They were got with other "
        "training, seeds and selection; the table says what differs."
    )


def _panel(sheet: Sheet, index: int, count: int, height: float, title: str) -> Any:
    width = (WIDE - _GUTTER - 0.15) / count
    axes = sheet.axes(_GUTTER + index * width + 0.08, 0.3, width - 0.2, height)
    heading(axes, title)
    grid(axes, "x")
    few_ticks(axes, "x")
    return axes


def _arrow(metric: str, name: str) -> str:
    return f"{name} {'←' if deterioration_sign(metric) > 0 else '→'}"


def _line(axes: Any, place: int, values: Sequence[float], colour: str) -> None:
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        say(axes, 0.5, place, "undefined", transform=axes.get_yaxis_transform(), color=Ink.MUTED,
            ha="center", va="center")  # fmt: skip
        return
    if len(found) > 1:
        dots(axes, found, np.full(len(found), float(place)), colour, 4.6, 0.65)
    mean = float(found.mean())
    axes.plot([mean, mean], [place - 0.32, place + 0.32], color=colour, linewidth=2.0)


def _bootstrap(axes: Any, place: int, interval: Mapping[str, float] | None) -> None:
    if interval:
        ends = [interval["low"], interval["high"]]
        axes.plot(ends, [place, place], color=MODEL, linewidth=0.9)


def _entry(axes: Any, place: int, entry: Published, metric: str) -> None:
    if (value := entry.values.get(metric)) is None:
        return
    low, high = value
    if low == high:
        axes.plot([low], [place], "D", markersize=5, markerfacecolor="none", color=OTHER)
    else:
        axes.plot([low, high], [place, place], color=OTHER, linewidth=3, solid_capstyle="round")
