"""A whole corpus, video by video, into the aligned cache: memory does not grow with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.progress import progress
from dhmd.data.aligned import ENCODER_SOURCE, CacheWriter, SegmentTable, assign_splits, read_folds
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.alignment.gathered import Gathered
from dhmd.data.alignment.labels import dimension_names, read_segments
from dhmd.data.alignment.plan import EPSILON, Plan
from dhmd.data.alignment.sources import Sequences
from dhmd.data.alignment.video import AlignedVideo, align_video
from dhmd.data.alignment.words import TextSink, WordEncoder, reading_words
from dhmd.recipes import Recipe

Array = np.ndarray[Any, Any]


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
    encoder: WordEncoder | None = None,
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
        encoder: gives words their vectors, in place of the recipe's.

    Returns:
        the data report, which the cache holds too: counts, what was cleaned a modality, videos
        that not all sequences share, empty segments and why.

    Raises:
        DhmdError: a sequence is missing or damaged; labels are out of range; a video is in no
            split or in two; a split is empty.
    """
    if encoder is not None:
        recipe, sources = reading_words(recipe), {**sources, ENCODER_SOURCE: encoder.source.digest}
    plan = Plan(
        recipe=recipe,
        config=align,
        alignment=alignment,
        epsilon=epsilon,
        encoder=None if encoder is None else encoder.source,
    )
    folds = read_folds(folds_path)
    with Sequences(sequence_paths, recipe.needed) as sequences:
        plan.check_roles(sequences)
        # Labels are small: every mistake in them or in the folds is found before the long part.
        segments = {video: read_segments(sequences, recipe, video) for video in sequences.shared}
        videos = [video for video, rows in segments.items() if len(rows.labels_S)]
        assign_splits(folds, videos, where=str(folds_path))
        names = {
            modality: dimension_names(sequences, name, sequences.width(name))
            for modality, name in plan.modalities.items()
        }
        if encoder is not None:
            names["text"] = encoder.feature_names
        gathered = Gathered(plan)
        with CacheWriter(output, names, words=sequences.is_text(plan.reference)) as writer:
            sink = writer if encoder is None else TextSink(writer, encoder)
            for video in progress(videos, f"align {recipe.name}", unit="video"):
                aligned = align_video(sequences, video, segments[video].intervals_S2, plan)
                _write(sink, aligned, gathered.add(video, segments[video], aligned))
            if not gathered.ids:
                raise DhmdError(f"{recipe.name}: every segment is empty, nothing is left to align")
            tokens = sink.finish() if isinstance(sink, TextSink) else None
            report = gathered.report(sequences)
            low, high = plan.label_range
            writer.finish(
                SegmentTable(
                    name=recipe.name,
                    task=recipe.labels.task,
                    low=low,
                    high=high,
                    class_names=recipe.labels.classes,
                    alignment=alignment,
                    ids=tuple(gathered.ids),
                    videos=tuple(gathered.videos),
                    modalities=tuple(names),
                    feature_names=names,
                    present_NM=np.concatenate(gathered.present),
                    labels_N=np.concatenate(gathered.labels).astype(np.float32),
                    folds=assign_splits(folds, gathered.videos, where=str(folds_path)),
                    planted={k: np.concatenate(v) for k, v in gathered.planted.items()},
                    tokens=tokens,
                    recipe=recipe.corpus(),
                    sources=sources,
                    report=report,
                )
            )
    return report


def _write(writer: CacheWriter | TextSink, aligned: AlignedVideo, keep_S: Array) -> None:
    """Append the segments of a video that stay."""
    for modality, steps in aligned.steps.items():
        stay_P = np.repeat(keep_S, steps.lengths_S)
        writer.append(modality, steps.values_Pd[stay_P], steps.lengths_S[keep_S])
    if aligned.words is not None:
        stay_P = np.repeat(keep_S, aligned.word_lengths_S)
        writer.append_words(
            [word for word, stay in zip(aligned.words, stay_P, strict=True) if stay],
            aligned.word_intervals_P2[stay_P],
            aligned.word_lengths_S[keep_S],
        )
