"""Write a synthetic corpus in the file format of CMU."""

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
    absences,
    add_faults,
    dimensions,
    draw_frames,
    loadings,
)
from dhmd.data.synthetic.latents import (
    EXCLUSIVE,
    MODALITIES,
    SHARED,
    SPLITS,
    GroundTruth,
    Video,
    draw,
    lay_out,
    on_grid,
)
from dhmd.data.synthetic.transcripts import PAUSE, PAUSE_ROW, Transcript, transcribe, vocabulary

Rows = tuple[str, NDArray[Any], NDArray[Any]]

SEQUENCES = ("words", "vectors", "acoustic", "visual", "labels", "planted")
FOLDS = "folds.json"

# The published words file of MOSI has these values instead of JSON.
_JUNK = {
    "alignment compatible": "asdfasdfasd",
    "computational sequence description": "adsfasd",
    "contact": "b'asdfasdfasd'",
    "dataset name": "asdfasdfasd",
    "md5": "None",
}


def generate(config: GeneratorConfig, folder: Path) -> None:
    """Write the corpus: one `.csd` per name in SEQUENCES, and `folds.json`.

    Deterministic: equal configurations give equal bytes with the same numpy and HDF5, whatever
    the processor, the state of numpy's own generator, or what was generated before. The ground
    truth and the words are kept in memory; frames are made video by video.

    Args:
        config: the corpus.
        folder: directory of the files; it is made if need be, files of these names are replaced.

    Raises:
        DhmdError: a file cannot be written.
    """
    truth = draw(config)
    videos = lay_out(config)
    words = vocabulary(config)
    written = [(video, transcribe(config, video, truth, words)) for video in videos]

    with atomic_file(folder / "words.csd") as temporary:
        texts = np.array([*words.words, PAUSE], dtype="S12")
        write_sequence(
            temporary,
            root_name="generated words",
            entries=(
                # PAUSE_ROW is the last row.
                (video.id, texts[script.numbers_T][:, None], script.intervals_T2)
                for video, script in progress(written, "words")
            ),
            metadata=_metadata(config, "words with pauses"),
        )
        _write_junk_metadata(temporary)

    vectors = np.concatenate([words.vectors_VD, np.zeros_like(words.vectors_VD[:1])])
    assert PAUSE_ROW == -1
    write_sequence(
        folder / "vectors.csd",
        root_name="generated word vectors",
        entries=(
            (video.id, vectors[script.numbers_T], script.intervals_T2)
            for video, script in progress(written, "vectors")
        ),
        metadata=_metadata(config, "the vector of each word, zeros for pauses"),
        dimension_names=_names("word", config.text_dims),
    )
    files: tuple[tuple[Channel, str], ...] = (("audio", "acoustic"), ("vision", "visual"))
    for channel, name in files:
        write_sequence(
            folder / f"{name}.csd",
            root_name=f"generated {name}",
            entries=_frames(config, channel, truth, progress(written, name)),
            metadata=_metadata(config, f"{name} frames"),
            dimension_names=_names(channel, dimensions(config, channel)),
        )
    write_sequence(
        folder / "labels.csd",
        root_name="Opinion Segment Labels",
        entries=_segment_rows(progress(written, "labels"), truth.label_N[:, None]),
        metadata=_metadata(config, "sentiment as annotated"),
        dimension_names=("sentiment score",),
    )
    names, values = _ground_truth_columns(config, truth)
    write_sequence(
        folder / "planted.csd",
        root_name="generated truth",
        entries=_segment_rows(progress(written, "planted"), values),
        metadata=_metadata(config, "what was planted in each utterance"),
        dimension_names=names,
    )
    folds = {split: sorted(v.id for v in videos if v.split == split) for split in SPLITS}
    write_text(folder / FOLDS, json.dumps(folds, indent=1) + "\n")


def _frames(
    config: GeneratorConfig,
    channel: Channel,
    truth: GroundTruth,
    written: Iterable[tuple[Video, Transcript]],
) -> Iterator[Rows]:
    directions = loadings(config, channel)
    absent = absences(config)[channel]
    for video, script in written:
        frames, intervals = draw_frames(config, channel, video, truth, script, directions)
        yield video.id, *add_faults(config, channel, video, script, absent, frames, intervals)


def _segment_rows(
    written: Iterable[tuple[Video, Transcript]], values_NK: NDArray[np.float64]
) -> Iterator[Rows]:
    """Yield one row per label segment, float32 throughout, as in MOSI's label file."""
    for video, script in written:
        rows = values_NK[video.first : video.first + video.segments]
        yield video.id, rows.astype(np.float32), script.segments_S2.astype(np.float32)


def _ground_truth_columns(
    config: GeneratorConfig, truth: GroundTruth
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    columns: dict[str, NDArray[Any]] = {"truth": truth.truth_N}
    for index, modality in enumerate(MODALITIES):
        columns[f"reliability_{modality}"] = on_grid(truth.reliability_NM[:, index])
    columns["latent"] = truth.topic_N
    for index in range(SHARED):
        columns[f"shared_{index}"] = on_grid(truth.shared_NS[:, index])
    for index, modality in enumerate(MODALITIES):
        for part in range(EXCLUSIVE):
            column = on_grid(truth.exclusive_NME[:, index, part])
            columns[f"exclusive_{modality}_{part}"] = column
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


def _write_junk_metadata(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        (root,) = file.values()
        for key, text in _JUNK.items():
            root["metadata"][key][0] = text
