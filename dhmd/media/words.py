"""Find the times of words: align a transcript to the audio, or transcribe it with Whisper."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.optional import import_optional, import_transformers
from dhmd.media.ffmpeg import RATE
from dhmd.media.transcripts import Segment, Transcript, Word, segments_from_chunks

Array = np.ndarray[Any, Any]

_MARGIN = 0.3  # seconds before and after a cue in which its words may also occur
_FRAME = 0.01  # duration of pocketsphinx's frames in seconds
_BEAMS = (1e-100, 1e-200)  # a narrow beam is fast; a wide beam also aligns noisy speech

# Phones of letters and digits, for words that the CMU dictionary does not have.
_SPELLING = dict(
    pair.split(" ", 1)
    for line in (
        "ch CH/ck K/ee IY/ea IY/ng NG/oo UW/ou AW/ow OW/ph F/qu K W/sh SH/th TH/a AE/b B/c K/d D",
        "e EH/f F/g G/h HH/i IH/j JH/k K/l L/m M/n N/o AA/p P/q K/r R/s S/t T/u AH/v V/w W/x K S",
        "y IY/z Z/0 Z IH R OW/1 W AH N/2 T UW/3 TH R IY/4 F AO R/5 F AY V/6 S IH K S",
        "7 S EH V AH N/8 EY T/9 N AY N",
    )
    for pair in line.split("/")
)
_LETTERS = re.compile("|".join(sorted(_SPELLING, key=len, reverse=True)))


@dataclass(frozen=True)
class AlignedTranscript:
    """A transcript with times of words.

    Attributes:
        transcript: the transcript.
        unaligned: number of segments that could not be aligned; their words are spread over them.
        guessed: number of words that are not in the dictionary; their pronunciation was guessed.
    """

    transcript: Transcript
    unaligned: int
    guessed: int


class WordAligner:
    """Forced alignment of English words by pocketsphinx, with the model in its package."""

    def __init__(self) -> None:
        self._pocketsphinx = import_optional("pocketsphinx", "media")
        self.name = f"pocketsphinx {importlib.metadata.version('pocketsphinx')}"
        self._decoders = [
            self._pocketsphinx.Decoder(
                lm=None,
                samprate=RATE,
                loglevel="FATAL",
                beam=beam,
                pbeam=beam,
                wbeam=beam,
                bestpath=False,
                dither=True,  # the logarithm of digital silence is not finite
                seed=1,
            )
            for beam in _BEAMS
        ]
        self._guessed: set[str] = set()

    def __call__(self, transcript: Transcript, sound: Array) -> AlignedTranscript:
        """Align the segments whose words have no times.

        Args:
            transcript: the transcript.
            sound: int16 samples of the audio, shape [N].
        """
        segments: list[Segment] = []
        if not transcript.timed:  # plain text: all words are aligned to the whole audio
            words = tuple(word for segment in transcript.segments for word in segment.words)
            aligned = self._align(words, sound, 0.0)
            if aligned is None:
                return self._result(transcript, transcript)
            position = 0
            for segment in transcript.segments:
                words = aligned[position : position + len(segment.words)]
                position += len(words)
                segments.append(_with_words(segment, words, words[0].start, words[-1].end))
            return self._result(
                transcript, replace(transcript, segments=tuple(segments), timed=True)
            )
        for segment in transcript.segments:
            if not segment.timed:
                start = max(0.0, segment.start - _MARGIN)
                samples = sound[round(start * RATE) : round((segment.end + _MARGIN) * RATE)]
                aligned = self._align(segment.words, samples, start)
                if aligned is not None:
                    segment = _with_words(segment, aligned, segment.start, segment.end)
            segments.append(segment)
        return self._result(transcript, replace(transcript, segments=tuple(segments)))

    def _result(self, original: Transcript, aligned: Transcript) -> AlignedTranscript:
        """Return the aligned transcript with its counts."""
        words = [w for segment in original.segments if not segment.timed for w in segment.words]
        unaligned = sum(not segment.timed for segment in aligned.segments)
        guessed = sum(word.text in self._guessed for word in words)
        return AlignedTranscript(aligned, unaligned, guessed)

    def _align(self, words: Sequence[Word], sound: Array, start: float) -> tuple[Word, ...] | None:
        """Return the words with their times, or None if the audio does not contain them.

        Args:
            words: the words to align.
            sound: int16 samples, shape [N].
            start: time of the first sample in seconds.
        """
        if len(sound) < RATE * _FRAME * 10:
            return None
        for decoder in self._decoders:
            for word in words:
                self._add_pronunciation(decoder, word.text)
            decoder.set_align_text(" ".join(word.text for word in words))
            decoder.start_utt()
            decoder.process_raw(sound.tobytes(), full_utt=True)
            decoder.end_utt()
            rows = [
                (row.start_frame * _FRAME + start, (row.end_frame + 1) * _FRAME + start)
                for row in decoder.seg() or ()
                if not row.word.startswith(("<", "["))
            ]
            if len(rows) == len(words):
                return tuple(
                    Word(word.text, *times) for word, times in zip(words, rows, strict=True)
                )
        return None

    def _add_pronunciation(self, decoder: Any, word: str) -> None:
        """Add a word with a guessed pronunciation to the dictionary if it is not there."""
        if decoder.lookup_word(word) is None:
            phones = " ".join(_SPELLING[match[0]] for match in _LETTERS.finditer(word))
            decoder.add_word(word, phones or "AH", True)
            self._guessed.add(word)


def _with_words(segment: Segment, words: tuple[Word, ...], start: float, end: float) -> Segment:
    """Return a segment with aligned words and new times."""
    return replace(segment, words=words, start=start, end=end, timed=True)


class Whisper:
    """A Whisper model in a local folder, which transcribes audio to words with times.

    Args:
        folder: model in the format of transformers, with weights as safetensors.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise DhmdError(
                f"--whisper: {folder} is not a Whisper model: it must have config.json and weights "
                "as *.safetensors"
            )
        library = import_transformers("media")
        self.name = f"Whisper ({folder.resolve().name})"
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            processor = library.WhisperProcessor.from_pretrained(str(folder), **options)
            model = library.WhisperForConditionalGeneration.from_pretrained(
                str(folder), use_safetensors=True, **options
            )
        except (OSError, ValueError, RuntimeError, LookupError, TypeError) as error:
            raise DhmdError(
                f"--whisper: {folder} cannot be read: {first_line(error)[:200]}"
            ) from error
        self._recognise = library.pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
        )

    def __call__(self, sound: Array, media: Path) -> Transcript:
        """Transcribe the int16 samples [N] of a media file."""
        audio = {"raw": sound.astype(np.float32) / 32768, "sampling_rate": RATE}
        try:
            result = self._recognise(audio, return_timestamps="word")
        except (ValueError, RuntimeError, LookupError, TypeError) as error:
            raise DhmdError(
                f"{media}: {self.name} failed ({first_line(error)[:200]}): use a Whisper model "
                "that returns the times of words"
            ) from error
        segments = segments_from_chunks(result["chunks"], media)
        if not segments:
            raise DhmdError(f"{media}: {self.name} recognised no words")
        return Transcript(media, tuple(segments))
