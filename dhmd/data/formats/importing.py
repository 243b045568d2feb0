"""Import the files of a format into the aligned features file, segment by segment.

Axes: N utterances, M modalities, T steps, d features.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

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
from dhmd.data.aligned.corpus import Array
from dhmd.data.alignment import (
    REPORTED_SHARE,
    CorpusJob,
    Origin,
    SegmentSink,
    TextWriter,
    clean_values,
    cleaned_sentence,
    clip_labels,
    cut_sentence,
    table_fields,
)
from dhmd.data.formats.conversion import may_be_classes
from dhmd.data.formats.interface import ImportJob, ParsedCorpus, ProblemsFoundError, Segment
from dhmd.data.text.subwords import Subwords
from dhmd.data.text.writer import join_tokens

Warn = Callable[[str], object]

_log = logging.getLogger(__name__)
_MAX_ABSENT_SHARE = (
    1 / 2
)  # fraction of utterances without a modality above which a warning is given


class _Row(NamedTuple):
    """One row of the table of segments."""

    id: str
    video: str
    split: str
    label: float
    present: list[bool]  # per modality
    tokens: Sequence[Subwords] | None


def import_corpus(job: CorpusJob, output: Path) -> None:
    """Import a corpus, and write the aligned features file atomically.

    Raises:
        DhmdError: the files are damaged or unsafe, or contradict the recipe; the message has the
            first problem and the command that lists all of them.
    """
    importer = _Importer(_import_job(job))
    parsed, problems, encoder = importer.parsed, importer.problems, job.encoder
    names = dict(parsed.feature_names)
    if encoder is not None:
        names["text"] = encoder.feature_names
    with aligned_writer(output, names, words=parsed.has_words) as writer:
        sink: SegmentSink = writer if encoder is None else TextWriter(writer, encoder)
        importer.process_segments(sink)
        tokens = sink.finish() if isinstance(sink, TextWriter) else None
        folds = importer.folds()
        problems.raise_first(job.recipe.name)
        rows = importer.rows
        if parsed.has_tokens:
            tokens = join_tokens([row.tokens for row in rows if row.tokens is not None])
        writer.finish(
            SegmentTable(
                **table_fields(job),
                ids=tuple(row.id for row in rows),
                videos=tuple(row.video for row in rows),
                modalities=tuple(names),
                feature_names=names,
                present_NM=np.array([row.present for row in rows], dtype=bool),
                labels_N=np.array([row.label for row in rows], dtype=np.float32),
                folds=folds,
                tokens=tokens,
                recipe=job.recipe.definition(),
                report=importer.report(),
            )
        )
    for sentence in problems.warnings():
        _log.warning("%s: %s", job.recipe.name, sentence)


@dataclass(frozen=True, kw_only=True, eq=False)
class UnlabelledCorpus:
    """The utterances of files without labels, except their features.

    Attributes:
        ids: N ids `video[i]`.
        present_NM: bool `[N, M]`, whether an utterance has a modality.
        has_words: whether the sink has their words.
        tokens: the sub-words if the encoder is trained with the model, else None.
        cut: the number of steps of each modality, and how many of them are cut off.
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
) -> UnlabelledCorpus:
    """Read utterances to predict like `import_corpus`, but without labels and folds.

    Args:
        job: the files and the settings of the import.
        features: for each modality, the names of the features that the model was trained on.
        sink: receives the features and words.

    Raises:
        DhmdError: the files are damaged or unsafe, or have other features.
    """
    importer = _Importer(_import_job(job, labelled=False))
    for modality, names in importer.parsed.feature_names.items():
        expected = tuple(features[modality])
        if tuple(names) != expected and not (job.encoder is not None and modality == "text"):
            if len(names) != len(expected):
                actual, trained = f"{len(names)} features", f"{len(expected)}"
            else:
                pairs = zip(names, expected, strict=True)
                name, trained = next(pair for pair in pairs if pair[0] != pair[1])
                actual = f"the feature {name}"
            raise DhmdError(
                f"{', '.join(map(str, job.paths.values()))}: {modality} has {actual}, but the "
                f"model was trained on {trained}: extract the features as for the training data"
            )
    text = None if job.encoder is None else TextWriter(sink, job.encoder)
    importer.process_segments(text or sink)
    importer.problems.raise_first(job.recipe.name)
    modalities = importer.modalities.items()
    return UnlabelledCorpus(
        ids=tuple(row.id for row in importer.rows),
        present_NM=np.array([row.present for row in importer.rows], dtype=bool),
        has_words=importer.parsed.has_words,
        tokens=None if text is None else text.finish(),
        cut={m: (counts["steps"], counts["steps_cut"]) for m, counts in modalities},
        notes=tuple(importer.problems.warnings()),
    )


