"""Write a synthetic corpus in CMU's file format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dhmd.base.files import atomic_file, write_text
from dhmd.base.progress import progress
from dhmd.data.csd import write_sequence
from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.frames import (
    Channel,
    absent_utterances,
    add_faults,
    draw_frames,
    draw_loadings,
    frame_width,
)
from dhmd.data.synthetic.latents import (
    EXCLUSIVE,
    MODALITIES,
    SHARED,
    SPLITS,
    GroundTruth,
    Video,
    draw_ground_truth,
    plan_videos,
    round_to_grid,
)
from dhmd.data.synthetic.transcripts import (
    PAUSE,
    PAUSE_ROW,
    Transcript,
    draw_transcript,
    draw_vocabulary,
)

Entry = tuple[str, NDArray[Any], NDArray[Any]]  # video, features [T, D], intervals [T, 2]

SEQUENCES = ("words", "vectors", "acoustic", "visual", "labels", "planted")
FOLDS = "folds.json"

# Metadata values of MOSI's published words file, which are not JSON.
_INVALID_METADATA = {
    "alignment compatible": "asdfasdfasd",
    "computational sequence description": "adsfasd",
    "contact": "b'asdfasdfasd'",
    "dataset name": "asdfasdfasd",
    "md5": "None",
}


def generate(config: GeneratorConfig, folder: Path) -> None:
    """Write a corpus: one `.csd` file per name in SEQUENCES, and `folds.json`.

    Equal settings give equal bytes with the same versions of NumPy and HDF5, on any processor and
    whatever the state of NumPy's global generator. The ground truth and the words are in memory;
    frames are generated video by video.

    Args:
        config: the settings of the corpus.
        folder: the output folder; it is created if necessary, and existing files are replaced.

    Raises:
        DhmdError: a file cannot be written.
    """
    truth = draw_ground_truth(config)
    videos = plan_videos(config)
    words = draw_vocabulary(config)
    transcripts = [(video, draw_transcript(config, video, truth, words)) for video in videos]

    with atomic_file(folder / "words.csd") as temporary:
        texts = np.array([*words.words, PAUSE], dtype="S12")
        write_sequence(
            temporary,
            root_name="generated words",
            entries=(
                # PAUSE_ROW is the last row.
                (video.id, texts[transcript.numbers_T][:, None], transcript.intervals_T2)
                for video, transcript in progress(transcripts, "words")
            ),
            metadata=_metadata(config, "words with pauses"),
        )
        _write_invalid_metadata(temporary)

    vectors = np.concatenate([words.vectors_VD, np.zeros_like(words.vectors_VD[:1])])
    assert PAUSE_ROW == -1
    write_sequence(
        folder / "vectors.csd",
        root_name="generated word vectors",
        entries=(
            (video.id, vectors[transcript.numbers_T], transcript.intervals_T2)
            for video, transcript in progress(transcripts, "vectors")
        ),
        metadata=_metadata(config, "the vector of each word, zeros for pauses"),
        dimension_names=_names("word", config.text_dims),
    )
    files: tuple[tuple[Channel, str], ...] = (("audio", "acoustic"), ("vision", "visual"))
    for channel, name in files:
        write_sequence(
            folder / f"{name}.csd",
            root_name=f"generated {name}",
            entries=_frames(config, channel, truth, progress(transcripts, name)),
            metadata=_metadata(config, f"{name} frames"),
            dimension_names=_names(channel, frame_width(config, channel)),
        )
    write_sequence(
        folder / "labels.csd",
        root_name="Opinion Segment Labels",
        entries=_segment_rows(progress(transcripts, "labels"), truth.label_N[:, None]),
        metadata=_metadata(config, "sentiment as annotated"),
        dimension_names=("sentiment score",),
    )
    names, values = _ground_truth_columns(config, truth)
    write_sequence(
        folder / "planted.csd",
        root_name="generated truth",
        entries=_segment_rows(progress(transcripts, "planted"), values),
        # Changing this text, too, would change the sha256 of the file.
        metadata=_metadata(config, "what was planted in each utterance"),
        dimension_names=names,
    )
    folds = {split: sorted(v.id for v in videos if v.split == split) for split in SPLITS}
    write_text(folder / FOLDS, json.dumps(folds, indent=1) + "\n")


def _frames(
    config: GeneratorConfig,
    channel: Channel,
    truth: GroundTruth,
    transcripts: Iterable[tuple[Video, Transcript]],
) -> Iterator[Entry]:
    directions = draw_loadings(config, channel)
    absent = absent_utterances(config)[channel]
    for video, transcript in transcripts:
        frames, intervals = draw_frames(config, channel, video, truth, transcript, directions)
        yield video.id, *add_faults(config, channel, video, transcript, absent, frames, intervals)


def _segment_rows(
    transcripts: Iterable[tuple[Video, Transcript]], values_NK: NDArray[np.float64]
) -> Iterator[Entry]:
    """Yield one row per label segment; features and intervals are float32, as in MOSI's labels."""
    for video, transcript in transcripts:
        rows = values_NK[video.first : video.first + video.num_segments]
        yield video.id, rows.astype(np.float32), transcript.segments_S2.astype(np.float32)


def _ground_truth_columns(
    config: GeneratorConfig, truth: GroundTruth
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return the names and the values `[N, K]` of the columns of `planted.csd`."""
    columns: dict[str, NDArray[Any]] = {"truth": truth.truth_N}
    for index, modality in enumerate(MODALITIES):
        columns[f"reliability_{modality}"] = round_to_grid(truth.reliability_NM[:, index])
    columns["latent"] = truth.topic_N
    for index in range(SHARED):
        columns[f"shared_{index}"] = round_to_grid(truth.shared_NS[:, index])
    for index, modality in enumerate(MODALITIES):
        for latent in range(EXCLUSIVE):
            column = round_to_grid(truth.exclusive_NME[:, index, latent])
            columns[f"exclusive_{modality}_{latent}"] = column
    if config.interaction > 0:
        columns["reversed"] = truth.reversed_N
    stacked = np.stack([column.astype(np.float64) for column in columns.values()], axis=1)
    return tuple(columns), stacked


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}_{index}" for index in range(count))


def _metadata(config: GeneratorConfig, description: str) -> dict[str, object]:
    return {
        "computational sequence description": f"generated data: {description}",
        "dataset name": f"generated, regime {config.regime}, seed {config.seed}",
        "creator": "dhmd.generated",  # part of the files: renaming it would change their sha256
    }


def _write_invalid_metadata(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        (root,) = file.values()
        for key, text in _INVALID_METADATA.items():
            root["metadata"][key][0] = text
