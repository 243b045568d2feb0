"""Describe a file or a dataset: sizes, rates, ids, splits, labels, gaps, bad values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.files import file_sha256
from dhmd.base.hdf5 import open_hdf5
from dhmd.base.progress import progress
from dhmd.cli.layout import histogram, share, size, table
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.data.alignment import Sequences, clean_values
from dhmd.data.alignment.report import such_as
from dhmd.data.alignment.sequences import entries_by_video
from dhmd.data.csd import open_sequence
from dhmd.data.download import ordered_sources, read_received
from dhmd.data.formats import known_file, load_pickle
from dhmd.data.formats.arrays import load_arrays
from dhmd.recipes import Recipe
from dhmd.settings import load_params

Array = np.ndarray[Any, Any]

# Keys of a data report that are in the tables, or lines of their own.
_SHOWN_ELSEWHERE = (
    *("modalities", "alignment", "segments", "videos", "splits", "format", "origin", "warnings"),
)
_DEEPEST = 4  # levels of a pickle that are described
_MOST_KEYS = 24  # keys of one level


def show_file(path: Path) -> list[str]:
    """Describe one file by its kind.

    Raises:
        DhmdError: it is damaged, or hostile.
    """
    suffix = path.suffix.lower()
    if suffix == ".csd":
        return _sequence(path)
    lines = [f"{path}: {size(path.stat().st_size)}"]
    known = known_file(file_sha256(path))
    if known is not None:
        lines.append(f"known file: {known}")
    if suffix == ".npz":
        return [*lines, *_arrays(load_arrays(path))]
    if suffix in (".h5", ".hdf5"):
        with open_hdf5(path) as file:
            aligned = "schema" in file.attrs
        if aligned:
            return [*lines, *_corpus(read_corpus(path))]
        return [*lines, *_arrays(load_arrays(path))]
    return [*lines, *_content(load_pickle(path))]


def show_dataset(name: str, root: Path) -> list[str]:
    """Describe a dataset by its latest files: aligned, downloaded, or none yet.

    Raises:
        DhmdError: no such recipe, or what is there is damaged.
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
    lines.append("not downloaded yet; the files are looked for, in this order, in")
    lines += [f"  {source}" for source in ordered_sources(recipe, override, root)]
    rows = [
        [file, wanted.path, "–" if wanted.bytes is None else size(wanted.bytes)]
        for file, wanted in recipe.needed.items()
    ]
    return [*lines, *table(["sequence", "file", "size"], rows), recipe.provenance.rstrip()]


def _corpus(corpus: Corpus) -> list[str]:
    """Describe an aligned features file; the test split's labels are not read."""
    lines = [
        f"aligned: {len(corpus.ids)} segments of {len(set(corpus.videos))} videos, "
        f"alignment {corpus.alignment}, fold {corpus.fold}"
        + (f" of {', '.join(corpus.folds)}" if len(corpus.folds) > 1 else ""),
        f"identity {corpus.identity}",
        "",
    ]
    splits = [
        [split, len(corpus.index(split)), len({corpus.videos[n] for n in corpus.index(split)})]
        for split in ("train", "valid", "test")
    ]
    lines += [*table(["split", "segments", "videos"], splits), ""]
    cleaned = corpus.report.get("modalities", {})
    rows = []
    for m, modality in enumerate(corpus.modalities):
        features = corpus.features[modality]
        lengths = features.lengths
        zero = int(np.count_nonzero(~features.values.any(axis=1)))
        absent = int(np.count_nonzero(~corpus.present_NM[:, m]))
        rows.append(
            [
                modality,
                features.values.shape[1],
                f"{lengths.min()}/{int(np.median(lengths))}/{lengths.max()}",
                share(absent, len(lengths)),
                share(zero, len(features.values)),
                cleaned.get(modality, {}).get("values_cleaned", "–"),
            ]
        )
    header = ["modality", "width", "steps min/median/max", "absent", "steps of zeros", "cleaned"]
    lines += [*table(header, rows), ""]
    seen = np.concatenate([corpus.index("train"), corpus.index("valid")])
    lines.append("labels of train and valid")
    lines += histogram(_label_counts(corpus, corpus.labels_N[seen]))
    lines.append("")
    for key, value in corpus.report.items():
        if key not in _SHOWN_ELSEWHERE:
            lines.append(f"{key.replace('_', ' ')}: {_brief(value)}")
    return [*lines, *(f"warning: {sentence}" for sentence in corpus.report.get("warnings", []))]


