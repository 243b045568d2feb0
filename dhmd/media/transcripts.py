"""Transcripts as words with times: .srt, .vtt, Whisper and WhisperX JSON, .csv, plain text."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.text import parse_csv

PAUSE = 0.5  # seconds between two words that separate segments where the file has no cues
CHARACTERS_PER_SECOND = 14.0  # of speech, assumed where plain text comes without a duration

_OPEN_WORD = 0.3  # seconds, of a word whose end is not known

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
_ARROW = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_INLINE_TIME = re.compile(rf"<{_TIME}>")
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")
_NOT_SPOKEN = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫]")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+|\n\s*\n")
_COLUMNS = {
    "word": ("word", "text", "token"),
    "start": ("start", "begin", "onset"),
    "end": ("end", "stop", "offset"),
}


class Word(NamedTuple):
    """A spoken word, in lower case and without punctuation at its ends; times in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Segment:
    """A cue, or a sentence where the file has no cues.

    Attributes:
        start, end: seconds.
        text: as the file has it, without mark-up.
        words: in order of time.
        timed: whether the file has the words' own times; else they are spread over the segment.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...]
    timed: bool


@dataclass(frozen=True)
class Transcript:
    """A transcript.

    Attributes:
        path: the file, or what made the transcript.
        segments: in order of time; each has at least one word.
        timed: whether the segments' times are known; else they are spread over the duration.
    """

    path: Path
    segments: tuple[Segment, ...]
    timed: bool = True

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order of time."""
        words = (word for segment in self.segments for word in segment.words)
        return tuple(sorted(words, key=lambda word: word.start))

    @property
    def pauses(self) -> tuple[tuple[float, float], ...]:
        """The intervals of more than `PAUSE` seconds between two words."""
        groups = split_at_pauses(self.words)
        return tuple((one[-1].end, two[0].start) for one, two in pairwise(groups))


def read_transcript(path: Path, *, duration: float | None = None) -> Transcript:
    """Read a transcript; the file's suffix decides its format.

    Words without times are spread over their cue in proportion to their length.

    Args:
        path: .srt, .vtt, .json (Whisper, WhisperX), .csv (word, start, end) or .txt.
        duration: seconds that plain text is spread over; None assumes a usual rate of speech.

    Raises:
        DhmdError: no such file, an unknown suffix, a damaged line, or no words.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DhmdError(
            f"{path} is not a transcript that can be read: name a file that ends in "
            f"{', '.join(_READERS)}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DhmdError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DhmdError(f"{path} is not UTF-8 text: convert it to UTF-8") from error
    # splitlines() would also split at characters that occur within a line of speech.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if path.suffix.lower() == ".txt":
        transcript = Transcript(path, tuple(_plain(text, duration)), timed=False)
    else:
        segments = sorted(reader(text, path), key=lambda segment: segment.start)
        transcript = Transcript(path, tuple(segments))
    if not transcript.segments:
        raise DhmdError(f"{path} has no words: check that it is the transcript")
    return transcript


def find_transcript(media: Path) -> Path | None:
    """Return the transcript beside a media file: the same name with a transcript's suffix."""
    candidates = (media.with_suffix(suffix) for suffix in _READERS)
    return next((path for path in candidates if path.is_file()), None)


def spread(text: str, start: float, end: float) -> tuple[Word, ...]:
    """Divide an interval among the words of a text, in proportion to their lengths."""
    words = normalised_words(text)
    total = sum(map(len, words))
    result, done = [], 0
    for word in words:
        first, done = done, done + len(word)
        result.append(
            Word(word, start + (end - start) * first / total, start + (end - start) * done / total)
        )
    return tuple(result)


def normalised_words(text: str) -> list[str]:
    """Return the spoken words of a text; notes in brackets, such as [music], are left out."""
    stripped = (_without_punctuation(word) for word in _NOT_SPOKEN.sub(" ", text).split())
    return [word for word in stripped if word]


