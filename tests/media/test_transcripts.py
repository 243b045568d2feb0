"""Transcripts in each format, and invalid files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.media.transcripts import (
    Transcript,
    Word,
    find_transcript,
    read_transcript,
    split_at_pauses,
)


def read(folder: Path, name: str, text: str, duration: float | None = None) -> Transcript:
    """Write a transcript, and read it."""
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return read_transcript(path, duration=duration)


def spoken(transcript: Transcript) -> list[str]:
    """Return the words of each segment as text."""
    return [" ".join(word.text for word in segment.words) for segment in transcript.segments]


SRT = """\ufeff1\r
00:00:01,000 --> 00:00:03,000 X1:40\r
<i>Good, NOW</i> {\\an8}it's\r
- over!\r
\r
3
01:00:00.5 --> 01:00:02,500
[applause] ♪ (laughs)

2
00:00:05,000 --> 00:00:06,000
Well-known &amp; "safe"
4
00:00:07,000 --> 00:00:08,000
the 39
"""


def test_subrip_cues_are_read(tmp_path: Path) -> None:
    transcript = read(tmp_path, "talk.SRT", SRT)
    assert spoken(transcript) == ["good now it's over", "well-known safe", "the 39"]
    first = transcript.segments[0]
    assert (first.start, first.end, first.timed, transcript.timed) == (1.0, 3.0, False, True)
    # 15 letters of "good", "now", "it's", "over" share two seconds.
    assert [word.end for word in first.words] == pytest.approx(
        [1 + 2 * letters / 15 for letters in (4, 7, 11, 15)]
    )
    groups = split_at_pauses(transcript.words)
    assert [(group[0].start, group[-1].end) for group in groups] == [(1, 3), (5, 6), (7, 8)]


VTT = """WEBVTT Kind: captions

NOTE a remark
that goes on

STYLE
::cue { color: red }

intro
00:01.000 --> 00:03.000 align:start position:0%
<v Ann>this<00:00:01.500><c> is</c><00:00:02.500><c> rolling</c>

00:03.000 --> 00:03.010
this is rolling

00:03.010 --> 00:05.000
this is rolling
text<00:00:04.000><c> here</c>
"""


def test_rolling_webvtt_captions_are_read_with_word_times(tmp_path: Path) -> None:
    transcript = read(tmp_path, "talk.vtt", VTT)
    assert spoken(transcript) == ["this is rolling", "text here"]
    assert transcript.words[:3] == (
        Word("this", 1.0, 1.5),
        Word("is", 1.5, 2.5),
        Word("rolling", 2.5, 3.0),
    )
    assert all(segment.timed for segment in transcript.segments)


def test_whisper_segments_may_lack_word_times(tmp_path: Path) -> None:
    segments = [
        {"start": 1.0, "end": 3.0, "text": " No times."},
        {
            "start": 4.0,
            "end": 6.0,
            "text": " In 1999 he left",
            "words": [
                {"word": " In", "start": 4.0, "end": 4.5},
                {"word": "1999"},  # WhisperX cannot align numbers
                {"word": "he", "start": 5.5, "end": 5.6, "score": 0.9},
                {"word": "left"},
            ],
        },
    ]
    transcript = read(tmp_path, "talk.json", json.dumps({"text": "", "segments": segments}))
    assert spoken(transcript) == ["no times", "in 1999 he left"]
    assert [segment.timed for segment in transcript.segments] == [False, True]
    assert transcript.segments[0].words[0] == Word("no", 1.0, pytest.approx(1 + 2 * 2 / 7))
    assert transcript.segments[1].words[1:] == (
        Word("1999", 4.5, 5.5),
        Word("he", 5.5, 5.6),
        Word("left", 5.6, 6.0),
    )


def test_chunks_of_transformers_become_sentences(tmp_path: Path) -> None:
    chunks = [
        {"text": " Hello", "timestamp": [0.0, 0.4]},
        {"text": " there.", "timestamp": [0.4, 0.8]},
        {"text": " Bye", "timestamp": [0.9, None]},
    ]
    transcript = read(tmp_path, "talk.json", json.dumps({"chunks": chunks}))
    assert spoken(transcript) == ["hello there", "bye"]
    assert transcript.words[-1].end > 0.9


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_words_is_read(tmp_path: Path, delimiter: str) -> None:
    rows = [
        ("End", "Word", "Start"),
        ("0.4", "Yes", "0.1"),
        ("0.9", "indeed.", "0.5"),
        ("1.4", "No", "1.0"),
        ("3.0", "pause", "2.5"),
    ]
    text = "\n".join(delimiter.join(row) for row in rows)
    transcript = read(tmp_path, "talk.csv", text)
    assert spoken(transcript) == ["yes indeed", "no", "pause"]  # a full stop, a pause of 1.1 s
    assert transcript.words[0] == Word("yes", 0.1, 0.4)
    assert all(segment.timed for segment in transcript.segments)


def test_plain_text_is_spread_over_the_duration(tmp_path: Path) -> None:
    text = "Good morning, all. It is late!\n\nThe end"
    transcript = read(tmp_path, "talk.txt", text, duration=28.0)
    assert [segment.text for segment in transcript.segments] == [
        "Good morning, all.",
        "It is late!",
        "The end",
    ]
    assert not transcript.timed
    assert transcript.words[0] == Word("good", 0.0, 4.0)  # 4 of 28 letters
    assert transcript.words[-1].end == pytest.approx(28.0)
    assert 1.5 < read(tmp_path, "talk.txt", text).words[-1].end < 3.0  # a usual rate of speech


def test_the_transcript_next_to_a_video_is_found(tmp_path: Path) -> None:
    assert find_transcript(tmp_path / "talk.mp4") is None
    (tmp_path / "talk.txt").touch()
    (tmp_path / "talk.srt").touch()
    assert find_transcript(tmp_path / "talk.mp4") == tmp_path / "talk.srt"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.doc", "x", "is not a transcript: its suffix must be one of .srt"),
        ("a.srt", "", "has no words"),
        ("a.srt", "1\n0:1 --> later\nx\n", "line 2: '0:1 --> later' is not a line of times"),
        ("a.srt", "00:00:02,000 --> 00:00:01,000\nx\n", "line 1: the cue ends before it starts"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.json", "[]", "has no list 'segments'"),
        ("a.json", '{"segments": [3]}', "has '3' instead of a segment or a word"),
        ("a.json", '{"segments": [{"text": "x"}]}', "'None' is not a time in seconds"),
        (
            "a.json",
            '{"segments": [{"start": 0, "end": 2, "words": [{"start": NaN, "end": 1}]}]}',
            "'nan' is not a time in seconds",
        ),
        ("a.csv", "word,start\nx,1\n", "has no column end"),
        ("a.csv", "word,start,end\nx,1\n", "line 2 has 2 cells, but must have 3"),
        ("a.csv", "word,start,end\nx,1,y\n", "line 2: 'y' is not a time in seconds"),
        ("a.csv", "word,start,end\nx,2,1\n", "line 2: the word ends before it starts"),
        ("a.txt", "...\n", "has no words"),
    ],
)
def test_invalid_transcripts_are_errors(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    with pytest.raises(DhmdError) as caught:
        read(tmp_path, name, text)
    assert str(caught.value).startswith(f"{tmp_path / name}")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_text_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    with pytest.raises(DhmdError, match=r"cannot be read: No such file"):
        read_transcript(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DhmdError, match="is not UTF-8 text"):
        read_transcript(path)
