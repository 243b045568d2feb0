"""Read the inputs of predictions: transcripts, tables, folders of `.csd` files, feature files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import Corpus
from dhmd.data.alignment import CorpusJob, Origin, WordEncoder
from dhmd.data.csd import write_sequence
from dhmd.data.formats.importing import import_unlabelled
from dhmd.media.transcripts import (
    CHARACTERS_PER_SECOND,
    TRANSCRIPT_SUFFIXES,
    Segment,
    Transcript,
    read_transcript,
    spread_words,
    transcript_from_csv,
)
from dhmd.prediction.sequences import read_sequences
from dhmd.prediction.utterances import Collector, Utterances
from dhmd.training.weights import Description

# An aligned corpus, a table of texts or words, or files and folders.
Source = Corpus | pd.DataFrame | str | Path | Sequence[str | Path]


def read_source(
    source: Source,
    segments: Path | None,
    description: Description,
    origin: Origin,
    encoder: WordEncoder | None,
) -> Utterances:
    """Read utterances (see `Model.predict`) and prepare them like the training data of a model.

    Args:
        source: the files, folder or table; a corpus is not allowed.
        segments: the file of segments, if any.
        description: the description of the model.
        origin: the source files and settings of the training data.
        encoder: the word encoder of the training data, if any.
    """
    align = partial(
        read_sequences,
        origin=origin,
        dataset=description.dataset,
        alignment=description.alignment,
        features=_features(description),
        encoder=encoder,
    )
    if isinstance(source, pd.DataFrame):
        if origin.format != "csd":
            raise DhmdError(
                f"the model of {description.dataset} cannot read a table of words: pass a file of "
                f"format {origin.format}"
            )
        return _read_transcripts(transcripts_from_table(source), None, segments, align)
    assert not isinstance(source, Corpus)  # Model.read handles it
    paths = [Path(path) for path in ([source] if isinstance(source, str | Path) else source)]
    for path in paths:
        if not path.exists():
            raise DhmdError(f"{path} does not exist: pass an existing file or folder")
    if origin.format != "csd":
        return _read_imported(paths, segments, description, origin, encoder)
    folders = [path for path in paths if path.is_dir()]
    files = [path for path in paths if not path.is_dir()]
    for path in files:
        if path.suffix.lower() not in TRANSCRIPT_SUFFIXES:
            raise DhmdError(
                f"{path} is neither a transcript ({', '.join(TRANSCRIPT_SUFFIXES)}) nor a folder "
                "of .csd files: `dhmd extract VIDEO --out FOLDER` writes such a folder for a video"
            )
    if len(folders) > 1:
        raise DhmdError(f"{folders[1]} is a second folder: pass one folder with all .csd files")
    folder = folders[0] if folders else None
    if not files:
        return align(folder, segments)
    transcripts: dict[str, Transcript] = {}
    for path in files:
        video = path.stem.replace("[", "(").replace("]", ")")
        if video in transcripts:
            raise DhmdError(
                f"{path} and {transcripts[video].path} have the same name: rename one of them"
            )
        transcripts[video] = read_transcript(path)
    return _read_transcripts(transcripts, folder, segments, align)


def transcripts_from_table(table: pd.DataFrame) -> dict[str, Transcript]:
    """Return the transcript of each video from a table.

    Args:
        table: either one utterance per row, with the column `text` and optionally `start` and
            `end`, or one word per row, with the columns `word`, `start` and `end`. Times are in
            seconds. Without a column `video`, all rows belong to one video.

    Raises:
        DhmdError: a column is missing, or a time is not valid.
    """
    if table.empty or not {"text", "word"} & set(table.columns):
        columns = ", ".join(map(str, table.columns)) or "none"
        raise DhmdError(
            "a table to predict needs rows and the column text (one utterance per row), or the "
            f"columns word, start and end (one word per row); its columns are {columns}"
        )
    videos = table["video"].astype(str) if "video" in table else pd.Series("text", table.index)
    groups = {str(video): rows for video, rows in table.groupby(videos, sort=False)}
    if "word" not in table:
        return {video: _transcript_from_texts(rows, video) for video, rows in groups.items()}
    return {
        video: transcript_from_csv(rows.to_csv(index=False), Path(f"the words of {video}"))
        for video, rows in groups.items()
    }


def _transcript_from_texts(rows: pd.DataFrame, video: str) -> Transcript:
    """Return a transcript with one segment per row.

    Without times, the texts follow each other at CHARACTERS_PER_SECOND.
    """
    texts = [str(text) for text in rows["text"]]
    ends = np.cumsum([max(1, len(text)) for text in texts]) / CHARACTERS_PER_SECOND
    times = np.stack([np.concatenate([[0.0], ends[:-1]]), ends], axis=1)
    if {"start", "end"} <= set(rows.columns):
        times = rows[["start", "end"]].to_numpy(float)
        if not np.isfinite(times).all() or (times[:, 1] < times[:, 0]).any():
            raise DhmdError(
                f"{video}: start and end must be numbers of seconds, with start before end"
            )
    segments = [
        Segment(start, end, text, spread_words(text, start, end), timed=False)
        for text, (start, end) in zip(texts, times.tolist(), strict=True)
    ]
    return Transcript(Path(video), tuple(segments))


def _read_transcripts(
    transcripts: Mapping[str, Transcript],
    folder: Path | None,
    segments: Path | None,
    align: Callable[..., Utterances],
) -> Utterances:
    """Align transcripts with the `.csd` files of the other modalities in a folder, if any.

    `align` is `read_sequences` with its other arguments; without a file of segments, the segments
    are those of the transcripts.
    """
    transcript_segments = {
        video: np.array([(segment.start, segment.end) for segment in transcript.segments])
        for video, transcript in transcripts.items()
    }
    with TemporaryDirectory() as temporary:
        words = Path(temporary, "words.csd")
        write_sequence(
            words,
            root_name="words",
            entries=(
                (
                    video,
                    np.array([[word.text] for word in transcript.words], dtype=object),
                    np.array([(word.start, word.end) for word in transcript.words]),
                )
                for video, transcript in transcripts.items()
            ),
            metadata=None,
        )
        try:
            return align(folder, transcript_segments if segments is None else segments, words=words)
        except DhmdError as error:
            raise DhmdError(str(error).replace(str(words), "the transcript")) from error


def _read_imported(
    paths: Sequence[Path],
    segments: Path | None,
    description: Description,
    origin: Origin,
    encoder: WordEncoder | None,
) -> Utterances:
    """Read a file or folder in the format of the training data."""
    if segments is not None or len(paths) != 1:
        raise DhmdError(
            f"the model of {description.dataset} reads exactly one file or folder of format "
            f"{origin.format}, which defines the segments: omit --segments and other inputs"
        )
    path, files = paths[0], dict(origin.files)
    if path.is_dir():
        raw = path
        if origin.format == "arrays":
            files = {key: file for key, file in files.items() if (raw / file).is_file()} or files
    else:
        raw = path.parent
        if origin.format != "arrays" and len(files) > 1:
            raise DhmdError(
                f"{path} is a file, but the model of {description.dataset} needs a folder with "
                f"{', '.join(files.values())}"
            )
        files = {next(iter(files)): path.name}
    collector, features = Collector(), _features(description)
    recipe = origin.recipe(description.dataset, features, files)
    job = CorpusJob(
        recipe=recipe,
        paths={key: raw / file for key, file in files.items()},
        align=origin.align,
        alignment=description.alignment,
        encoder=encoder,
    )
    imported = import_unlabelled(job, features, collector)
    steps, cut = imported.cut.get("text", (0, 0))
    return Utterances.from_collector(
        imported.ids,
        np.full((len(imported.ids), 2), np.nan),
        collector,
        list(features),
        imported.present_NM,
        has_words=imported.has_words,
        tokens=imported.tokens,
        cut=(cut, steps),
        notes=imported.notes,
    )


def _features(description: Description) -> dict[str, tuple[str, ...]]:
    """Return the names of the features that the model reads, by modality."""
    return {name: description.features[name] for name in description.inputs}
