"""Import a format's own files into the aligned features file, segment by segment.

Axes: T steps, d features, K tokens.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.data.aligned import (
    ENCODER_SOURCE,
    SPLITS,
    AlignedWriter,
    SegmentTable,
    aligned_writer,
    assign_splits,
    read_folds,
)
from dhmd.data.alignment import (
    REPORTED_SHARE,
    AlignConfig,
    TextWriter,
    WordEncoder,
    clean_values,
    cleaned_sentence,
    cut_sentence,
)
from dhmd.data.formats.arrays import read_arrays
from dhmd.data.formats.mmsa import read_mmsa
from dhmd.data.formats.mustard import read_mustard
from dhmd.data.formats.reading import ImportJob, ProblemsFoundError, Reading, Segment
from dhmd.data.formats.urfunny import read_urfunny
from dhmd.data.text.subwords import Subwords
from dhmd.data.text.writer import tokens_of
from dhmd.recipes import Recipe

Array = np.ndarray[Any, Any]
Warn = Callable[[str], object]

READERS: Mapping[str, Callable[[ImportJob], Reading]] = {
    "mmsa": read_mmsa,
    "urfunny": read_urfunny,
    "mustard": read_mustard,
    "arrays": read_arrays,
}

_log = logging.getLogger(__name__)
_MOSTLY_ABSENT = 1 / 2  # share of the utterances without a modality


class _Row(NamedTuple):
    """One segment that stays."""

    id: str
    video: str
    split: str
    label: float
    present: list[bool]  # per modality
    tokens: Sequence[Subwords] | None


@dataclass(eq=False)
class _Gathered:
    """The segments that stay, and the counts of the data report."""

    modalities: dict[str, Counter[str]]
    counts: dict[str, int] = field(
        default_factory=lambda: {"labels_clipped": 0, "words_dropped": 0}
    )
    rows: list[_Row] = field(default_factory=list)
    empty: dict[str, str] = field(default_factory=dict)


def import_corpus(
    recipe: Recipe,
    raw: Path,
    align: AlignConfig,
    *,
    alignment: Literal["word", "none"],
    sources: Mapping[str, str],
    output: Path,
    folds_path: Path | None = None,
    encoder: WordEncoder | None = None,
    warn: Warn = _log.warning,
) -> dict[str, object]:
    """Import a corpus of an imported format and write the aligned features file, whole or not.

    Args:
        recipe: of format mmsa, urfunny, mustard or arrays.
        raw: the folder that the download stage filled.
        align: section `align`.
        alignment: "word" needs files whose modalities are aligned.
        sources: file -> sha256, part of the corpus's identity.
        output: the aligned features file.
        folds_path: the folds file that the recipe names, if it names one.
        encoder: computes the words' vectors, which replace the files' own.
        warn: called with each warning.

    Returns:
        The data report, which the file holds too.

    Raises:
        DhmdError: the files are damaged, hostile or contradict the recipe; the first problem, and
            how to list the others.
    """
    job = _job(recipe, raw, align, alignment, sources, folds_path)
    reading = _opened(job, encoder)
    names = dict(reading.feature_names)
    if encoder is not None:
        names["text"] = encoder.feature_names
        sources = {**sources, ENCODER_SOURCE: encoder.source.digest}
    with aligned_writer(output, names, words=reading.has_words) as writer:
        sink = writer if encoder is None else TextWriter(writer, encoder)
        gathered = _gather(job, reading, sink, encoder)
        tokens = sink.finish() if isinstance(sink, TextWriter) else None
        folds = _folds(job, reading, gathered)
        job.problems.stop_if_any(recipe.name)
        report = _report(job, reading, gathered)
        labels, rows = recipe.labels, gathered.rows
        if reading.has_tokens:
            tokens = tokens_of([row.tokens for row in rows if row.tokens is not None])
        writer.finish(
            SegmentTable(
                name=recipe.name,
                task=labels.task,
                low=0.0 if labels.low is None else labels.low,
                high=float(len(labels.classes) - 1) if labels.high is None else labels.high,
                class_names=labels.classes,
                alignment=alignment,
                ids=tuple(row.id for row in rows),
                videos=tuple(row.video for row in rows),
                modalities=tuple(names),
                feature_names=names,
                present_NM=np.array([row.present for row in rows], dtype=bool),
                labels_N=np.array([row.label for row in rows], dtype=np.float32),
                folds=folds,
                tokens=tokens,
                recipe=recipe.corpus(),
                sources=sources,
                report=report,
            )
        )
    for sentence in job.problems.warnings():
        warn(f"{recipe.name}: {sentence}")
    return report


def check_corpus(
    recipe: Recipe,
    raw: Path,
    align: AlignConfig,
    *,
    alignment: Literal["word", "none"],
    folds_path: Path | None = None,
    encoder: WordEncoder | None = None,
    warn: Warn = _log.warning,
) -> list[str]:
    """Return everything that `import_corpus` would refuse, one sentence per kind of problem."""
    job = _job(recipe, raw, align, alignment, {}, folds_path)
    problems = []
    try:
        reading = _opened(job, encoder)
        _folds(job, reading, _gather(job, reading, None, encoder))
    except ProblemsFoundError:
        pass  # it is the first of those that are listed below
    except DhmdError as error:
        problems = [str(error)]
    for sentence in job.problems.warnings():
        warn(f"{recipe.name}: {sentence}")
    return job.problems.sentences() + problems


def _job(
    recipe: Recipe,
    raw: Path,
    align: AlignConfig,
    alignment: Literal["word", "none"],
    sources: Mapping[str, str],
    folds_path: Path | None,
) -> ImportJob:
    if recipe.format not in READERS:
        raise DhmdError(
            f"{recipe.source}: format is {recipe.format}, but only {', '.join(READERS)} are "
            "imported"
        )
    if recipe.folds is not None and folds_path is None:
        raise DhmdError(f"{recipe.source}: folds.file is {recipe.folds.file}, but was not given")
    if align.centre_by_video:
        raise DhmdError(
            f"align.centre_by_video works on computational sequences, but {recipe.source} has "
            f"format {recipe.format}: centre the features in the files themselves"
        )
    return ImportJob(
        recipe=recipe,
        raw=raw,
        align=align,
        alignment=alignment,
        sources=sources,
        folds_path=folds_path,
    )


def _opened(job: ImportJob, encoder: WordEncoder | None) -> Reading:
    """Open the files, and check that they hold the words which the settings need."""
    name = job.recipe.name
    reading = READERS[job.recipe.format](job)
    if job.align.drop_words and not reading.has_words:
        raise DhmdError(
            f"align.drop_words is {list(job.align.drop_words)}, but the files of {name} hold no "
            "words: set it to []"
        )
    if encoder is not None and "text" not in reading.feature_names:
        raise DhmdError(
            f"features.text asks for an encoder's vectors, but {name} has no text: set it to words"
        )
    if encoder is not None and not (reading.has_words or reading.has_tokens):
        raise DhmdError(
            f"features.text asks for an encoder's vectors, but the files of {name} hold neither "
            "words nor text_bert for it to read: set it to words"
        )
    return reading


def _gather(
    job: ImportJob,
    reading: Reading,
    sink: AlignedWriter | TextWriter | None,
    encoder: WordEncoder | None,
) -> _Gathered:
    """Read all segments, clean and cut them, and write them to `sink` unless it is None."""
    name, modalities = job.recipe.name, tuple(reading.feature_names)
    gathered = _Gathered(
        modalities={m: Counter(values_cleaned=0, segments_absent=0) for m in modalities}
    )
    seen: set[str] = set()
    for segment in progress(reading.segments, f"import {name}", unit="segment"):
        if segment.id in seen:
            job.problems.add("id twice", f"{name}: the id {segment.id!r} comes twice")
            continue
        seen.add(segment.id)
        label = _label(job, segment, gathered)
        if job.align.drop_words:
            segment = _without_dropped_words(job, segment, gathered)
        steps = {m: _clean_and_cut(job, m, segment.steps[m], gathered) for m in modalities}
        present = [
            bool(len(values) if encoder is not None and m == "text" else values.any())
            for m, values in steps.items()
        ]
        if not any(present):
            gathered.empty[segment.id] = "no row of any modality"
            if job.align.empty_segments == "drop":
                job.problems.leave_out(segment.split, "no modality has a value")
                continue
        for m, there in zip(modalities, present, strict=True):
            gathered.modalities[m]["segments_absent"] += not there
        tokens = None if segment.tokens is None else _subwords(job, segment, encoder)
        if sink is not None:
            for m, values in steps.items():
                sink.append(m, values, np.array([len(values)]))
            if reading.has_words:
                words = segment.words[_kept(job, "text", len(segment.words))]
                # Unknown times are NaN.
                times = np.full((len(words), 2), np.nan)
                sink.append_words(words, times, np.array([len(words)]))
            elif tokens is not None and isinstance(sink, TextWriter):
                sink.append_subwords(tokens, len(steps["text"]))
        row = _Row(segment.id, segment.video, segment.split, label, present, tokens)
        gathered.rows.append(row)
    if not gathered.rows:
        job.problems.stop_if_any(name)
        raise DhmdError(f"{name}: no segment is left to import")
    _check_shares(job, gathered)
    return gathered


def _check_shares(job: ImportJob, gathered: _Gathered) -> None:
    """Report what is cleaned or cut, and modalities that are absent from many utterances."""
    total = len(gathered.rows)
    for modality, counts in gathered.modalities.items():
        absent = counts["segments_absent"]
        if absent == total:
            job.problems.add(
                "empty modality",
                f"{job.recipe.name}: {modality} has no value in any utterance: leave it out of "
                f"modalities in {job.recipe.source}",
            )
        elif absent > _MOSTLY_ABSENT * total:
            job.problems.warn(f"{modality} is absent from {absent} of {total} utterances")
        if counts["values_cleaned"]:
            cleaned = cleaned_sentence(modality, counts["values_cleaned"], counts["values"])
            job.problems.warn(cleaned)
        if counts["steps_cut"] > REPORTED_SHARE * counts["steps"]:
            key, limit = _limit(job, modality)
            cut = cut_sentence(modality, counts["steps_cut"], counts["steps"], key, limit)
            job.problems.warn(cut)


def _without_dropped_words(job: ImportJob, segment: Segment, gathered: _Gathered) -> Segment:
    """Remove the words to be dropped, and their rows from what is aligned to words."""
    keep = ~np.isin(np.array(segment.words, dtype=object), job.align.drop_words)
    gathered.counts["words_dropped"] += int(np.count_nonzero(~keep))
    by_word = tuple(segment.steps) if job.alignment == "word" else ("text",)
    return replace(
        segment,
        words=tuple(word for word, stays in zip(segment.words, keep, strict=True) if stays),
        steps=segment.steps | {modality: segment.steps[modality][keep] for modality in by_word},
    )


def _label(job: ImportJob, segment: Segment, gathered: _Gathered) -> float:
    """Return the label, clipped within the recipe's tolerance."""
    spec, value = job.recipe.labels, segment.label
    where = f"{job.recipe.name}: the label of {segment.id!r} is {value:g}, but {job.recipe.source}"
    if spec.task == "classification":
        if value not in range(len(spec.classes)):
            job.problems.add("label", f"{where} has the classes 0 to {len(spec.classes) - 1}")
            return 0.0
        return value
    assert spec.low is not None  # the recipe's own checks
    assert spec.high is not None
    # Labels are float32 in the files: allow for what that rounds away.
    slack = spec.tolerance + 1e-6 * max(abs(spec.low), abs(spec.high))
    if not spec.low - slack <= value <= spec.high + slack:
        allowed = f"{spec.low:g} to {spec.high:g}"
        allowed += f" (± {spec.tolerance:g})" if spec.tolerance else ""
        job.problems.add("label", f"{where} allows {allowed}")
        return spec.low
    clipped = min(max(value, spec.low), spec.high)
    gathered.counts["labels_clipped"] += abs(clipped - value) > 1e-6
    return clipped


