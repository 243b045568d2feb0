"""Describe a file or a dataset: sizes, rates, ids, splits, labels and missing values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dhmd.base.files import file_sha256
from dhmd.base.hdf5 import open_hdf5
from dhmd.base.label_sets import decode_sets
from dhmd.base.progress import progress
from dhmd.base.text import text_table
from dhmd.cli.layout import format_percentage, format_size, histogram
from dhmd.data.aligned import SPLITS, Corpus, read_corpus
from dhmd.data.alignment import Sequences, clean_values
from dhmd.data.alignment.report import abbreviate
from dhmd.data.alignment.sequences import entries_by_video
from dhmd.data.csd import open_sequence
from dhmd.data.download import ordered_sources, read_file_records
from dhmd.data.formats import known_file, load_pickle
from dhmd.data.formats.arrays import load_arrays
from dhmd.recipes import Recipe
from dhmd.settings import load_params

Array = np.ndarray[Any, Any]

# Keys of a data report that `_corpus` shows in its tables, as warnings or not at all.
_TABLE_KEYS = frozenset(
    ("modalities", "alignment", "segments", "videos", "splits", "format", "origin", "warnings")
)
_MAX_RANGES = 12  # number of columns whose range is listed
_MAX_DEPTH = 4  # number of levels of a pickle that are described
_MAX_KEYS = 24  # a dict with more keys is described by its first key only


def show_file(path: Path) -> list[str]:
    """Return lines that describe a .csd file, an HDF5 or NumPy file, or a pickle.

    Raises:
        DhmdError: the file is damaged or could run code.
    """
    suffix = path.suffix.lower()
    if suffix == ".csd":
        return _sequence(path)
    lines = [f"{path}: {format_size(path.stat().st_size)}"]
    title = known_file(file_sha256(path))
    if title is not None:
        lines.append(f"known file: {title}")
    if suffix in (".h5", ".hdf5"):
        with open_hdf5(path) as file:
            aligned = "schema" in file.attrs
        if aligned:
            return [*lines, *_corpus(read_corpus(path))]
    is_arrays = suffix in (".npz", ".h5", ".hdf5")
    return [*lines, *_content(load_arrays(path) if is_arrays else load_pickle(path))]


def show_dataset(name: str, root: Path) -> list[str]:
    """Return lines that describe a dataset: its aligned or downloaded files, or its sources.

    Raises:
        DhmdError: there is no such recipe, or a file is damaged.
    """
    settings = load_params(root).for_dataset(name)
    recipe = settings.recipe
    lines = [f"{name}: {recipe.title}", f"format {recipe.format}, task {recipe.labels.task}"]
    aligned = root / "data" / "aligned" / f"{name}.h5"
    if aligned.is_file():
        return [*lines, *_corpus(read_corpus(aligned, fold=settings.data.fold))]
    raw = root / "data" / "raw" / name
    if raw.is_dir():
        return [*lines, *_raw(recipe, raw)]
    override = settings.data.sources.get(name)
    lines.append("not downloaded yet; the sources, in the order in which they are tried, are")
    lines += [f"  {source}" for source in ordered_sources(recipe, override, root)]
    rows = [
        [sequence, file.path, "–" if file.bytes is None else format_size(file.bytes)]
        for sequence, file in recipe.required_sequences.items()
    ]
    return [*lines, *text_table(["sequence", "file", "size"], rows), recipe.provenance.rstrip()]


def _corpus(corpus: Corpus) -> list[str]:
    """Describe an aligned features file without reading the labels of the test split."""
    lines = [
        f"aligned: {len(corpus.ids)} segments of {len(set(corpus.videos))} videos, "
        f"alignment {corpus.alignment}, fold {corpus.fold}"
        + (f" of {', '.join(corpus.folds)}" if len(corpus.folds) > 1 else ""),
        f"identity {corpus.identity}",
        "",
    ]
    splits = [
        [split, len(corpus.index(split)), len({corpus.videos[n] for n in corpus.index(split)})]
        for split in SPLITS
    ]
    lines += [*text_table(["split", "segments", "videos"], splits), ""]
    cleaned = corpus.report.get("modalities", {})
    rows: list[list[object]] = []
    for m, modality in enumerate(corpus.modalities):
        values, lengths = corpus.features[modality].values, corpus.features[modality].lengths
        steps = f"{lengths.min()}/{int(np.median(lengths))}/{lengths.max()}"
        absent = format_percentage(int(np.count_nonzero(~corpus.present_NM[:, m])), len(lengths))
        zero = format_percentage(int(np.count_nonzero(~values.any(axis=1))), len(values))
        bad = cleaned.get(modality, {}).get("values_cleaned", "–")
        rows.append([modality, values.shape[1], steps, absent, zero, bad])
    header = ["modality", "width", "steps min/median/max", "absent", "steps of zeros", "cleaned"]
    lines += [*text_table(header, rows), "", "labels of train and valid"]
    labels_N = corpus.labels_N[corpus.split_N != "test"]
    names: Sequence[str] = corpus.class_names
    if corpus.task == "multilabel":
        counts = decode_sets(labels_N).sum(0)
    elif corpus.task == "classification":
        counts = np.bincount(labels_N.astype(int), minlength=len(names))
    else:
        counts, edges = np.histogram(labels_N, np.linspace(corpus.low, corpus.high, 8))
        names = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)]
    lines += [*histogram(dict(zip(names, counts.tolist(), strict=True))), ""]
    for key, value in corpus.report.items():
        if key not in _TABLE_KEYS:
            lines.append(f"{key.replace('_', ' ')}: {_brief(value)}")
    return [*lines, *(f"warning: {sentence}" for sentence in corpus.report.get("warnings", []))]


def _brief(value: object) -> str:
    """Return a value of a data report on one line; long mappings and lists are shortened."""
    if isinstance(value, Mapping):
        if len(value) > 6:
            first = next(iter(value))
            return f"{len(value)}, the first {first} ({_brief(value[first])})"
        return ", ".join(f"{key} {_brief(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_brief(item) for item in value[:6]) + (" …" if len(value) > 6 else "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _raw(recipe: Recipe, raw: Path) -> list[str]:
    """Describe the downloaded files of a dataset that is not aligned yet."""
    lines = [f"downloaded to {raw}, not aligned yet"]
    rows = []
    for name, record in read_file_records(raw).items():
        title = known_file(record.sha256) or ""
        rows.append([name, format_size(record.bytes), record.sha256[:12], title])
    lines += text_table(["file", "size", "sha256", "known as"], rows)
    if recipe.format in ("csd", "generated"):
        lines += ["", *_incomplete(recipe, raw)]
        for path in sorted(raw.glob("*.csd")):
            lines += ["", *_sequence(path)]
    return lines


def _incomplete(recipe: Recipe, raw: Path) -> list[str]:
    """Return warnings about labelled videos that a sequence lacks."""
    lines = []
    paths = {name: raw / f"{name}.csd" for name in recipe.required_sequences}
    with Sequences(paths, list(paths)) as sequences:
        labelled = sequences.videos(str(recipe.labels.sequence))
        for name in sequences.names:
            missing = sorted(set(labelled) - set(sequences.videos(name)))
            if missing:
                lines.append(
                    f"warning: {len(missing)} of {len(labelled)} labelled videos are not in {name}"
                    f" ({abbreviate(missing)})"
                )
    return lines


def _sequence(path: Path) -> list[str]:
    """Describe a computational sequence; all of its entries are read."""
    entries: list[dict[str, Any]] = []
    words: Counter[str] = Counter()
    minima: list[Array] = []  # of each column, one array per entry
    maxima: list[Array] = []
    with open_sequence(path) as sequence:
        names, ids = sequence.dimension_names, sequence.ids
        for entry_id in progress(ids, path.name, unit="entry"):
            entry = sequence.read(entry_id)
            x_Td, start_T, end_T = entry.features, *entry.intervals.T
            is_text = x_Td.dtype == object
            duration = end_T.max() - start_T.min() if len(x_Td) else 0.0
            cleaned = clean_values(np.zeros((0, 0)) if is_text else x_Td)
            entries.append(
                {
                    "rows": len(x_Td),
                    "seconds": (end_T - start_T).sum(),
                    "rate": len(x_Td) / duration if duration > 0 else np.nan,
                    "instants": np.count_nonzero(start_T == end_T),
                    "backwards": np.count_nonzero(np.diff(start_T) < 0),
                    "type": "text" if is_text else str(x_Td.dtype),
                    "width": x_Td.shape[1],
                    "values": 0 if is_text else x_Td.size,
                    "bad": cleaned.count,
                    "zero": 0 if is_text else np.count_nonzero(~x_Td.any(axis=1)),
                }
            )
            if is_text:
                words.update(map(str, x_Td[:, 0] if len(x_Td) else ()))
            elif len(x_Td):
                missing_Td = False if cleaned.missing_Td is None else cleaned.missing_Td
                valid_Td = np.where(missing_Td, np.nan, x_Td.astype(np.float64))
                minima.append(np.fmin.reduce(valid_Td, axis=0))
                maxima.append(np.fmax.reduce(valid_Td, axis=0))
    table = pd.DataFrame(entries)
    total = table.sum(numeric_only=True).astype(float)
    lines = [
        f"{path}: computational sequence {sequence.root_name!r}, "
        f"{format_size(path.stat().st_size)}",
        f"  {len(ids)} entries of {len(entries_by_video({'': ids})[''])} videos, "
        f"{total.rows:.0f} rows, {total.seconds / 3600:.2f} h in rows, "
        f"type {'/'.join(sorted(set(table.type)))}",
    ]
    if table.rate.notna().any():
        lines.append(f"  rows per second: median {table.rate.median():.2f}")
    if total.instants:
        lines.append(
            f"  rows of zero duration: {format_percentage(int(total.instants), int(total.rows))}"
        )
    if total.backwards:
        lines.append(f"  rows that start before the previous row: {total.backwards:.0f}")
    if words:
        common = sorted(words, key=lambda word: (-words[word], word))[:8]
        lines.append(f"  {len(words)} different words, most often {', '.join(common)}")
    if not minima:
        return lines
    widths = table[table.rows > 0].width.value_counts()
    counts = ", ".join(f"{width} in {count} entries" for width, count in widths.items())
    lines.append(
        f"  {f'width {widths.index[0]}' if len(widths) == 1 else f'widths differ: {counts}'}, "
        f"not finite {format_percentage(int(total.bad), int(total['values']))}, "
        f"rows of zeros {format_percentage(int(total.zero), int(total.rows))}"
    )
    if len(widths) == 1 and widths.index[0] <= _MAX_RANGES:
        low, high = np.fmin.reduce(minima, axis=0), np.fmax.reduce(maxima, axis=0)
        labels = names if names and len(names) == len(low) else range(len(low))
        rows = [[n, f"{a:.4g}", f"{b:.4g}"] for n, a, b in zip(labels, low, high, strict=True)]
        lines += text_table(["column", "min", "max"], rows)
    return lines


_COLUMNS = ["name", "type", "shape", "min", "max", "not finite", "zero rows"]


def _content(content: object) -> list[str]:
    """Describe the content of a pickle or of arrays, level by level."""
    rows: list[Sequence[object]] = []

    def walk(value: Any, name: str, depth: int) -> None:
        if isinstance(value, np.ndarray):
            rows.append([name, *_array_cells(value)])
            return
        sized = isinstance(value, dict | list | tuple)
        rows.append([name, type(value).__name__, len(value) if sized else "", "", "", "", ""])
        if not sized or not value or depth == _MAX_DEPTH:
            return
        prefix = f"{name}." if depth else ""
        if isinstance(value, dict):
            for key in list(value) if len(value) <= _MAX_KEYS else list(value)[:1]:
                walk(value[key], f"{prefix}{str(key)[:40]}", depth + 1)
        elif isinstance(value[0], dict | list | tuple | np.ndarray):
            walk(value[0], f"{name if depth else ''}[0]", depth + 1)

    walk(content, "content", 0)
    return text_table(_COLUMNS, rows)


def _array_cells(array: Array) -> Sequence[object]:
    """Return the cells of an array in the columns `_COLUMNS`, without its name."""
    shape = "×".join(map(str, array.shape)) or "scalar"
    if array.dtype.kind not in "biuf" or not array.size:
        return [str(array.dtype), shape, "", "", "", ""]
    finite = array[np.isfinite(array)]
    limits = [f"{finite.min():.4g}", f"{finite.max():.4g}"] if finite.size else ["", ""]
    rows = array.any(axis=-1) if array.ndim > 1 else None
    zero = "" if rows is None else format_percentage(int(np.count_nonzero(~rows)), int(rows.size))
    return [str(array.dtype), shape, *limits, int(array.size - finite.size), zero]
