"""A whole corpus, video by video, into the aligned cache: memory does not grow with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dhmd.alignment.config import AlignConfig
from dhmd.alignment.labels import SegmentRows, dimension_names, read_segments
from dhmd.alignment.sources import Sequences
from dhmd.alignment.video import AlignedVideo, Steps, align_video
from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.cache import CacheWriter, SegmentTable, assign_splits, read_folds
from dhmd.recipes import Recipe
from dhmd.sequences import segment_id

Array = np.ndarray[Any, Any]

EPSILON = 1e-5  # seconds; a shorter overlap is none (source: SDK; its copy on PyPI has 1e-3)


@dataclass(eq=False)
class _Gathered:
    """One value a segment, growing video by video, and what the report counts."""

    ids: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    labels: list[Array] = field(default_factory=list)
    present: list[Array] = field(default_factory=list)
    planted: dict[str, list[Array]] = field(default_factory=dict)
    empty: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    per_modality: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, name: str, number: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + number


def align_corpus(
    sequence_paths: Mapping[str, Path],
    recipe: Recipe,
    align: AlignConfig,
    *,
    alignment: Literal["word", "none"],
    sources: Mapping[str, str],
    folds_path: Path,
    output: Path,
    epsilon: float = EPSILON,
) -> dict[str, object]:
    """Align the sequences of a recipe and write the cache, whole or not at all.

    Args:
        sequence_paths: sequence name -> `.csd` file.
        recipe: what is text, audio, vision, reference, labels, planted.
        align: section `align`.
        alignment: "word", or "none" for each modality at its own rate.
        sources: file -> sha256, part of the corpus's identity.
        folds_path: the folds file that the recipe names.
        output: the cache.
        epsilon: seconds.

    Returns:
        the data report, which the cache holds too: counts, what was cleaned a modality, videos
        that not all sequences share, empty segments and why.

    Raises:
        DhmdError: a sequence is missing or damaged; labels are out of range; a video is in no
            split or in two; a split is empty.
    """
    reference, label_name = recipe.reference, recipe.labels.sequence
    assert reference is not None  # recipes/ checks it
    assert label_name is not None
    folds = read_folds(folds_path)
    modalities = {name: recipe.modalities[name] for name in recipe.modality_names}
    needed = [reference, *modalities.values(), label_name]
    if recipe.planted is not None:
        needed.append(recipe.planted)
    with Sequences(sequence_paths, needed) as sequences:
        _check_roles(sequences, reference, modalities, align)
        if not sequences.shared:
            raise DhmdError(
                f"no video is shared by all sequences of {recipe.name} ({', '.join(needed)})"
            )
        # Labels are small: every mistake in them or in the folds is found before the long part.
        segments = {v: read_segments(sequences, recipe, v) for v in sequences.shared}
        with_rows = [video for video, rows in segments.items() if len(rows.labels_S)]
        assign_splits(folds, with_rows, where=str(folds_path))
        names = {
            modality: dimension_names(sequences, name, sequences.width(name))
            for modality, name in modalities.items()
        }
        gathered = _Gathered(
            per_modality={m: {"values_cleaned": 0, "segments_absent": 0} for m in modalities}
        )
        words = sequences.is_text(reference)
        with CacheWriter(output, names, words=words) as writer:
            for video in progress(with_rows, f"align {recipe.name}", unit="video"):
                aligned = align_video(
                    sequences,
                    video,
                    reference=reference,
                    modalities=modalities,
                    segments_S2=segments[video].intervals_S2,
                    config=align,
                    alignment=alignment,
                    epsilon=epsilon,
                )
                _append(
                    writer, gathered, video, segments[video], aligned, align, alignment, epsilon
                )
            if not gathered.ids:
                raise DhmdError(f"{recipe.name}: every segment is empty, nothing is left to align")
            report = _report(gathered, sequences, alignment, epsilon)
            writer.finish(
                SegmentTable(
                    name=recipe.name,
                    task=recipe.labels.task,
                    low=_range(recipe)[0],
                    high=_range(recipe)[1],
                    class_names=recipe.labels.classes,
                    alignment=alignment,
                    ids=tuple(gathered.ids),
                    videos=tuple(gathered.videos),
                    modalities=tuple(modalities),
                    feature_names=names,
                    present_NM=np.concatenate(gathered.present),
                    labels_N=np.concatenate(gathered.labels).astype(np.float32),
                    folds=assign_splits(folds, gathered.videos, where=str(folds_path)),
                    planted={k: np.concatenate(v) for k, v in gathered.planted.items()},
                    recipe=recipe.corpus(),
                    sources=sources,
                    report=report,
                )
            )
    return report


def _append(
    writer: CacheWriter,
    gathered: _Gathered,
    video: str,
    rows: SegmentRows,
    aligned: AlignedVideo,
    align: AlignConfig,
    alignment: Literal["word", "none"],
    epsilon: float,
) -> None:
    """Append one video's segments, without the empty ones if they are to be dropped."""
    present_SM = np.stack([steps.present for steps in aligned.steps.values()], axis=1)
    keep_S = np.ones(len(rows.labels_S), dtype=bool)
    for s, (start, end) in enumerate(rows.intervals_S2):
        if end - start < epsilon:
            reason = "no length"
        elif alignment == "word" and not aligned.word_lengths_S[s]:
            reason = "no words"
        elif not present_SM[s].any():
            reason = "no rows"
        else:
            continue
        gathered.empty[segment_id(video, s)] = reason
        keep_S[s] = align.empty_segments == "keep"
    for name, number in aligned.counts.items():
        gathered.count(name, number)
    gathered.count("labels_clipped", rows.clipped)
    for m, (modality, steps) in enumerate(aligned.steps.items()):
        tally = gathered.per_modality[modality]
        tally["values_cleaned"] += steps.bad_values
        tally["segments_absent"] += int(np.count_nonzero(keep_S & ~present_SM[:, m]))
        values_Pd, lengths_S = _kept(steps, keep_S)
        writer.append(modality, values_Pd, lengths_S)
    if aligned.words is not None:
        stay_P = np.repeat(keep_S, aligned.word_lengths_S)
        writer.append_words(
            [word for word, stay in zip(aligned.words, stay_P, strict=True) if stay],
            aligned.word_intervals_P2[stay_P],
            aligned.word_lengths_S[keep_S],
        )
    kept = np.flatnonzero(keep_S)
    gathered.ids.extend(segment_id(video, int(s)) for s in kept)
    gathered.videos.extend([video] * len(kept))
    gathered.labels.append(rows.labels_S[kept])
    gathered.present.append(present_SM[kept])
    for name, values_S in rows.planted.items():
        gathered.planted.setdefault(name, []).append(values_S[kept])


