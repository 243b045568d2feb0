"""Losses and validation scores by epoch, every seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.ticker import FuncFormatter

from dhmd.evaluation.metrics import COLUMNS
from dhmd.report.inputs import Inputs, Row, counted
from dhmd.report.sheet import (
    MODALITY,
    MODEL,
    WIDE,
    Picture,
    Sheet,
    dots,
    few_ticks,
    grid,
    heading,
    labels,
)

COLUMNS_OF_ALL: Final = {metric: name for task in COLUMNS.values() for metric, name in task.items()}

Curve = tuple[list[int], list[float]]

_LOSSES: Final = {
    "total": "total loss",
    "task": "task loss",
    "dec": "decoupling",
    "rec": "reconstruction",
    "cyc": "cycle",
    "mar": "margin",
    "ort": "orthogonality",
    "vertex": "vertices",
    "gd": "distillation",
    "edge": "edges",
    "dm": "matching",
}
_COLUMNS: Final = 5
_PANEL: Final = (1.45, 1.0)
_MARKS: Final = ("selected", "diverged")
_FIRST: Final = ("valid/mae", "valid/f1", "valid/corr", "valid/accuracy", "train/total")


def curves_of(history: Sequence[Row]) -> dict[str, dict[str, Curve]]:
    """Name → seed → (epochs, values), in the order of the file."""
    curves: dict[str, dict[str, Curve]] = {}
    for row in history:
        epochs, values = curves.setdefault(row["name"], {}).setdefault(row["seed"], ([], []))
        epochs.append(int(row["epoch"]))
        values.append(float(row["value"]))
    return curves


def training(inputs: Inputs) -> Picture | None:
    """A panel a loss, a score and the learning rate; None where nothing was trained."""
    title = f"Training of {inputs.name}"
    return _panels(inputs, "training", title, inputs.history)


def pretraining(inputs: Inputs) -> Picture | None:
    """The same of the encoders, a colour a modality; None where there are none."""
    title = f"Pretraining of {inputs.name}'s encoders, each modality alone"
    return _panels(inputs, "pretraining", title, inputs.pretraining)


def _panels(inputs: Inputs, name: str, title: str, history: Sequence[Row]) -> Picture | None:
    curves = curves_of(history)
    # Encoders name their curves modality/name: they share the name's panel.
    panels: dict[str, list[str]] = {}
    for key in sorted(curves, key=_rank):
        modality, name_of_panel = _parts(key)
        if name_of_panel not in _MARKS:
            panels.setdefault(name_of_panel, []).append(key)
    if not panels:
        return None
    lines = -(-len(panels) // _COLUMNS)
    count = int((inputs.corpus.split_N == "train").sum())
    note = inputs.note(split="train", count=count)
    sheet = Sheet(name, title, note, WIDE, lines * 1.65 + 0.2)
    width = (WIDE - 0.2) / _COLUMNS
    for index, (panel, keys) in enumerate(panels.items()):
        row, column = divmod(index, _COLUMNS)
        axes = sheet.axes(column * width + 0.5, row * 1.65 + 0.35, *_PANEL)
        heading(axes, panel_title(panel))
        grid(axes, "y")
        few_ticks(axes, "y", 3)
        few_ticks(axes, "x", 4, whole=True)
        if index + _COLUMNS >= len(panels):  # the lowest of its column
            labels(axes, "epoch")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        for key in keys:
            modality, _ = _parts(key)
            prefix = f"{modality}/" if modality else ""
            _curves(axes, curves[key], curves.get(f"{prefix}selected", {}), modality)
    seeds = counted(len(inputs.seeds), "seed")
    coloured = " Blue is text, orange audio, green vision." if name == "pretraining" else ""
    return sheet.finish(
        f"A thin line a seed ({seeds}), the thick one their mean while all still train; a dot is "
        f"the epoch that a seed was taken from. Losses are means over the train split.{coloured}"
    )


def panel_title(name: str) -> str:
    """A curve's name, to be read."""
    part, _, rest = name.partition("/")
    if part == "valid":
        return f"validation {COLUMNS_OF_ALL.get(rest, rest)}"
    if not rest:
        return {"lr": "learning rate"}.get(name, name)
    loss, _, space = rest.partition("_")
    where = f" ({space.removesuffix('geneous')})" if space else ""
    return f"{_LOSSES.get(loss, loss)}{where}"


def short(value: float) -> str:
    """A tick's number in few characters: `1.25`, `2e-3`."""
    if value and abs(value) < 0.01:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"


def _curves(
    axes: Any, by_seed: dict[str, Curve], selected: dict[str, Curve], modality: str
) -> None:
    colour = MODALITY.get(modality, MODEL)
    for seed, (epochs, values) in by_seed.items():
        axes.plot(epochs, values, color=colour, linewidth=0.75, alpha=0.6)
        if seed in selected and (best := selected[seed][0][0]) in epochs:
            at = epochs.index(best)
            dots(axes, np.array([best]), np.array([values[at]]), colour, 4.5)
    together = min(len(epochs) for epochs, _ in by_seed.values())
    mean = np.mean([values[:together] for _, values in by_seed.values()], axis=0)
    axes.plot(next(iter(by_seed.values()))[0][:together], mean, color=colour, linewidth=1.7)


def _parts(key: str) -> tuple[str, str]:
    first, _, rest = key.partition("/")
    return (first, rest) if first in MODALITY else ("", key)


def _rank(key: str) -> tuple[int, str, int]:
    """Validation scores first, then the total loss, its parts, and the learning rate last."""
    modality, name = _parts(key)
    order = list(MODALITY).index(modality) if modality else 0
    if name in _FIRST:
        return _FIRST.index(name), name, order
    place = list(_LOSSES).index(loss) if (loss := name[6:].partition("_")[0]) in _LOSSES else 99
    return len(_FIRST) + place + 100 * (name == "lr"), name, order
