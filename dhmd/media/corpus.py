"""`dhmd import videos`: a folder of videos, transcripts and labels as a dataset.

Besides features this writes labels.csd, the folds file and the recipe.
"""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.files import write_text
from dhmd.base.text import read_csv
from dhmd.config.editing import yaml_editor
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.aligned import SPLITS
from dhmd.data.csd import open_sequence, write_sequence
from dhmd.data.formats.drafting import LabelOptions, sequence_entry
from dhmd.media.extract import SEQUENCES, Notify, Options, extract, media_files, video_id
from dhmd.recipes import RECIPES_FOLDER, SCALE, parse_recipe

TEMPLATE = "my_videos"
DEFAULT_FRACTIONS = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class Row:
    """A labelled segment; without times it is the whole video."""

    label: str
    start: float | None
    end: float | None
    split: str | None
    where: str


def import_videos(
    folder: Path,
    labels: Path,
    *,
    dataset: str,
    root: Path,
    placed: Path,
    options: Options,
    label_options: LabelOptions,
    fractions: Sequence[float],
    seed: int,
    notify: Notify,
) -> Path:
    """Extract features of labelled videos, and write labels, folds and recipe.

    Args:
        folder: the videos, with their transcripts beside them.
        labels: a CSV file, see `read_labels`.
        root: the repository.
        placed: where the `.csd` files belong.
        fractions: shares of train, valid and test among the videos, if `labels` has no splits.
        seed: of the random assignment of videos to splits.

    Returns:
        The recipe's path.

    Raises:
        DhmdError: bad labels or options, or a video that cannot be used; no recipe is written.
    """
    rows = read_labels(labels)
    paths = _videos(folder, rows)
    classes, values = label_values(rows, label_options, labels)
    folds = assign_folds(rows, fractions, seed, labels)
    result = extract(list(paths.values()), placed, options, notify)
    if result.failed:
        raise DhmdError(
            f"{len(result.failed)} of {len(paths)} videos cannot be used: correct them, or remove "
            f"them from {labels}, and run again; the others are kept"
        )
    intervals = {video: _intervals(some, result.durations[video]) for video, some in rows.items()}
    write_sequence(
        placed / "labels.csd",
        root_name="labels",
        entries=((video, values[video][:, None], intervals[video]) for video in sorted(rows)),
        metadata={"creator": "dhmd import videos", "dataset name": dataset},
        dimension_names=("label",),
    )
    text = _recipe(dataset, root, placed, classes, intervals, options)
    folds_text = json.dumps(folds, indent=1, ensure_ascii=False) + "\n"
    write_text(root / RECIPES_FOLDER / "folds" / f"{dataset}.json", folds_text)
    recipe = root / RECIPES_FOLDER / f"{dataset}.yaml"
    write_text(recipe, text)
    return recipe


def read_labels(path: Path) -> dict[str, list[Row]]:
    """Read a CSV file with the columns file and label; start, end and split may be absent.

    Returns:
        video id -> its rows, in the file's order.
    """
    rows: dict[str, list[Row]] = {}
    for number, cells in read_csv(path).items():
        where = f"{path}, line {number}"
        row = {name.lower(): cell.strip() for name, cell in cells.items()}
        if "fold" in row:
            row["split"] = row.pop("fold")
        if not any(row.values()):
            continue
        for name in ("file", "label"):
            if name not in row:
                raise DhmdError(
                    f"{path} has no column {name}: its first line must name the columns"
                )
        if not row["file"] or not row["label"]:
            raise DhmdError(f"{where} lacks the {'label' if row['file'] else 'file'}")
        start, end = (_time(row.get(name, ""), f"{where}: {name}") for name in ("start", "end"))
        if (start is None) != (end is None):
            raise DhmdError(f"{where} must have both start and end, or neither")
        if start is not None and end is not None and end <= start:
            raise DhmdError(f"{where}: the segment ends at {end:g} s, before it starts")
        split = row.get("split") or None
        if "split" in row and split not in SPLITS:
            raise DhmdError(f"{where}: split is {split!r}, but must be one of {', '.join(SPLITS)}")
        video = video_id(Path(row["file"]))
        rows.setdefault(video, []).append(Row(row["label"], start, end, split, where))
    if not rows:
        raise DhmdError(f"{path} has no row: add one for each segment or video")
    for some in rows.values():
        if len(some) > 1 and any(row.start is None for row in some):
            raise DhmdError(f"{some[1].where}: a video with several rows needs start and end")
        if len({row.split for row in some}) > 1:
            raise DhmdError(f"{some[1].where}: all segments of a video belong to one split")
    return rows


