"""`dhmd import videos`: make a dataset from a folder of videos, transcripts and labels.

Besides the features, this writes labels.csd, the folds file and the recipe.
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
from dhmd.media.transcripts import parse_time
from dhmd.recipes import RECIPES_FOLDER, SCALE, parse_recipe

TEMPLATE = "my_videos"
DEFAULT_FRACTIONS = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class LabelRow:
    """A row of the labels file.

    Attributes:
        label: the label as text.
        start, end: seconds; None for the whole video.
        split: train, valid or test; None if the file has no column split.
        where: file and line, for messages.
    """

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
    target: Path,
    options: Options,
    label_options: LabelOptions,
    fractions: Sequence[float],
    seed: int,
    notify: Notify,
) -> Path:
    """Extract features of labelled videos, and write labels, folds and recipe.

    Args:
        folder: the folder of the videos and their transcripts.
        labels: a CSV file, see `read_labels`.
        dataset: the name of the dataset.
        root: the repository.
        target: the folder to which the `.csd` files are written.
        options: the options of feature extraction.
        label_options: the options of the labels.
        fractions: fractions of train, valid and test among the videos, if `labels` has no splits.
        seed: the seed of the random assignment of videos to splits.
        notify: called with each message for the user.

    Returns:
        The path of the recipe.

    Raises:
        DhmdError: a label, an option or a video is not valid; no recipe is written.
    """
    rows = read_labels(labels)
    paths = _videos(folder, rows)
    classes, values = label_values(rows, label_options, labels)
    folds = assign_folds(rows, fractions, seed, labels)
    result = extract(list(paths.values()), target, options, notify)
    if result.failed:
        raise DhmdError(
            f"{len(result.failed)} of {len(paths)} videos cannot be used: correct them, or remove "
            f"them from {labels}, and run the command again; the other videos are not extracted "
            "again"
        )
    intervals = {
        video: _intervals(video_rows, result.durations[video]) for video, video_rows in rows.items()
    }
    write_sequence(
        target / "labels.csd",
        root_name="labels",
        entries=((video, values[video][:, None], intervals[video]) for video in sorted(rows)),
        metadata={"creator": "dhmd import videos", "dataset name": dataset},
        dimension_names=("label",),
    )
    text = _recipe(dataset, root, target, classes, intervals, options)
    folds_text = json.dumps(folds, indent=1, ensure_ascii=False) + "\n"
    write_text(root / RECIPES_FOLDER / "folds" / f"{dataset}.json", folds_text)
    recipe = root / RECIPES_FOLDER / f"{dataset}.yaml"
    write_text(recipe, text)
    return recipe


def read_labels(path: Path) -> dict[str, list[LabelRow]]:
    """Read a CSV file with the columns file and label, and optionally start, end and split.

    Returns:
        The rows of each video id, in the order of the file.

    Raises:
        DhmdError: a column or a cell is missing or not valid.
    """
    rows: dict[str, list[LabelRow]] = {}
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
            name = "label" if row["file"] else "file"
            raise DhmdError(f"{where} has an empty cell in the column {name}")
        start, end = (
            parse_time(row[name], f"{where}: {name}") if row.get(name) else None
            for name in ("start", "end")
        )
        if (start is None) != (end is None):
            raise DhmdError(f"{where} must have both start and end, or neither")
        if start is not None and end is not None and end <= start:
            raise DhmdError(f"{where}: the segment ends at {end:g} s, before it starts")
        split = row.get("split") or None
        if "split" in row and split not in SPLITS:
            raise DhmdError(f"{where}: split is {split!r}, but must be one of {', '.join(SPLITS)}")
        video = video_id(Path(row["file"]))
        rows.setdefault(video, []).append(LabelRow(row["label"], start, end, split, where))
    if not rows:
        raise DhmdError(f"{path} has no row: add one for each segment or video")
    for video_rows in rows.values():
        where = video_rows[1].where if len(video_rows) > 1 else ""
        if where and any(row.start is None for row in video_rows):
            raise DhmdError(
                f"{where}: a video with several rows must have start and end in each row"
            )
        if len({row.split for row in video_rows}) > 1:
            raise DhmdError(f"{where}: all segments of a video must have the same split")
    return rows


def label_values(
    rows: Mapping[str, Sequence[LabelRow]], options: LabelOptions, where: Path
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the classes (empty for regression) and each video's labels: `[S]` for S segments.

    Args:
        rows: the rows of each video in the labels file.
        options: the options of the labels.
        where: the labels file, for messages.

    Raises:
        DhmdError: the task is unclear, or a label is not a class or not in the range.
    """
    texts = sorted({row.label for video_rows in rows.values() for row in video_rows})
    numbers = {text: _parse_finite(text) for text in texts}
    task = options.task
    if task is None:
        is_numeric = None not in numbers.values() and not options.classes
        if is_numeric and options.scale is None and all(text.isdecimal() for text in texts):
            raise DhmdError(
                f"{where}: the labels {', '.join(texts[:5])} may be classes or values: add "
                "--task classification or --task regression"
            )
        task = "regression" if is_numeric else "classification"
    if task == "classification":
        classes = options.classes or tuple(texts)
        unknown = [text for text in texts if text not in classes]
        if unknown or len(classes) < 2:
            raise DhmdError(
                f"{where}: the label {(unknown or texts)[0]!r} is not one of at least two classes "
                f"({', '.join(classes)})"
            )
        values = {text: float(classes.index(text)) for text in texts}
    else:
        classes = ()
        low, high = options.scale or (-SCALE, SCALE)
        for text, number in numbers.items():
            if number is None or not low <= number <= high:
                raise DhmdError(
                    f"{where}: the label {text!r} is not a number from {low:g} to {high:g}: give "
                    "the range of the labels with --label-range LOW HIGH"
                )
        values = {
            text: (number - low) / (high - low) * 2 * SCALE - SCALE
            for text, number in numbers.items()
            if number is not None
        }
    return classes, {
        video: np.array([values[row.label] for row in video_rows], dtype=np.float32)
        for video, video_rows in rows.items()
    }