def _clean_and_cut(job: ImportJob, modality: str, values_Td: Array, gathered: _Gathered) -> Array:
    """Clean values as the alignment of computational sequences does, then cut to the limit."""
    cleaned = clean_values(values_Td)
    kept = np.asarray(cleaned.values_Td[_kept(job, modality, len(values_Td))], dtype=np.float32)
    gathered.modalities[modality].update(
        values=values_Td.size,
        values_cleaned=cleaned.count,
        steps=len(values_Td),
        steps_cut=len(values_Td) - len(kept),
    )
    return kept


def _limit(job: ImportJob, modality: str) -> tuple[str, int]:
    """Return the key and value of the longest segment, in steps."""
    if job.alignment == "word":
        return "align.max_steps", job.align.max_steps
    key = f"align.max_steps_unaligned.{modality}"
    return key, job.align.max_steps_unaligned[modality]


def _kept(job: ImportJob, modality: str, length: int) -> slice:
    """Return the steps that stay of a segment of `length` steps."""
    _, limit = _limit(job, modality)
    if job.align.truncate == "last":
        return slice(max(0, length - limit), length)
    return slice(0, min(limit, length))


def _folds(job: ImportJob, reading: Reading, gathered: _Gathered) -> dict[str, Array]:
    """Return every fold as one split per segment; the recipe's own folds file comes first."""
    name, problems = job.recipe.name, job.problems
    videos = [row.video for row in gathered.rows]
    own = np.array([row.split for row in gathered.rows], dtype="U5")
    split_of: dict[str, str] = {}
    for row in gathered.rows:
        other = split_of.setdefault(row.video, row.split)
        if other != row.split:
            problems.add(
                "shared video",
                f"{name}: video {row.video!r} is in both {other} and {row.split}, but splits must "
                "not share a video; if these are different videos, give them different ids",
            )
    for split in SPLITS:
        if split not in own:
            problems.add(f"empty {split}", f"{name}: split {split} is empty")
    folds: dict[str, Array] = {}
    try:
        if job.folds_path is not None:
            listed = read_folds(job.folds_path)
            folds = assign_splits(listed, videos, where=str(job.folds_path))
            first = next(iter(listed))
            for video, there, here in zip(videos, folds[first], own, strict=True):
                if there != here:
                    problems.add(
                        "swapped splits",
                        f"{name}: video {video!r} is in {here} of the files, but in {there} of "
                        f"{job.folds_path}: are the files' splits swapped?",
                    )
        else:
            folds = assign_splits(reading.folds, videos, where=name)
            if reading.own_fold is not None:
                folds[reading.own_fold] = own
    except DhmdError as error:
        problems.add("folds", str(error))
    return folds


