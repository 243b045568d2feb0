"""What can be predicted: transcripts, tables, `.csd` folders, feature files and aligned corpora."""

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
    spread,
)
from dhmd.prediction.sequences import read_sequences
from dhmd.prediction.utterances import Collector, Utterances
from dhmd.training.weights import Description

# An aligned corpus; a table of texts or words; files or a folder.
Source = Corpus | pd.DataFrame | str | Path | Sequence[str | Path]


def read_source(
    source: Source,
    segments: Path | None,
    description: Description,
    origin: Origin,
    encoder: WordEncoder | None,
) -> Utterances:
    """Read what a user wants to predict (see `Model.predict`) like the model's training data."""
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
                f"the model of {description.dataset} reads files of format {origin.format}, not "
                "words"
            )
        return _read_transcripts(transcripts_of(source), None, segments, align)
    assert not isinstance(source, Corpus)  # see Model.read
    paths = [Path(one) for one in ([source] if isinstance(source, str | Path) else source)]
    for path in paths:
        if not path.exists():
            raise DhmdError(f"{path} does not exist: name a file or a folder to predict")
    if origin.format != "csd":
        return _read_imported(paths, segments, description, origin, encoder)
    folders = [path for path in paths if path.is_dir()]
    files = [path for path in paths if not path.is_dir()]
    for path in files:
        if path.suffix.lower() not in TRANSCRIPT_SUFFIXES:
            raise DhmdError(
                f"{path} is neither a transcript ({', '.join(TRANSCRIPT_SUFFIXES)}) nor a folder "
                "of .csd files, which `dhmd extract VIDEO --out FOLDER` makes of a video"
            )
    if len(folders) > 1:
        raise DhmdError(f"{folders[1]} is a second folder: name one folder with all .csd files")
    folder = folders[0] if folders else None
    if not files:
        return align(folder, segments)
    transcripts: dict[str, Transcript] = {}
    for path in files:
        video = path.stem.replace("[", "(").replace("]", ")")
        if video in transcripts:
            raise DhmdError(f"{path} and {transcripts[video].path} have the same name")
        transcripts[video] = read_transcript(path)
    return _read_transcripts(transcripts, folder, segments, align)


def transcripts_of(table: pd.DataFrame) -> dict[str, Transcript]:
    """Return the transcripts in a table, by video (column `video`; one without it).

    A table with the column `text` has an utterance per row; `start` and `end` may be absent. A
    table with the columns `word`, `start` and `end` has a word per row.
    """
    if table.empty or not {"text", "word"} & set(table.columns):
        columns = ", ".join(map(str, table.columns)) or "none"
        raise DhmdError(
            "a table to predict needs rows and the column text (an utterance per row), or the "
            f"columns word, start and end (a word per row); it has {columns}"
        )
    videos = table["video"].astype(str) if "video" in table else pd.Series("text", table.index)
    groups = {str(video): rows for video, rows in table.groupby(videos, sort=False)}
    if "word" not in table:
        return {video: _transcript_of(rows, video) for video, rows in groups.items()}
    found = {}
    with TemporaryDirectory() as name:
        for n, (video, rows) in enumerate(groups.items()):
            path = Path(name, f"{n}.csv")
            rows.to_csv(path, index=False)
            try:
                found[video] = read_transcript(path)
            except DhmdError as error:
                where = f"the words of {video}"
                raise DhmdError(str(error).replace(str(path), where)) from error
    return found


def _transcript_of(rows: pd.DataFrame, video: str) -> Transcript:
    """Return a segment per row; without times, texts follow each other at a usual rate."""
    texts = [str(text) for text in rows["text"]]
    ends = np.cumsum([max(1, len(text)) for text in texts]) / CHARACTERS_PER_SECOND
    times = np.stack([np.concatenate([[0.0], ends[:-1]]), ends], axis=1)
    if {"start", "end"} <= set(rows.columns):
        times = rows[["start", "end"]].to_numpy(float)
        if not np.isfinite(times).all() or (times[:, 1] < times[:, 0]).any():
            raise DhmdError(f"{video}: start and end must be seconds, and start before end")
    segments = [
        Segment(start, end, text, spread(text, start, end), timed=False)
        for text, (start, end) in zip(texts, times.tolist(), strict=True)
    ]
    return Transcript(Path(video), tuple(segments))


def _read_transcripts(
    transcripts: Mapping[str, Transcript],
    folder: Path | None,
    segments: Path | None,
    align: Callable[..., Utterances],
) -> Utterances:
    """Align transcripts, and the `.csd` files of the other modalities in a folder, if any."""
    asked = {
        video: np.array([(one.start, one.end) for one in transcript.segments])
        for video, transcript in transcripts.items()
    }
    with TemporaryDirectory() as name:
        words = Path(name, "words.csd")
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
            return align(folder, asked if segments is None else segments, words=words)
        except DhmdError as error:
            raise DhmdError(str(error).replace(str(words), "the transcript")) from error


def _read_imported(
    paths: Sequence[Path],
    segments: Path | None,
    description: Description,
    origin: Origin,
    encoder: WordEncoder | None,
) -> Utterances:
    """Read files of the format that the model was trained on."""
    if segments is not None or len(paths) != 1:
        raise DhmdError(
            f"the model of {description.dataset} reads one file or folder of format "
            f"{origin.format}, whose utterances are the segments: leave --segments out"
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
                f"{path} is a file, but the model of {description.dataset} reads a folder with "
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
    found = import_unlabelled(job, features, collector)
    steps, cut = found.cut.get("text", (0, 0))
    return Utterances.collected(
        found.ids,
        np.full((len(found.ids), 2), np.nan),
        collector,
        list(features),
        found.present_NM,
        has_words=found.has_words,
        tokens=found.tokens,
        cut=(cut, steps),
        notes=found.notes,
    )


def _features(description: Description) -> dict[str, tuple[str, ...]]:
    return {name: description.features[name] for name in description.inputs}