def _label_counts(corpus: Corpus, labels: Array) -> dict[str, int]:
    if corpus.task == "classification":
        return {
            name: int(np.count_nonzero(labels == c)) for c, name in enumerate(corpus.class_names)
        }
    edges = np.linspace(corpus.low, corpus.high, 8)
    counts, _ = np.histogram(labels, edges)
    return {f"{edges[b]:.2f} to {edges[b + 1]:.2f}": int(count) for b, count in enumerate(counts)}


def _brief(value: object) -> str:
    """Return a report's value on one line; long lists are counted."""
    if isinstance(value, Mapping):
        if len(value) > 6:
            first = next(iter(value))
            return f"{len(value)}, the first {first} ({_brief(value[first])})"
        return ", ".join(f"{key} {_brief(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_brief(one) for one in value[:6]) + (" …" if len(value) > 6 else "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _raw(recipe: Recipe, raw: Path) -> list[str]:
    lines = [f"downloaded to {raw}, not aligned yet"]
    rows = []
    for name, record in read_received(raw).items():
        known = known_file(record.sha256) or ""
        rows.append([name, size(record.bytes), record.sha256[:12], known])
    lines += table(["file", "size", "sha256", "known as"], rows)
    if recipe.format in ("csd", "generated"):
        lines += ["", *_incomplete(recipe, raw)]
        for path in sorted(raw.glob("*.csd")):
            lines += ["", *_sequence(path)]
    return lines


def _incomplete(recipe: Recipe, raw: Path) -> list[str]:
    """Say which labelled videos a sequence lacks."""
    lines = []
    with Sequences({name: raw / f"{name}.csd" for name in recipe.needed}, recipe.needed) as opened:
        labelled = opened.videos(str(recipe.labels.sequence))
        for name in opened.names:
            lacking = sorted(set(labelled) - set(opened.videos(name)))
            if lacking:
                lines.append(
                    f"warning: {len(lacking)} of {len(labelled)} labelled videos are not in {name}"
                    f" ({such_as(lacking)})"
                )
    return lines


def _sequence(path: Path) -> list[str]:
    """Describe a computational sequence, read to its end, entry by entry."""
    rows = bad = zero = values = backwards = instants = 0
    seconds = 0.0
    rates = []
    words: dict[str, int] = {}
    widths: Counter[int] = Counter()
    ends: dict[int, tuple[Array, Array]] = {}  # width -> each dimension's least and most
    kinds: set[str] = set()
    with open_sequence(path) as sequence:
        names = sequence.dimension_names
        ids = sequence.ids
        root = sequence.root_name
        for entry_id in progress(ids, path.name, unit="entry"):
            entry = sequence.read(entry_id)
            count = len(entry.intervals)
            rows += count
            kinds.add("text" if entry.features.dtype == object else str(entry.features.dtype))
            if not count:
                continue
            length_R = entry.intervals[:, 1] - entry.intervals[:, 0]
            seconds += float(length_R.sum())
            instants += int(np.count_nonzero(length_R == 0))
            backwards += int(np.count_nonzero(np.diff(entry.intervals[:, 0]) < 0))
            span = float(entry.intervals[:, 1].max() - entry.intervals[:, 0].min())
            if span > 0:
                rates.append(count / span)
            if entry.features.dtype == object:
                for word in entry.features[:, 0]:
                    words[str(word)] = words.get(str(word), 0) + 1
                continue
            cleaned = clean_values(entry.features)
            bad += cleaned.count
            values += entry.features.size
            zero += int(np.count_nonzero(~entry.features.any(axis=1)))
            kept = entry.features.astype(np.float64)
            if cleaned.bad_Td is not None:
                kept[cleaned.bad_Td] = np.nan
            least, most = np.fmin.reduce(kept, axis=0), np.fmax.reduce(kept, axis=0)
            width = len(least)
            low, high = ends.get(width, (least, most))
            ends[width] = np.fmin(low, least), np.fmax(high, most)
            widths[width] += 1
    lines = [
        f"{path}: computational sequence {root!r}, {size(path.stat().st_size)}",
        f"  {len(ids)} entries of {len(entries_by_video({'': ids})[''])} videos, {rows} rows, "
        f"{seconds / 3600:.2f} h in rows, type {'/'.join(sorted(kinds))}",
    ]
    if rates:
        lines.append(f"  rows per second: median {np.median(rates):.2f}")
    if instants:
        lines.append(f"  rows without length (start = end): {share(instants, rows)}")
    if backwards:
        lines.append(f"  rows that go back in time: {backwards}")
    if words:
        common = sorted(words, key=lambda word: (-words[word], word))[:8]
        lines.append(f"  {len(words)} different words, most often {', '.join(common)}")
    if ends:
        said = f"width {next(iter(ends))}"
        if len(ends) > 1:
            listed = ", ".join(
                f"{width} in {count} entr{'y' if count == 1 else 'ies'}"
                for width, count in widths.most_common()
            )
            said = f"entries differ in width: {listed}"
        lines.append(
            f"  {said}, not finite {share(bad, values)}, rows of zeros {share(zero, rows)}"
        )
    for width, (low, high) in sorted(ends.items()):
        if width <= 12:
            labels = names if names and len(names) == len(low) else range(len(low))
            cells = [
                [label, f"{a:.4g}", f"{b:.4g}"]
                for label, a, b in zip(labels, low, high, strict=True)
            ]
            dimension = "dimension" if len(ends) == 1 else f"dimension of {width}"
            lines += table([dimension, "least", "most"], cells)
    return lines


def _content(content: object) -> list[str]:
    """Describe a pickle's content: arrays as a table, level by level."""
    rows: list[list[object]] = []
    _walk(content, "", rows, 0)
    return table(["what", "type", "shape", "least", "most", "not finite", "zero rows"], rows)


def _walk(value: object, where: str, rows: list[list[object]], depth: int) -> None:
    name = where or "content"
    if isinstance(value, dict):
        rows.append([name, "dict", len(value), "", "", "", ""])
        # Of a dict with thousands of ids one is enough.
        keys = list(value) if len(value) <= _MOST_KEYS else list(value)[:1]
        if depth < _DEEPEST:
            for key in keys:
                shown = str(key)[:40]
                _walk(value[key], f"{where}.{shown}" if where else shown, rows, depth + 1)
    elif isinstance(value, np.ndarray):
        rows.append([name, *_array_cells(value)])
    elif isinstance(value, list | tuple):
        rows.append([name, type(value).__name__, len(value), "", "", "", ""])
        if value and depth < _DEEPEST and isinstance(value[0], dict | list | tuple | np.ndarray):
            _walk(value[0], f"{where}[0]", rows, depth + 1)
    else:
        rows.append([name, type(value).__name__, "", "", "", "", ""])


def _arrays(content: Mapping[str, Array]) -> list[str]:
    rows = [[name, *_array_cells(array)] for name, array in content.items()]
    return table(["array", "type", "shape", "least", "most", "not finite", "zero rows"], rows)


def _array_cells(array: Array) -> Sequence[object]:
    shape = "×".join(map(str, array.shape)) or "one"
    if array.dtype.kind not in "biuf" or not array.size:
        return [str(array.dtype), shape, "", "", "", ""]
    finite = np.isfinite(array)
    bad = int(array.size - np.count_nonzero(finite))
    good = array if not bad else array[finite]
    ends = [f"{good.min():.4g}", f"{good.max():.4g}"] if good.size else ["", ""]
    zero = ""
    if array.ndim > 1:
        any_row = array.any(axis=-1)
        zero = share(int(any_row.size - np.count_nonzero(any_row)), int(any_row.size))
    return [str(array.dtype), shape, *ends, bad, zero]
