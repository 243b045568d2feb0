"""Import a format's own files into the aligned features file, segment by segment.

Axes: T steps, d features, K tokens.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.data.aligned import (
    SPLITS,
    SegmentTable,
    Tokens,
    aligned_writer,
    assign_splits,
    read_folds,
)
from dhmd.data.alignment import (
    REPORTED_SHARE,
    CorpusJob,
    Origin,
    SegmentSink,
    TextWriter,
    checked_labels,
    clean_values,
    cleaned_sentence,
    cut_sentence,
    table_of,
)
from dhmd.data.formats.conversion import whole_numbers
from dhmd.data.formats.reading import ImportJob, ProblemsFoundError, Reading, Segment
from dhmd.data.text.subwords import Subwords
from dhmd.data.text.writer import tokens_of

Array = np.ndarray[Any, Any]
Warn = Callable[[str], object]

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


def import_corpus(job: CorpusJob, output: Path) -> dict[str, object]:
    """Import a corpus and write the aligned features file, whole or not at all.

    Returns:
        The data report, which is also stored in the file.

    Raises:
        DhmdError: the files are damaged, unsafe or contradict the recipe; the message has the
            first problem and the command that lists the others.
    """
    run = _Import(_import_job(job))
    reading, problems, encoder = run.reading, run.problems, job.encoder
    names = dict(reading.feature_names)
    if encoder is not None:
        names["text"] = encoder.feature_names
    with aligned_writer(output, names, words=reading.has_words) as writer:
        sink: SegmentSink = writer if encoder is None else TextWriter(writer, encoder)
        run.gather(sink)
        tokens = sink.finish() if isinstance(sink, TextWriter) else None
        folds = run.folds()
        problems.stop_if_any(job.recipe.name)
        report, rows = run.report(), run.rows
        if reading.has_tokens:
            tokens = tokens_of([row.tokens for row in rows if row.tokens is not None])
        writer.finish(
            SegmentTable(
                **table_of(job),
                ids=tuple(row.id for row in rows),
                videos=tuple(row.video for row in rows),
                modalities=tuple(names),
                feature_names=names,
                present_NM=np.array([row.present for row in rows], dtype=bool),
                labels_N=np.array([row.label for row in rows], dtype=np.float32),
                folds=folds,
                tokens=tokens,
                recipe=job.recipe.definition(),
                report=report,
            )
        )
    for sentence in problems.warnings():
        _log.warning("%s: %s", job.recipe.name, sentence)
    return report


@dataclass(frozen=True, kw_only=True, eq=False)
class Unlabelled:
    """The utterances of files without labels; their rows are in the sink.

    Attributes:
        ids: N ids `video[i]`.
        present_NM: whether an utterance has a modality.
        has_words: whether the sink has their words.
        tokens: the sub-words, if the encoder is trained with the model.
        cut: by modality, the steps and how many of them are cut off.
        notes: warnings for the user.
    """

    ids: tuple[str, ...]
    present_NM: Array
    has_words: bool
    tokens: Tokens | None
    cut: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]


def import_unlabelled(
    job: CorpusJob, features: Mapping[str, Sequence[str]], sink: SegmentSink
) -> Unlabelled:
    """Read utterances to predict, as `import_corpus` reads a corpus, but without labels and folds.

    Args:
        features: the names of the features that each modality must have.

    Raises:
        DhmdError: the files are damaged or unsafe, or have other features.
    """
    run = _Import(_import_job(job, labelled=False))
    for modality, names in run.reading.feature_names.items():
        wanted = tuple(features[modality])
        if tuple(names) != wanted and not (job.encoder is not None and modality == "text"):
            count, most = len(names), len(wanted)
            others = (pair for pair in zip(names, wanted, strict=False) if pair[0] != pair[1])
            found, expected = next(others, ("", ""))
            what = f"{count} features" if count != most else f"the feature {found}"
            known = f"{most}" if count != most else expected
            raise DhmdError(
                f"{', '.join(map(str, job.paths.values()))}: {modality} has {what}, but the model "
                f"was trained on {known}: it can only read features that were made in the same way"
            )
    text = None if job.encoder is None else TextWriter(sink, job.encoder)
    run.gather(text or sink)
    run.problems.stop_if_any(job.recipe.name)
    return Unlabelled(
        ids=tuple(row.id for row in run.rows),
        present_NM=np.array([row.present for row in run.rows], dtype=bool),
        has_words=run.reading.has_words,
        tokens=None if text is None else text.finish(),
        cut={m: (counts["steps"], counts["steps_cut"]) for m, counts in run.modalities.items()},
        notes=tuple(run.problems.warnings()),
    )


def check_corpus(job: CorpusJob, warn: Warn = _log.warning) -> list[str]:
    """Return everything that `import_corpus` would refuse, one sentence per kind of problem."""
    own = _import_job(job)
    problems = []
    try:
        run = _Import(own)
        run.gather(None)
        run.folds()
    except ProblemsFoundError:
        pass  # the list below contains it
    except DhmdError as error:
        problems = [str(error)]
    for sentence in own.problems.warnings():
        warn(f"{job.recipe.name}: {sentence}")
    return own.problems.sentences() + problems


def _import_job(job: CorpusJob, *, labelled: bool = True) -> ImportJob:
    if job.align.centre_by_video:
        raise DhmdError(
            f"align.centre_by_video works on computational sequences, but {job.recipe.source} has "
            f"format {job.recipe.format}: centre the features in the files themselves"
        )
    return ImportJob(**vars(job), labelled=labelled)


class _Import:
    """One import: cleans and cuts the segments, and collects rows and counts."""

    def __init__(self, job: ImportJob) -> None:
        self.job, self.encoder = job, job.encoder
        self.name, self.problems = job.recipe.name, job.problems
        reader = importlib.import_module(f"dhmd.data.formats.{job.recipe.format}")
        reading: Reading = getattr(reader, f"read_{job.recipe.format}")(job)
        self.reading = reading
        self.rows: list[_Row] = []
        self.empty: dict[str, str] = {}
        self.counts = Counter(labels_clipped=0, words_dropped=0)
        self.modalities = {
            m: Counter(values_cleaned=0, segments_absent=0) for m in reading.feature_names
        }
        if job.align.drop_words and not reading.has_words:
            raise DhmdError(
                f"align.drop_words is {list(job.align.drop_words)}, but the files of {self.name} "
                "have no words: set it to []"
            )
        lacking = ""
        if job.encoder is not None and "text" not in reading.feature_names:
            lacking = f"{self.name} has no text"
        elif job.encoder is not None and not (reading.has_words or reading.has_tokens):
            lacking = f"the files of {self.name} have neither words nor text_bert"
        if lacking:
            raise DhmdError(f"features.text requires an encoder, but {lacking}: set it to words")

    def gather(self, sink: SegmentSink | None) -> None:
        """Read all segments, clean and cut them, and write them to `sink` unless it is None."""
        job = self.job
        seen: set[str] = set()
        for segment in progress(self.reading.segments, f"import {self.name}", unit="segment"):
            if segment.id in seen:
                self.problems.add("id twice", f"{self.name}: the id {segment.id!r} occurs twice")
                continue
            seen.add(segment.id)
            if not self._widths_fit(segment):
                continue
            label = self._label(segment)
            if job.align.drop_words:
                segment = self._without_dropped_words(segment)
            steps = {m: self._clean_and_cut(m, segment.steps[m]) for m in self.modalities}
            present = [
                bool(len(values) if self.encoder is not None and m == "text" else values.any())
                for m, values in steps.items()
            ]
            if not any(present):
                self.empty[segment.id] = "no row of any modality"
                if job.align.empty_segments == "drop":
                    self.problems.leave_out(segment.split, "no modality has a value")
                    continue
            for counts, there in zip(self.modalities.values(), present, strict=True):
                counts["segments_absent"] += not there
            tokens = None if segment.tokens is None else self._subwords(segment, segment.tokens)
            if sink is not None:
                for m, values in steps.items():
                    sink.append(m, values, np.array([len(values)]))
                if self.reading.has_words:
                    words = segment.words[self._kept("text", len(segment.words))]
                    times = np.full((len(words), 2), np.nan)  # unknown
                    sink.append_words(words, times, np.array([len(words)]))
                elif tokens is not None and isinstance(sink, TextWriter):
                    sink.append_subwords(tokens, len(steps["text"]))
            self.rows.append(_Row(segment.id, segment.video, segment.split, label, present, tokens))
        if not self.rows:
            self.problems.stop_if_any(self.name)
            raise DhmdError(f"{self.name}: no segment is left to import")
        self._check_shares()
        labels = self.job.recipe.labels
        if (
            labels.task == "regression"
            and labels.scale is None
            and whole_numbers(np.array([row.label for row in self.rows]))
        ):
            self.problems.warn(
                "all labels are whole numbers from 0 up and are learnt as a regression: if they "
                f"are classes, set labels.task and labels.classes of {self.job.recipe.source}"
            )

    def _widths_fit(self, segment: Segment) -> bool:
        """Return whether all modalities have as many values per step as in other segments."""
        for modality, names in self.reading.feature_names.items():
            width = segment.steps[modality].shape[1]
            if width != len(names):
                self.problems.add(
                    "width",
                    f"{self.name}: {modality} of {segment.id!r} has {width} values per step, but "
                    f"{len(names)} elsewhere",
                )
                return False
        return True

    def _check_shares(self) -> None:
        """Report what is cleaned or cut, and modalities that are absent from many utterances."""
        total = len(self.rows)
        for modality, counts in self.modalities.items():
            absent = counts["segments_absent"]
            if absent == total and self.job.labelled:
                self.problems.add(
                    "empty modality",
                    f"{self.name}: {modality} has no value in any utterance: leave it out of "
                    f"modalities in {self.job.recipe.source}",
                )
            elif absent > _MOSTLY_ABSENT * total:
                self.problems.warn(f"{modality} is absent from {absent} of {total} utterances")
            if counts["values_cleaned"]:
                self.problems.warn(
                    cleaned_sentence(modality, counts["values_cleaned"], counts["values"])
                )
            if counts["steps_cut"] > REPORTED_SHARE * counts["steps"]:
                key, limit = self.job.max_steps(modality)
                self.problems.warn(
                    cut_sentence(modality, counts["steps_cut"], counts["steps"], key, limit)
                )

    def _without_dropped_words(self, segment: Segment) -> Segment:
        """Remove the words to be dropped, and their rows from what is aligned to words."""
        keep = ~np.isin(np.array(segment.words, dtype=object), self.job.align.drop_words)
        self.counts["words_dropped"] += int(np.count_nonzero(~keep))
        by_word = tuple(segment.steps) if self.job.alignment == "word" else ("text",)
        return replace(
            segment,
            words=tuple(word for word, stays in zip(segment.words, keep, strict=True) if stays),
            steps=segment.steps | {modality: segment.steps[modality][keep] for modality in by_word},
        )

    def _label(self, segment: Segment) -> float:
        """Return the label, clipped within the recipe's tolerance; NaN if labels are not read."""
        if not self.job.labelled:
            return math.nan
        labels, problem = checked_labels(np.array([segment.label]), self.job.recipe.labels)
        if problem is not None:
            self.problems.add(
                "label",
                f"{self.name}: the label of {segment.id!r} is {segment.label:g}, but "
                f"{self.job.recipe.source} allows {problem[1]}",
            )
        self.counts["labels_clipped"] += int(abs(labels[0] - segment.label) > 1e-6)
        return float(labels[0])

    def _clean_and_cut(self, modality: str, values_Td: Array) -> Array:
        """Clean values as the alignment of computational sequences does, then cut to the limit."""
        cleaned = clean_values(values_Td)
        kept = np.asarray(cleaned.values_Td[self._kept(modality, len(values_Td))], np.float32)
        self.modalities[modality].update(
            values=values_Td.size,
            values_cleaned=cleaned.count,
            steps=len(values_Td),
            steps_cut=len(values_Td) - len(kept),
        )
        return kept

    def _kept(self, modality: str, length: int) -> slice:
        """Return the steps that stay of a segment of `length` steps."""
        _, limit = self.job.max_steps(modality)
        if self.job.align.truncate == "last":
            return slice(max(0, length - limit), length)
        return slice(0, min(limit, length))

    def folds(self) -> dict[str, Array]:
        """Return every fold as one split per segment; the recipe's own folds file comes first."""
        name, problems, path = self.name, self.problems, self.job.folds_path
        videos = [row.video for row in self.rows]
        own = np.array([row.split for row in self.rows], dtype="U5")
        split_of: dict[str, str] = {}
        for video, split in zip(videos, own, strict=True):
            other = split_of.setdefault(video, split)
            if other != split:
                problems.add(
                    "shared video",
                    f"{name}: video {video!r} is in both {other} and {split}, but splits must not "
                    "share a video; if these are different videos, give them different ids",
                )
        for split in SPLITS:
            if split not in own:
                problems.add(f"empty {split}", f"{name}: split {split} is empty")
        folds: dict[str, Array] = {}
        try:
            if path is None:
                folds = assign_splits(self.reading.folds, videos, where=name)
                if self.reading.own_fold is not None:
                    folds[self.reading.own_fold] = own
            else:
                folds = assign_splits(read_folds(path), videos, where=str(path))
                for video, there, here in zip(videos, next(iter(folds.values())), own, strict=True):
                    if there != here:
                        problems.add(
                            "swapped splits",
                            f"{name}: video {video!r} is in {here} of the files, but in {there} of "
                            f"{path}: are the files' splits swapped?",
                        )
        except DhmdError as error:
            problems.add("folds", str(error))
        return folds

    def _subwords(self, segment: Segment, tokens: tuple[Array, Array]) -> Sequence[Subwords]:
        """Return the file's tokens, each with the index of its step of text; -1 if it is cut."""
        ids, types = tokens
        # The tokens are stored even if the recipe leaves text out.
        count = len(segment.steps.get("text", ids))
        kept = range(count)[self._kept("text", count)]
        index = np.arange(len(ids), dtype=np.int64)
        steps = np.where((index >= kept.start) & (index < kept.stop), index - kept.start, -1)
        if self.encoder is None:
            return [Subwords(ids, types, steps)]
        where = f"{self.name}: {segment.id}"
        if len(ids) != count:
            raise DhmdError(
                f"{where} has {len(ids)} tokens in text_bert, but {count} steps of text: an "
                "encoder's vectors cannot replace them, set features.text to words"
            )
        return self.encoder.given(ids, types, steps, where)

    def report(self) -> dict[str, object]:
        """Return the data report as JSON values."""
        return {
            "alignment": self.job.alignment,
            "format": self.job.recipe.format,
            "origin": Origin.of_imported(self.job).as_json(),
            "videos": len({row.video for row in self.rows}),
            "segments": len(self.rows),
            "splits": {s: sum(row.split == s for row in self.rows) for s in SPLITS},
            "counts": dict(sorted(self.counts.items())),
            "modalities": {name: dict(counts) for name, counts in self.modalities.items()},
            "empty_segments": self.empty,
            **self.reading.notes,
            "warnings": self.problems.warnings(),
        }