def split_at_pauses(words: Sequence[Word]) -> list[list[Word]]:
    """Group words that follow each other within `PAUSE` seconds."""
    groups: list[list[Word]] = []
    for word in words:
        if not groups or word.start - groups[-1][-1].end > PAUSE:
            groups.append([])
        groups[-1].append(word)
    return groups


def segments_of_chunks(chunks: Sequence[Mapping[str, Any]], path: Path) -> list[Segment]:
    """Read words as transformers' speech recognition returns them: `text` and `timestamp`."""
    words = []
    for chunk in chunks:
        start, end = chunk.get("timestamp") or (None, None)
        first = _number(start, path)
        # Whisper leaves the end of the last word open.
        last = first + _OPEN_WORD if end is None else _number(end, path)
        words.append(Word(" ".join(str(chunk.get("text", "")).split()), first, max(first, last)))
    return _sentences(words)


def _without_punctuation(word: str) -> str:
    ends = [at for at, letter in enumerate(word) if letter.isalnum()]
    return word[ends[0] : ends[-1] + 1].lower() if ends else ""


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")


def _cues(text: str, path: Path) -> Iterator[Segment]:
    """Read SubRip and WebVTT: lines with an arrow, each with the lines below it."""
    lines = text.split("\n")
    starts = [at for at, line in enumerate(lines) if "-->" in line]
    rolling = _INLINE_TIME.search(text) is not None
    shown = ""  # the last line of the cue before
    for number, at in enumerate(starts):
        match = _ARROW.fullmatch(lines[at])
        if match is None:
            raise DhmdError(
                f"{path}, line {at + 1}: {lines[at][:60]!r} is not a line of times such as "
                "00:00:01,000 --> 00:00:02,500"
            )
        start, end = _seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])
        if end < start:
            raise DhmdError(f"{path}, line {at + 1}: the cue ends before it starts")
        stop = starts[number + 1] if number + 1 < len(starts) else len(lines)
        body = lines[at + 1 : stop]
        # A blank line ends a cue; what follows is the next cue's number or name, or a note.
        blank = next((n for n, line in enumerate(body) if not line.strip()), None)
        if blank is None and stop < len(lines) and body and body[-1].strip().isdigit():
            blank = len(body) - 1  # the next cue's number, without the blank line before it
        body = body[:blank]
        if rolling:  # captions that roll repeat the line before
            body = [line for line in body if _clean(line) != shown or _INLINE_TIME.search(line)]
        if body:
            shown = _clean(body[-1])
        yield from _cue(" ".join(body), start, end)


def _cue(marked: str, start: float, end: float) -> Iterator[Segment]:
    pieces = _INLINE_TIME.split(marked)
    text = _clean(marked)
    if len(pieces) == 1:
        words = spread(text, start, end)
    else:  # text, then (hours, minutes, seconds, fraction, text) for each time
        times = [start, *(_seconds(*pieces[at : at + 4]) for at in range(1, len(pieces), 5)), end]
        times = [min(max(time, start), end) for time in times]
        words = tuple(
            word
            for piece, first, last in zip(pieces[0::5], times, times[1:], strict=False)
            for word in spread(_clean(piece), first, max(first, last))
        )
    if words:
        yield Segment(start, end, text, words, timed=len(pieces) > 1)