def label_values(
    rows: Mapping[str, Sequence[Row]], options: LabelOptions, where: Path
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the classes (() for a regression), and video -> `[S]` labels."""
    texts = sorted({row.label for some in rows.values() for row in some})
    numbers = {text: _finite(text) for text in texts}
    kind = options.task
    if kind is None:
        values = None not in numbers.values() and not options.classes
        if values and options.scale is None and all(text.isdecimal() for text in texts):
            raise DhmdError(
                f"{where}: the labels {', '.join(texts[:5])} may be classes or values; name "
                "--task classification or --task regression"
            )
        kind = "regression" if values else "classification"
    if kind == "classification":
        classes = options.classes or tuple(texts)
        unknown = [text for text in texts if text not in classes]
        if unknown or len(classes) < 2:
            raise DhmdError(
                f"{where}: the label {(unknown or texts)[0]!r} is not one of at least two classes "
                f"({', '.join(classes)})"
            )
        found = {text: float(classes.index(text)) for text in texts}
    else:
        classes = ()
        low, high = options.scale or (-SCALE, SCALE)
        for text, number in numbers.items():
            if number is None or not low <= number <= high:
                raise DhmdError(
                    f"{where}: the label {text!r} is not a number from {low:g} to {high:g}; name "
                    "the labels' range by --label-range LOW HIGH"
                )
        found = {
            text: (number - low) / (high - low) * 2 * SCALE - SCALE
            for text, number in numbers.items()
            if number is not None
        }
    return classes, {
        video: np.array([found[row.label] for row in some], dtype=np.float32)
        for video, some in rows.items()
    }


def assign_folds(
    rows: Mapping[str, Sequence[Row]], fractions: Sequence[float], seed: int, where: Path
) -> dict[str, list[str]]:
    """Return split -> videos: those of the labels file, or a random assignment of whole videos."""
    folds: dict[str, list[str]] = {split: [] for split in SPLITS}
    if all(some[0].split is not None for some in rows.values()):
        for video in sorted(rows):
            folds[str(rows[video][0].split)].append(video)
    else:
        if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
            raise DhmdError(
                f"--fractions are {' '.join(f'{one:g}' for one in fractions)}, but must be three "
                "shares above 0 whose sum is 1"
            )
        videos = sorted(rows)
        random.Random(seed).shuffle(videos)
        valid, test = (max(1, round(share * len(videos))) for share in fractions[1:])
        train = max(0, len(videos) - valid - test)
        for split, stop in (("train", train), ("valid", train + valid), ("test", len(videos))):
            start = sum(map(len, folds.values()))
            folds[split] = sorted(videos[start:stop])
    empty = [split for split in SPLITS if not folds[split]]
    if empty:
        raise DhmdError(f"{where}: {empty[0]} has no video, of {len(rows)}: add videos")
    return folds


def _videos(folder: Path, rows: Mapping[str, Sequence[Row]]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DhmdError(f"{folder} is not a folder: it must have the videos")
    found: dict[str, list[Path]] = {}
    for path in media_files([folder]):
        found.setdefault(video_id(path), []).append(path)
    for video, some in rows.items():
        if len(found.get(video, ())) != 1:
            files = ", ".join(path.name for path in found.get(video, ())) or "no such video"
            raise DhmdError(f"{some[0].where}: {folder} has {files} for {video!r}")
    return {video: found[video][0] for video in sorted(rows)}


def _intervals(rows: Sequence[Row], duration: float) -> np.ndarray[Any, Any]:
    """Return the rows' times, `[S, 2]`; a row without times is the whole video."""
    for row in rows:
        if row.start is not None and row.start >= duration:
            raise DhmdError(
                f"{row.where}: the segment starts at {row.start:g} s, but the video ends at "
                f"{duration:.1f} s"
            )
    return np.array(
        [
            (0.0, duration) if row.start is None or row.end is None else (row.start, row.end)
            for row in rows
        ]
    )


def _recipe(
    dataset: str,
    root: Path,
    placed: Path,
    classes: Sequence[str],
    intervals: Mapping[str, np.ndarray[Any, Any]],
    options: Options,
) -> str:
    """Return the text of the dataset's recipe, or of the template, with this corpus in it."""
    own = root / RECIPES_FOLDER / f"{dataset}.yaml"
    source = own if own.is_file() else root / RECIPES_FOLDER / f"{TEMPLATE}.yaml"
    editor = yaml_editor()
    editor.indent(mapping=2, sequence=4, offset=2)
    try:
        recipe = editor.load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise DhmdError(f"{source} cannot be read: {error.strerror}") from error
    if recipe.get("format") != "csd":
        raise DhmdError(f"{source} is not a recipe of .csd files: choose another --dataset")
    modalities = {name: SEQUENCES[name] for name in options.modalities}
    files = {name: placed / f"{name}.csd" for name in (*modalities.values(), "labels")}
    there = {name: sequence_entry(path) for name, path in files.items() if path.is_file()}
    recipe["sequences"] = there
    recipe["modalities"] = {m: name for m, name in modalities.items() if name in there}
    recipe["folds"]["file"] = f"folds/{dataset}.json"
    regression = not classes
    recipe["labels"]["task"] = "regression" if regression else "classification"
    recipe["labels"]["low"] = float(-SCALE) if regression else None
    recipe["labels"]["high"] = float(SCALE) if regression else None
    recipe["labels"]["classes"] = None if regression else list(classes)
    longest = _longest(placed, intervals, list(recipe["modalities"].values()))
    recipe["align"]["max_steps"] = longest["words"]
    recipe["align"]["max_steps_unaligned"] = {
        modality: longest[name] for modality, name in recipe["modalities"].items()
    }
    if source != own:
        recipe["title"] = f"{dataset}, own videos"
    stream = io.StringIO()
    editor.dump(recipe, stream)
    text = stream.getvalue()
    parse_recipe(dataset, parse_yaml(text, f"recipes/{dataset}.yaml"))
    return text


def _longest(
    placed: Path, intervals: Mapping[str, np.ndarray[Any, Any]], names: Sequence[str]
) -> dict[str, int]:
    """Sequence -> the most rows that overlap a segment."""
    longest = {}
    for name in names:
        with open_sequence(placed / f"{name}.csd") as sequence:
            rows = {video: sequence.read(video).intervals for video in intervals}
        longest[name] = max(
            1,
            *(
                int(np.count_nonzero((rows[video][:, 0] < end) & (rows[video][:, 1] > start)))
                for video, some in intervals.items()
                for start, end in some
            ),
        )
    return longest


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _time(text: str, where: str) -> float | None:
    if not text:
        return None
    seconds = _finite(text)
    if seconds is None or seconds < 0:
        raise DhmdError(f"{where} is {text!r}, but must be a number of seconds")
    return seconds
