"""Read transcripts as words with times: .srt, .vtt, JSON of Whisper(X), .csv, plain text."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.text import parse_csv

PAUSE = 0.5  # seconds; a longer gap between two words ends a segment if the file has no cues
CHARACTERS_PER_SECOND = 14.0  # assumed rate of speech for plain text without a duration

_DEFAULT_DURATION = 0.3  # seconds of a word whose end is unknown

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
    """A cue, or a sentence if the file has no cues.

    Attributes:
        start, end: seconds.
        text: the text in the file, without mark-up.
        words: words in order of time.
        timed: whether the file has times of words; otherwise the words are spread over the segment.
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
        path: the file, or the media file or video that was transcribed.
        segments: segments in order of time; each has at least one word.
        timed: whether the file has times of segments; otherwise they are spread over the duration.
    """

    path: Path
    segments: tuple[Segment, ...]
    timed: bool = True

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order of time."""
        words = (word for segment in self.segments for word in segment.words)
        return tuple(sorted(words, key=lambda word: word.start))


def read_transcript(path: Path, *, duration: float | None = None) -> Transcript:
    """Read a transcript.

    Words without times are spread over their cue in proportion to their length.

    Args:
        path: a file whose suffix names its format: .srt, .vtt, .json (Whisper, WhisperX), .csv
            (columns word, start, end) or .txt.
        duration: duration in seconds over which plain text is spread; None assumes
            CHARACTERS_PER_SECOND.

    Raises:
        DhmdError: there is no such file, an unknown suffix, an invalid line, or no words.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DhmdError(
            f"{path} is not a transcript: its suffix must be one of {', '.join(_READERS)}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DhmdError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DhmdError(f"{path} is not UTF-8 text: convert it to UTF-8") from error
    # Not splitlines(), which also splits at characters that can occur within a line.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if path.suffix.lower() == ".txt":
        return _transcript(path, _plain(text, duration), timed=False)
    return _transcript(path, reader(text, path))


def transcript_from_csv(text: str, path: Path) -> Transcript:
    """Parse CSV with the columns word, start and end; `path` names the text in messages."""
    return _transcript(path, _csv(text, path))


def _transcript(path: Path, segments: Iterable[Segment], *, timed: bool = True) -> Transcript:
    ordered = tuple(sorted(segments, key=lambda segment: segment.start))
    if not ordered:
        raise DhmdError(f"{path} has no words: check that it is the transcript")
    return Transcript(path, ordered, timed)


def find_transcript(media: Path) -> Path | None:
    """Return the transcript next to a media file, with the same name; None if there is none."""
    candidates = (media.with_suffix(suffix) for suffix in _READERS)
    return next((path for path in candidates if path.is_file()), None)


def spread_words(text: str, start: float, end: float) -> tuple[Word, ...]:
    """Divide an interval in seconds among the words of a text, in proportion to their lengths."""
    texts = normalised_words(text)
    total = sum(map(len, texts))
    words, position = [], 0
    for word in texts:
        word_start = start + (end - start) * position / total
        position += len(word)
        words.append(Word(word, word_start, start + (end - start) * position / total))
    return tuple(words)


def normalised_words(text: str) -> list[str]:
    """Return the spoken words of a text, without notes in brackets such as [music]."""
    stripped = (_without_punctuation(word) for word in _NOT_SPOKEN.sub(" ", text).split())
    return [word for word in stripped if word]


def split_at_pauses(words: Sequence[Word]) -> list[list[Word]]:
    """Divide words into groups wherever the gap between two words exceeds `PAUSE`."""
    groups: list[list[Word]] = []
    for word in words:
        if not groups or word.start - groups[-1][-1].end > PAUSE:
            groups.append([])
        groups[-1].append(word)
    return groups


def segments_from_chunks(chunks: Sequence[Mapping[str, Any]], path: Path) -> list[Segment]:
    """Return segments of the words that transformers' speech recognition returns.

    Args:
        chunks: one mapping per word, with the keys `text` and `timestamp` (start and end).
        path: the file, for messages.
    """
    words = []
    for chunk in chunks:
        times = chunk.get("timestamp") or (None, None)
        start = parse_time(times[0], path)
        # Whisper does not return the end of the last word.
        end = start + _DEFAULT_DURATION if times[1] is None else parse_time(times[1], path)
        words.append(Word(" ".join(str(chunk.get("text", "")).split()), start, max(start, end)))
    return _sentences(words)


def _without_punctuation(word: str) -> str:
    """Return a word in lower case, without punctuation at its ends."""
    letters = [index for index, letter in enumerate(word) if letter.isalnum()]
    return word[letters[0] : letters[-1] + 1].lower() if letters else ""


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    """Return the time of a cue in seconds."""
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")


def _cues(text: str, path: Path) -> Iterator[Segment]:
    """Read SubRip and WebVTT: each line with an arrow starts a cue."""
    lines = text.split("\n")
    arrows = [index for index, line in enumerate(lines) if "-->" in line]
    rolling = _INLINE_TIME.search(text) is not None
    previous = ""  # the last line of the previous cue
    for number, index in enumerate(arrows):
        match = _ARROW.fullmatch(lines[index])
        if match is None:
            raise DhmdError(
                f"{path}, line {index + 1}: {lines[index][:60]!r} is not a line of times such as "
                "00:00:01,000 --> 00:00:02,500"
            )
        start, end = _seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])
        if end < start:
            raise DhmdError(f"{path}, line {index + 1}: the cue ends before it starts")
        stop = arrows[number + 1] if number + 1 < len(arrows) else len(lines)
        body = lines[index + 1 : stop]
        # A blank line ends a cue; the number or name of the next cue, or a note, follows it.
        blank = next((n for n, line in enumerate(body) if not line.strip()), None)
        if blank is None and stop < len(lines) and body and body[-1].strip().isdigit():
            blank = len(body) - 1  # the number of the next cue, without a blank line before it
        body = body[:blank]
        if rolling:  # rolling captions repeat the previous line
            body = [line for line in body if _clean(line) != previous or _INLINE_TIME.search(line)]
        if body:
            previous = _clean(body[-1])
        yield from _cue(" ".join(body), start, end)


def _cue(markup: str, start: float, end: float) -> Iterator[Segment]:
    """Yield the segment of a cue, if it has words."""
    pieces = _INLINE_TIME.split(markup)
    text = _clean(markup)
    if len(pieces) == 1:
        words = spread_words(text, start, end)
    else:  # text, then (hours, minutes, seconds, fraction, text) for each time
        inline = [_seconds(*pieces[index : index + 4]) for index in range(1, len(pieces), 5)]
        times = [min(max(time, start), end) for time in (start, *inline, end)]
        words = tuple(
            word
            for piece, first, last in zip(pieces[0::5], times, times[1:], strict=False)
            for word in spread_words(_clean(piece), first, max(first, last))
        )
    if words:
        yield Segment(start, end, text, words, timed=len(pieces) > 1)


def _clean(markup: str) -> str:
    """Return text without tags and repeated spaces."""
    return " ".join(html.unescape(_TAG.sub("", markup)).split())


def _json(text: str, path: Path) -> Iterator[Segment]:
    """Read Whisper's and WhisperX's `segments`, or the `chunks` of transformers."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DhmdError(f"{path} is not JSON: {first_line(error)}") from error
    if isinstance(content, dict) and isinstance(content.get("chunks"), list):
        yield from segments_from_chunks([_mapping(item, path) for item in content["chunks"]], path)
        return
    items = content.get("segments") if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise DhmdError(f"{path} has no list 'segments': is it Whisper's JSON?")
    for item in (_mapping(item, path) for item in items):
        start, end = parse_time(item.get("start"), path), parse_time(item.get("end"), path)
        if end < start:
            raise DhmdError(f"{path}: the segment at {start:g} s ends before it starts")
        text = " ".join(str(item.get("text", "")).split())
        if isinstance(item.get("words"), list):
            word_items = [_mapping(word, path) for word in item["words"]]
            words, timed = _word_list(word_items, start, end, path), True
        else:
            words, timed = spread_words(text, start, end), False
        if words:
            yield Segment(start, end, text, words, timed)