def _clean(marked: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", marked)).split())


def _json(text: str, path: Path) -> Iterator[Segment]:
    """Read Whisper's and WhisperX's `segments`, or the `chunks` of transformers."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DhmdError(f"{path} is not JSON: {first_line(error)}") from error
    if isinstance(content, dict) and isinstance(content.get("chunks"), list):
        yield from segments_of_chunks([_mapping(one, path) for one in content["chunks"]], path)
        return
    listed = content.get("segments") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise DhmdError(f"{path} has no list 'segments': is it Whisper's JSON?")
    for one in (_mapping(one, path) for one in listed):
        start, end = _number(one.get("start"), path), _number(one.get("end"), path)
        if end < start:
            raise DhmdError(f"{path}: the segment at {start:g} s ends before it starts")
        spoken = " ".join(str(one.get("text", "")).split())
        if isinstance(one.get("words"), list):
            listed_words = [_mapping(word, path) for word in one["words"]]
            words, timed = _word_list(listed_words, start, end, path), True
        else:
            words, timed = spread(spoken, start, end), False
        if words:
            yield Segment(start, end, spoken, words, timed)


def _word_list(
    listed: Sequence[Mapping[str, Any]], start: float, end: float, path: Path
) -> tuple[Word, ...]:
    """Read words whose times may be missing: these lie between their neighbours' times."""
    times = [
        None
        if one.get("start") is None or one.get("end") is None
        else (_number(one["start"], path), _number(one["end"], path))
        for one in listed
    ]
    result: list[Word] = []
    at = 0
    while at < len(listed):
        known, stop = times[at], at + 1
        if known is None:
            while stop < len(listed) and times[stop] is None:
                stop += 1
            after = times[stop] if stop < len(listed) else None
            first = result[-1].end if result else start
            known = (first, max(first, end if after is None else after[0]))
        if known[1] < known[0]:
            raise DhmdError(f"{path}: the word at {known[0]:g} s ends before it starts")
        result += spread(" ".join(str(one.get("word", "")) for one in listed[at:stop]), *known)
        at = stop
    return tuple(result)


def _mapping(value: object, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DhmdError(f"{path} has {str(value)[:40]!r} where a segment or a word is expected")
    return value


def _number(value: object, where: Path | str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise DhmdError(f"{where}: {str(value)[:40]!r} is not a time in seconds")
    return number


def _csv(text: str, path: Path) -> Iterator[Segment]:
    """Read a table with the columns word, start and end."""
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    words: list[Word] = []
    for number, cells in parse_csv(text, str(path), delimiter=delimiter).items():
        where = f"{path}, line {number}"
        row = {name.lower(): cell.strip() for name, cell in cells.items()}
        found = {}
        for column, names in _COLUMNS.items():
            name = next((name for name in names if name in row), None)
            if name is None:
                raise DhmdError(
                    f"{path} has no column {column}: its first line must name the columns word, "
                    "start and end"
                )
            found[column] = row[name]
        start, end = _number(found["start"], where), _number(found["end"], where)
        if end < start:
            raise DhmdError(f"{where}: the word ends before it starts")
        if found["word"]:
            words.append(Word(found["word"], start, end))
    yield from _sentences(sorted(words, key=lambda word: word.start))


def _sentences(words: Sequence[Word]) -> list[Segment]:
    """Group words with times: a segment ends at a full stop or at a pause."""
    segments = []
    for group in split_at_pauses(words):
        while group:
            ends = (n for n, word in enumerate(group, 1) if word.text[-1:] in ".!?…")
            count = next(ends, len(group))
            some, group = group[:count], group[count:]
            spoken = tuple(word for one in some for word in spread(*one))
            if spoken:
                text = " ".join(word.text for word in some)
                segments.append(Segment(some[0].start, some[-1].end, text, spoken, timed=True))
    return segments


def _plain(text: str, duration: float | None) -> Iterator[Segment]:
    """Divide plain text into sentences, and the duration among these."""
    sentences = [" ".join(one.split()) for one in _SENTENCE_END.split(text) if one.strip()]
    lengths = [sum(map(len, normalised_words(one))) for one in sentences]
    total, done = sum(lengths), 0
    rate = total / duration if duration else CHARACTERS_PER_SECOND
    for sentence, length in zip(sentences, lengths, strict=True):
        start, done = done / rate, done + length
        if length:
            end = done / rate
            yield Segment(start, end, sentence, spread(sentence, start, end), timed=False)


_READERS: Mapping[str, Callable[[str, Path], Iterator[Segment]]] = {
    ".srt": _cues,
    ".vtt": _cues,
    ".json": _json,
    ".csv": _csv,
    ".txt": lambda text, path: _plain(text, None),
}

TRANSCRIPT_SUFFIXES = tuple(_READERS)