def _kept(steps: Steps, keep_S: Array) -> tuple[Array, Array]:
    if keep_S.all():
        return steps.values_Pd, steps.lengths_S
    return steps.values_Pd[np.repeat(keep_S, steps.lengths_S)], steps.lengths_S[keep_S]


def _check_roles(
    sequences: Sequences, reference: str, modalities: Mapping[str, str], align: AlignConfig
) -> None:
    for modality, name in modalities.items():
        if sequences.is_text(name):
            raise DhmdError(
                f"{sequences[name].path}: modality {modality} needs numbers, but the sequence"
                f" {name!r} holds words"
            )
    if align.drop_words and not sequences.is_text(reference):
        raise DhmdError(
            f"{sequences[reference].path}: align.drop_words is {list(align.drop_words)}, but the"
            f" reference {reference!r} holds no words; set it to []"
        )


def _range(recipe: Recipe) -> tuple[float, float]:
    labels = recipe.labels
    if labels.task == "classification":
        return 0.0, float(len(labels.classes) - 1)
    assert labels.low is not None  # recipes/ checks it
    assert labels.high is not None
    return labels.low, labels.high


def _report(
    gathered: _Gathered, sequences: Sequences, alignment: str, epsilon: float
) -> dict[str, object]:
    return {
        "alignment": alignment,
        "epsilon": epsilon,
        "videos": len(set(gathered.videos)),
        "segments": len(gathered.ids),
        "counts": dict(sorted(gathered.counts.items())),
        "modalities": gathered.per_modality,
        "rows_sorted": dict(sorted(sequences.reordered.items())),
        "videos_not_shared": sequences.not_shared,
        "empty_segments": gathered.empty,
    }