def _word_list(
    items: Sequence[Mapping[str, Any]], start: float, end: float, path: Path
) -> tuple[Word, ...]:
    """Read the words of a segment; words without times lie between the times of their neighbours.

    Args:
        items: one mapping per word, with the key `word` and optionally `start` and `end`.
        start, end: times of the segment.
        path: the file, for messages.
    """
    times = [
        None
        if item.get("start") is None or item.get("end") is None
        else (parse_time(item["start"], path), parse_time(item["end"], path))
        for item in items
    ]
    words: list[Word] = []
    index = 0
    while index < len(items):
        interval, stop = times[index], index + 1
        if interval is None:
            while stop < len(items) and times[stop] is None:
                stop += 1
            following = times[stop] if stop < len(items) else None
            first = words[-1].end if words else start
            interval = (first, max(first, end if following is None else following[0]))
        if interval[1] < interval[0]:
            raise DhmdError(f"{path}: the word at {interval[0]:g} s ends before it starts")
        text = " ".join(str(item.get("word", "")) for item in items[index:stop])
        words += spread_words(text, *interval)
        index = stop
    return tuple(words)


def _mapping(value: object, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DhmdError(f"{path} has {str(value)[:40]!r} instead of a segment or a word")
    return value


def parse_time(value: object, where: Path | str) -> float:
    """Return a time in seconds; `where` is the file and line for messages."""
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
        values = {}
        for column, names in _COLUMNS.items():
            name = next((name for name in names if name in row), None)
            if name is None:
                raise DhmdError(
                    f"{path} has no column {column}: its first line must name the columns word, "
                    "start and end"
                )
            values[column] = row[name]
        start, end = parse_time(values["start"], where), parse_time(values["end"], where)
        if end < start:
            raise DhmdError(f"{where}: the word ends before it starts")
        if values["word"]:
            words.append(Word(values["word"], start, end))
    yield from _sentences(sorted(words, key=lambda word: word.start))


def _sentences(words: Sequence[Word]) -> list[Segment]:
    """Divide words with times into segments, at the end of a sentence or at a pause."""
    segments = []
    for group in split_at_pauses(words):
        while group:
            ends = (n for n, word in enumerate(group, 1) if word.text[-1:] in ".!?…")
            count = next(ends, len(group))
            sentence, group = group[:count], group[count:]
            words_of_sentence = tuple(part for word in sentence for part in spread_words(*word))
            if words_of_sentence:
                text = " ".join(word.text for word in sentence)
                start, end = sentence[0].start, sentence[-1].end
                segments.append(Segment(start, end, text, words_of_sentence, timed=True))
    return segments


def _plain(text: str, duration: float | None) -> Iterator[Segment]:
    """Divide plain text into sentences, and the duration among them."""
    parts = _SENTENCE_END.split(text)
    sentences = [" ".join(part.split()) for part in parts if part.strip()]
    lengths = [sum(map(len, normalised_words(sentence))) for sentence in sentences]
    rate = sum(lengths) / duration if duration else CHARACTERS_PER_SECOND
    position = 0
    for sentence, length in zip(sentences, lengths, strict=True):
        start = position / rate
        position += length
        if length:
            end = position / rate
            yield Segment(start, end, sentence, spread_words(sentence, start, end), timed=False)


_READERS: Mapping[str, Callable[[str, Path], Iterator[Segment]]] = {
    ".srt": _cues,
    ".vtt": _cues,
    ".json": _json,
    ".csv": _csv,
    ".txt": lambda text, path: _plain(text, None),
}

TRANSCRIPT_SUFFIXES = tuple(_READERS)