def _subwords(job: ImportJob, segment: Segment, encoder: WordEncoder | None) -> Sequence[Subwords]:
    """Return the file's tokens, each with its step of text as far as the step stays.

    Raises:
        DhmdError: an encoder is to read them, and they are not its own, or not text's steps.
    """
    assert segment.tokens is not None
    ids, types = segment.tokens
    # A recipe may leave text out; the tokens are stored all the same.
    count = len(segment.steps.get("text", ids))
    kept = range(count)[_kept(job, "text", count)]
    places = np.arange(len(ids), dtype=np.int64)
    steps = np.where((places >= kept.start) & (places < kept.stop), places - kept.start, -1)
    if encoder is None:
        return [Subwords(ids, types, steps)]
    where = f"{job.recipe.name}: {segment.id}"
    if len(ids) != count:
        raise DhmdError(
            f"{where} has {len(ids)} tokens in text_bert, but {count} steps of text: an encoder's "
            "vectors cannot replace them, set features.text to words"
        )
    return encoder.given(ids, types, steps, where)


def _report(job: ImportJob, reading: Reading, gathered: _Gathered) -> dict[str, object]:
    return {
        "alignment": job.alignment,
        "format": job.recipe.format,
        "videos": len({row.video for row in gathered.rows}),
        "segments": len(gathered.rows),
        "splits": {s: sum(row.split == s for row in gathered.rows) for s in SPLITS},
        "counts": dict(sorted(gathered.counts.items())),
        "modalities": {name: dict(counts) for name, counts in gathered.modalities.items()},
        "empty_segments": gathered.empty,
        **reading.notes,
        "warnings": job.problems.warnings(),
    }