def assign_folds(
    rows: Mapping[str, Sequence[LabelRow]], fractions: Sequence[float], seed: int, where: Path
) -> dict[str, list[str]]:
    """Return the videos of each split, from the labels file or by a random assignment of videos.

    Args:
        rows: the rows of each video in the labels file.
        fractions: fractions of train, valid and test, for a random assignment.
        seed: the seed of the random assignment.
        where: the labels file, for messages.

    Raises:
        DhmdError: the fractions are not valid, or a split has no video.
    """
    folds: dict[str, list[str]] = {split: [] for split in SPLITS}
    if all(video_rows[0].split is not None for video_rows in rows.values()):
        for video in sorted(rows):
            folds[str(rows[video][0].split)].append(video)
    else:
        if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
            values = " ".join(f"{value:g}" for value in fractions)
            raise DhmdError(
                f"--fractions is {values}, but must be three numbers above 0 whose sum is 1"
            )
        videos = sorted(rows)
        random.Random(seed).shuffle(videos)
        valid, test = (max(1, round(fraction * len(videos))) for fraction in fractions[1:])
        train = max(0, len(videos) - valid - test)
        for split, stop in (("train", train), ("valid", train + valid), ("test", len(videos))):
            start = sum(map(len, folds.values()))
            folds[split] = sorted(videos[start:stop])
    empty = [split for split in SPLITS if not folds[split]]
    if empty:
        raise DhmdError(
            f"{where}: the split {empty[0]} has none of the {len(rows)} videos: add videos, or "
            "change the splits"
        )
    return folds


def _videos(folder: Path, rows: Mapping[str, Sequence[LabelRow]]) -> dict[str, Path]:
    """Return the file of each video of the labels file, by video id."""
    if not folder.is_dir():
        raise DhmdError(f"{folder} is not a folder: name the folder of the videos")
    files: dict[str, list[Path]] = {}
    for path in media_files([folder]):
        files.setdefault(video_id(path), []).append(path)
    for video, video_rows in rows.items():
        if len(files.get(video, ())) != 1:
            names = ", ".join(path.name for path in files.get(video, ())) or "no file"
            raise DhmdError(
                f"{video_rows[0].where}: {folder} has {names} for the video {video!r}, but must "
                "have one file"
            )
    return {video: files[video][0] for video in sorted(rows)}


def _intervals(rows: Sequence[LabelRow], duration: float) -> np.ndarray[Any, Any]:
    """Return start and end in seconds of each row of a video, shape [S, 2]."""
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
    target: Path,
    classes: Sequence[str],
    intervals: Mapping[str, np.ndarray[Any, Any]],
    options: Options,
) -> str:
    """Return the text of the recipe: the existing one or the template, updated for this corpus.

    `intervals` maps each video to start and end of its segments in seconds, shape [S, 2].
    """
    path = root / RECIPES_FOLDER / f"{dataset}.yaml"
    source = path if path.is_file() else root / RECIPES_FOLDER / f"{TEMPLATE}.yaml"
    editor = yaml_editor()
    editor.indent(mapping=2, sequence=4, offset=2)
    try:
        recipe = editor.load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise DhmdError(f"{source} cannot be read: {error.strerror}") from error
    if recipe.get("format") != "csd":
        raise DhmdError(f"{source} is not a recipe of .csd files: choose another --dataset")
    modalities = {name: SEQUENCES[name] for name in options.modalities}
    files = {name: target / f"{name}.csd" for name in (*modalities.values(), "labels")}
    sequences = {name: sequence_entry(file) for name, file in files.items() if file.is_file()}
    recipe["sequences"] = sequences
    recipe["modalities"] = {m: name for m, name in modalities.items() if name in sequences}
    recipe["folds"]["file"] = f"folds/{dataset}.json"
    regression = not classes
    recipe["labels"]["task"] = "regression" if regression else "classification"
    recipe["labels"]["low"] = float(-SCALE) if regression else None
    recipe["labels"]["high"] = float(SCALE) if regression else None
    recipe["labels"]["classes"] = None if regression else list(classes)
    max_steps = _max_steps(target, intervals, list(recipe["modalities"].values()))
    recipe["align"]["max_steps"] = max_steps["words"]
    recipe["align"]["max_steps_unaligned"] = {
        modality: max_steps[name] for modality, name in recipe["modalities"].items()
    }
    if source != path:
        recipe["title"] = f"{dataset}, own videos"
    stream = io.StringIO()
    editor.dump(recipe, stream)
    text = stream.getvalue()
    parse_recipe(dataset, parse_yaml(text, f"recipes/{dataset}.yaml"))
    return text


def _max_steps(
    target: Path, intervals: Mapping[str, np.ndarray[Any, Any]], names: Sequence[str]
) -> dict[str, int]:
    """Return the maximum number of rows of each sequence that overlap a segment, at least 1."""
    max_steps = {}
    for name in names:
        with open_sequence(target / f"{name}.csd") as sequence:
            rows = {video: sequence.read(video).intervals for video in intervals}
        max_steps[name] = max(
            1,
            *(
                int(np.count_nonzero((rows[video][:, 0] < end) & (rows[video][:, 1] > start)))
                for video, intervals_S2 in intervals.items()
                for start, end in intervals_S2
            ),
        )
    return max_steps


def _parse_finite(text: str) -> float | None:
    """Return the number in a text; None if it is not a finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