def check_corpus(job: CorpusJob, warn: Warn = _log.warning) -> list[str]:
    """Return all errors that `import_corpus` could raise, one sentence per kind of problem.

    `warn` is called with each warning.
    """
    import_job = _import_job(job)
    errors = []
    try:
        importer = _Importer(import_job)
        importer.process_segments(None)
        importer.folds()
    except ProblemsFoundError:
        pass  # its sentence is among those of `problems`
    except DhmdError as error:
        errors = [str(error)]
    for sentence in import_job.problems.warnings():
        warn(f"{job.recipe.name}: {sentence}")
    return import_job.problems.sentences() + errors


def _import_job(job: CorpusJob, *, labelled: bool = True) -> ImportJob:
    if job.align.centre_by_video:
        raise DhmdError(
            f"align.centre_by_video requires computational sequences, but {job.recipe.source} has "
            f"format {job.recipe.format}: set align.centre_by_video to [], and centre the features "
            "in the files"
        )
    return ImportJob(**vars(job), labelled=labelled)


class _Importer:
    """An import in progress: cleans and cuts segments, and collects the table and the report."""

    def __init__(self, job: ImportJob) -> None:
        self.job, self.encoder = job, job.encoder
        self.name, self.problems = job.recipe.name, job.problems
        reader = importlib.import_module(f"dhmd.data.formats.{job.recipe.format}")
        parsed: ParsedCorpus = getattr(reader, f"read_{job.recipe.format}")(job)
        self.parsed = parsed
        self.rows: list[_Row] = []
        self.empty: dict[str, str] = {}
        self.counts = Counter(labels_clipped=0, words_dropped=0)
        self.modalities = {
            m: Counter(values_cleaned=0, segments_absent=0) for m in parsed.feature_names
        }
        if job.align.drop_words and not parsed.has_words:
            raise DhmdError(
                f"align.drop_words is {list(job.align.drop_words)}, but the files of {self.name} "
                "have no words: set align.drop_words to []"
            )
        problem = ""
        if job.encoder is not None and "text" not in parsed.feature_names:
            problem = f"{self.name} has no text"
        elif job.encoder is not None and not (parsed.has_words or parsed.has_tokens):
            problem = f"the files of {self.name} have neither words nor text_bert"
        if problem:
            raise DhmdError(
                f"features.text requires an encoder, but {problem}: set features.text to words"
            )

    def process_segments(self, sink: SegmentSink | None) -> None:
        """Read, clean and cut all segments, and write them to `sink` unless it is None."""
        job = self.job
        seen: set[str] = set()
        for segment in progress(self.parsed.segments, f"import {self.name}", unit="segment"):
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
            for counts, is_present in zip(self.modalities.values(), present, strict=True):
                counts["segments_absent"] += not is_present
            tokens = None if segment.tokens is None else self._subwords(segment, segment.tokens)
            if sink is not None:
                for m, values in steps.items():
                    sink.append(m, values, np.array([len(values)]))
                if self.parsed.has_words:
                    words = segment.words[self._kept_steps("text", len(segment.words))]
                    times = np.full((len(words), 2), np.nan)  # unknown
                    sink.append_words(words, times, np.array([len(words)]))
                elif tokens is not None and isinstance(sink, TextWriter):
                    sink.append_subwords(tokens, len(steps["text"]))
            self.rows.append(_Row(segment.id, segment.video, segment.split, label, present, tokens))
        if not self.rows:
            self.problems.raise_first(self.name)
            raise DhmdError(f"{self.name}: no segment is left to import")
        self._add_warnings()
        labels = self.job.recipe.labels
        if (
            labels.task == "regression"
            and labels.scale is None
            and may_be_classes(np.array([row.label for row in self.rows]))
        ):
            self.problems.warn(
                "all labels are non-negative whole numbers, and the task is regression: if they "
                f"are classes, set labels.task and labels.classes of {self.job.recipe.source}"
            )

    def _widths_fit(self, segment: Segment) -> bool:
        """Return whether all modalities have the same width as in the other segments."""
        for modality, names in self.parsed.feature_names.items():
            width = segment.steps[modality].shape[1]
            if width != len(names):
                self.problems.add(
                    "width",
                    f"{self.name}: {modality} of {segment.id!r} has {width} values per step, but "
                    f"{len(names)} elsewhere",
                )
                return False
        return True

    def _add_warnings(self) -> None:
        """Record warnings on cleaned values, cut steps, and modalities that are often absent."""
        total = len(self.rows)
        for modality, counts in self.modalities.items():
            absent = counts["segments_absent"]
            if absent == total and self.job.labelled:
                self.problems.add(
                    "empty modality",
                    f"{self.name}: {modality} has no value in any utterance: leave it out of "
                    f"modalities in {self.job.recipe.source}",
                )
            elif absent > _MAX_ABSENT_SHARE * total:
                self.problems.warn(f"{modality} is absent from {absent} of {total} utterances")
            if counts["values_cleaned"]:
                self.problems.warn(
                    cleaned_sentence(modality, counts["values_cleaned"], counts["values"])
                )
            if counts["steps_cut"] > REPORTED_SHARE * counts["steps"]:
                key, limit = self.job.step_limit(modality)
                self.problems.warn(
                    cut_sentence(modality, counts["steps_cut"], counts["steps"], key, limit)
                )

    def _without_dropped_words(self, segment: Segment) -> Segment:
        """Drop the words of `align.drop_words`, and their rows from modalities aligned to words."""
        keep = ~np.isin(np.array(segment.words, dtype=object), self.job.align.drop_words)
        self.counts["words_dropped"] += int(np.count_nonzero(~keep))
        by_word = tuple(segment.steps) if self.job.alignment == "word" else ("text",)
        return replace(
            segment,
            words=tuple(word for word, kept in zip(segment.words, keep, strict=True) if kept),
            steps=segment.steps | {modality: segment.steps[modality][keep] for modality in by_word},
        )

    def _label(self, segment: Segment) -> float:
        """Return the label, clipped to the recipe's range; NaN if labels are not read."""
        if not self.job.labelled:
            return math.nan
        labels, problem = clip_labels(np.array([segment.label]), self.job.recipe.labels)
        if problem is not None:
            self.problems.add(
                "label",
                f"{self.name}: the label of {segment.id!r} is {segment.label:g}, but "
                f"{self.job.recipe.source} allows {problem[1]}",
            )
        self.counts["labels_clipped"] += int(abs(labels[0] - segment.label) > 1e-6)
        return float(labels[0])

    def _clean_and_cut(self, modality: str, values_Td: Array) -> Array:
        """Replace missing values by 0, and cut the steps to the maximum length."""
        cleaned = clean_values(values_Td)
        kept_steps = self._kept_steps(modality, len(values_Td))
        cut_Td = np.asarray(cleaned.values_Td[kept_steps], np.float32)
        self.modalities[modality].update(
            values=values_Td.size,
            values_cleaned=cleaned.count,
            steps=len(values_Td),
            steps_cut=len(values_Td) - len(cut_Td),
        )
        return cut_Td

    def _kept_steps(self, modality: str, length: int) -> slice:
        """Return the steps that remain of `length` steps after cutting."""
        _, limit = self.job.step_limit(modality)
        if self.job.align.truncate == "last":
            return slice(max(0, length - limit), length)
        return slice(0, min(limit, length))

    def folds(self) -> dict[str, Array]:
        """Return `[N]` splits per fold: those of the folds file, or of the format without one.

        Problems are recorded, such as a video in two splits.
        """
        name, problems, path = self.name, self.problems, self.job.folds_path
        videos = [row.video for row in self.rows]
        file_splits = np.array([row.split for row in self.rows], dtype="U5")
        split_of: dict[str, str] = {}
        for video, split in zip(videos, file_splits, strict=True):
            other = split_of.setdefault(video, split)
            if other != split:
                problems.add(
                    "shared video",
                    f"{name}: video {video!r} is in both {other} and {split}, but splits must not "
                    "share a video; if these are different videos, give them different ids",
                )
        for split in SPLITS:
            if split not in file_splits:
                problems.add(f"empty {split}", f"{name}: split {split} is empty")
        folds: dict[str, Array] = {}
        try:
            if path is None:
                folds = assign_splits(self.parsed.folds, videos, where=name)
                if self.parsed.file_fold is not None:
                    folds[self.parsed.file_fold] = file_splits
            else:
                folds = assign_splits(read_folds(path), videos, where=str(path))
                first = next(iter(folds.values()))
                for video, split, file_split in zip(videos, first, file_splits, strict=True):
                    if split != file_split:
                        problems.add(
                            "swapped splits",
                            f"{name}: video {video!r} is in {file_split} of the files, but in "
                            f"{split} of {path}: are the files' splits swapped?",
                        )
        except DhmdError as error:
            problems.add("folds", str(error))
        return folds

    def _subwords(self, segment: Segment, tokens: tuple[Array, Array]) -> Sequence[Subwords]:
        """Return the tokens of a file with the index of their step of text; −1 if it is cut."""
        ids, types = tokens
        # Tokens are stored even if the recipe does not have text.
        count = len(segment.steps.get("text", ids))
        kept = range(count)[self._kept_steps("text", count)]
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
        return self.encoder.from_tokens(ids, types, steps, where)

    def report(self) -> dict[str, object]:
        """Return the data report as JSON values."""
        return {
            "alignment": self.job.alignment,
            "format": self.job.recipe.format,
            "origin": Origin.from_import(self.job).as_json(),
            "videos": len({row.video for row in self.rows}),
            "segments": len(self.rows),
            "splits": {s: sum(row.split == s for row in self.rows) for s in SPLITS},
            "counts": dict(sorted(self.counts.items())),
            "modalities": {name: dict(counts) for name, counts in self.modalities.items()},
            "empty_segments": self.empty,
            **self.parsed.notes,
            "warnings": self.problems.warnings(),
        }
