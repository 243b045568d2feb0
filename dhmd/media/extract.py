"""`dhmd extract`: extract features of videos and write one computational sequence per modality.

The features of each finished video are a file in the folder `extracted` of the output, so that an
interrupted or extended extraction continues. The `.csd` files are assembled from these files.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.base.files import atomic_file, file_sha256
from dhmd.base.progress import progress
from dhmd.data.csd import EXTRACTOR_KEY, write_sequence
from dhmd.media.audio import OpenSmile
from dhmd.media.encoders import AudioEncoder, ImageEncoder
from dhmd.media.extractor import Extractor, Features, FrameCounts, check_extractor
from dhmd.media.ffmpeg import RATE, Media, open_media
from dhmd.media.transcripts import find_transcript, read_transcript
from dhmd.media.vision import FaceLandmarks
from dhmd.media.words import AlignedTranscript, Whisper, WordAligner

Array = np.ndarray[Any, Any]
Notify = Callable[[str], None]

SEQUENCES = {"text": "words", "audio": "audio", "vision": "vision"}  # modality: sequence
SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".wav", ".mp3", ".flac")
FINISHED_FOLDER = "extracted"

_SILENT = 33  # audio whose 16-bit samples are all below this is silent; -60 dB of full scale
_MAX_MISSING = 0.5  # allowed fraction of undecodable duration, and of frames without a face


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of feature extraction.

    Attributes:
        modalities: text, audio, vision or some of them.
        fps: number of frames per second to analyse.
        transcript: the transcript of a single video; None searches for one next to each video.
        whisper: folder of a Whisper model, for videos without a transcript.
        face_model: a model file for MediaPipe; None takes the model in its package.
        audio_encoder: folder or name of a Hugging Face encoder to use instead of openSMILE.
        image_encoder: folder or name of a Hugging Face encoder to use instead of MediaPipe.
    """

    modalities: tuple[str, ...] = tuple(SEQUENCES)
    fps: float = 10.0
    transcript: Path | None = None
    whisper: Path | None = None
    face_model: Path | None = None
    audio_encoder: str | None = None
    image_encoder: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of an extraction.

    Attributes:
        files: the `.csd` files.
        durations: the duration in seconds of each video in the files, by id.
        reused: number of videos that an earlier run had finished.
        failed: for each failed video, the reason why it has no features.
    """

    files: tuple[Path, ...]
    durations: Mapping[str, float]
    reused: int
    failed: Mapping[Path, str]


@dataclass(frozen=True, eq=False)
class _VideoFeatures:
    """The features of one video.

    Attributes:
        features: the features of each sequence; those of `words` are text.
        names: the column names of each sequence.
        metadata: `source`, `extractors`, `duration`, `counts` and `notes`, as JSON values.
    """

    features: Mapping[str, Features]
    names: Mapping[str, Sequence[str]]
    metadata: Mapping[str, Any]


def media_files(paths: Sequence[Path]) -> list[Path]:
    """Return the paths, with each folder replaced by its media files."""
    files: list[Path] = []
    for path in paths:
        inside = sorted(file for file in path.glob("*") if file.suffix.lower() in SUFFIXES)
        if path.is_dir() and not inside:
            raise DhmdError(f"{path} has no media file ({', '.join(SUFFIXES)}): add videos to it")
        files += inside if path.is_dir() else [path]
    return files


def video_id(path: Path) -> str:
    """Return the id of a video: the name of the file, with parentheses for square brackets.

    Square brackets are used for the number of a segment (`talk[0]`).
    """
    return path.stem.translate(str.maketrans("[]", "()"))


def extract(videos: Sequence[Path], output: Path, options: Options, notify: Notify) -> Result:
    """Extract features of videos; if one video fails, the others are still extracted.

    Args:
        videos: the files.
        output: the folder to write; videos that an earlier run finished with the same settings are
            not extracted again.
        options: the options of the extraction.
        notify: called with each message for the user.

    Returns:
        The files and counts, and the videos that failed.

    Raises:
        DhmdError: an option or a program is missing, two videos have the same id, or the folder
            has features with other settings.
    """
    by_id: dict[str, Path] = {}
    for path in videos:
        other = by_id.setdefault(video_id(path), path)
        if other != path:
            raise DhmdError(
                f"{other} and {path} have the same id, {video_id(path)}: rename one of them"
            )
    if options.transcript is not None and len(by_id) > 1:
        raise DhmdError(
            f"--transcript belongs to one video, but there are {len(by_id)}: put each transcript "
            "next to its video, with the same name"
        )
    extraction = _Extraction(options)
    folder = output / FINISHED_FOLDER
    failed: dict[Path, str] = {}
    reused = 0
    for name, path in progress(by_id.items(), "extract", unit="video", total=len(by_id)):
        try:
            source = extraction.source(path)
            video = _load(folder / f"{name}.npz")
            if video is not None and extraction.is_current(video, source):
                reused += 1
                continue
            video = extraction.extract(path, source)
        except DhmdError as error:
            failed[path] = str(error)
            notify(str(error))
            continue
        for note in video.metadata["notes"]:
            notify(note)
        _save(folder / f"{name}.npz", video)
    durations, files = _assemble(output, extraction)
    return Result(files=files, durations=durations, reused=reused, failed=failed)


class _Extraction:
    """An extraction with its options; the extractors are loaded once for all videos."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.aligner = self.whisper = self.audio = self.vision = None
        self.extractors: dict[str, Extractor] = {}
        if "text" in options.modalities:
            self.aligner = WordAligner()
            self.whisper = None if options.whisper is None else Whisper(options.whisper)
        if "audio" in options.modalities:
            encoder = options.audio_encoder
            self.audio = OpenSmile() if encoder is None else AudioEncoder(encoder)
            self.extractors["audio"] = self.audio.extractor
        if "vision" in options.modalities:
            encoder = options.image_encoder
            self.vision = (
                FaceLandmarks(options.face_model) if encoder is None else ImageEncoder(encoder)
            )
            extractor = self.vision.extractor
            settings = {**extractor.settings, "fps": options.fps}
            self.extractors["vision"] = replace(extractor, settings=settings)

    def as_json(self) -> dict[str, Any]:
        """Return the extractor of each sequence as JSON values."""
        return {name: extractor.as_json() for name, extractor in self.extractors.items()}

    def source(self, path: Path) -> dict[str, Any]:
        """Return the hashes of a video and its transcript, and the name of the aligner.

        Raises:
            DhmdError: there is no such video, or it has no transcript.
        """
        if not path.is_file():
            raise DhmdError(f"{path} does not exist")
        source = {"video": file_sha256(path)}
        if self.aligner is not None:
            transcript = self.options.transcript or find_transcript(path)
            if transcript is not None:
                if not transcript.is_file():
                    raise DhmdError(f"--transcript is {transcript}, but there is no such file")
                source |= {"transcript": file_sha256(transcript), "aligner": self.aligner.name}
            elif self.whisper is not None:
                source["aligner"] = self.whisper.name
            else:
                raise DhmdError(
                    f"{path} has no transcript: put {path.stem}.srt (or .vtt, .json, .csv, .txt) "
                    "next to it, or give a transcript with --transcript or a Whisper model with "
                    "--whisper"
                )
        return source

    def is_current(self, video: _VideoFeatures, source: Mapping[str, Any]) -> bool:
        """Return whether stored features have the same source and extractors as this extraction."""
        metadata = video.metadata
        return bool(metadata["source"] == source and metadata["extractors"] == self.as_json())

    def extract(self, path: Path, source: Mapping[str, Any]) -> _VideoFeatures:
        """Extract the features of one video.

        Args:
            path: the video.
            source: the return value of `source`.

        Raises:
            DhmdError: the video or its transcript cannot be used.
        """
        media = open_media(path)
        features: dict[str, Features] = {}
        names: dict[str, Sequence[str]] = {}
        notes: list[str] = []
        counts: dict[str, Any] = {}
        sound = media.sound() if self.audio is not None or self.aligner is not None else None
        if sound is not None:
            sound = _audible(media, sound, notes)
        if self.audio is not None and sound is not None:
            names["audio"] = self.audio.names
            empty = Features(np.zeros((0, len(self.audio.names)), np.float32), np.zeros((0, 2)))
            features["audio"] = self.audio(sound) if len(sound) else empty
        if self.vision is not None:
            frame_counts = FrameCounts()
            total = round(media.duration * self.options.fps) or None
            frames = progress(media.frames(self.options.fps), path.name, unit="frame", total=total)
            features["vision"] = self.vision(frames, self.options.fps, frame_counts)
            names["vision"] = self.vision.names
            _check_frames(media, frame_counts, self.options.fps, notes)
            counts |= asdict(frame_counts)
        ends = [values.intervals[-1, 1] for values in features.values() if len(values.intervals)]
        duration = float(max([media.duration, *ends]))
        if self.aligner is not None and sound is not None:
            aligned, times = self._words(media, duration, sound)
            words = aligned.transcript.words
            counts |= {"words": len(words), "words_guessed": aligned.guessed, "word_times": times}
            notes += _word_notes(path, aligned, len(words), audible=len(sound) > 0)
            features["words"] = Features(
                values=np.array([[word.text] for word in words]),
                intervals=np.array([[word.start, word.end] for word in words]),
            )
        if not any(len(values.values) for values in features.values()):
            raise DhmdError(f"{path} has none of {', '.join(self.options.modalities)}")
        if media.damage:
            notes.append(f"{path} is damaged and used in part: {media.damage[0]}")
        metadata = {
            "source": dict(source),
            "extractors": self.as_json(),
            "duration": duration,
            "counts": counts,
            "notes": notes,
        }
        return _VideoFeatures(features, names, metadata)

    def _words(self, media: Media, duration: float, sound: Array) -> tuple[AlignedTranscript, str]:
        """Return the words with their times, and the source of the times."""
        path = self.options.transcript or find_transcript(media.path)
        if path is None:
            assert self.whisper is not None  # `source` refuses videos without a transcript
            if not len(sound):
                raise DhmdError(f"{media.path} has no sound, so Whisper cannot transcribe it")
            return AlignedTranscript(self.whisper(sound, media.path), 0, 0), self.whisper.name
        assert self.aligner is not None
        transcript = read_transcript(path, duration=duration or None)
        if transcript.words[-1].start > duration + 1:
            raise DhmdError(
                f"{path} has words at {transcript.words[-1].start:.1f} s, but {media.path} ends at "
                f"{duration:.1f} s: is it the transcript of this video?"
            )
        if all(segment.timed for segment in transcript.segments):
            return AlignedTranscript(transcript, 0, 0), "transcript"
        return self.aligner(transcript, sound), self.aligner.name


def _audible(media: Media, sound: Array, notes: list[str]) -> Array:
    """Return the samples of the audio, none if it is silent; append to `notes` if it is absent."""
    if not media.has_sound:
        notes.append(f"{media.path} has no sound: audio is treated as absent")
        return sound
    _check_decoded(media, len(sound) / RATE, "sound")
    if np.abs(sound.astype(np.int32)).max(initial=0) < _SILENT:
        notes.append(f"{media.path} is silent: audio is treated as absent")
        return sound[:0]
    return sound


def _check_frames(media: Media, counts: FrameCounts, fps: float, notes: list[str]) -> None:
    """Raise DhmdError if most frames are missing or show no face; append warnings to `notes`."""
    path = media.path
    if not media.has_frames:
        notes.append(f"{path} has no frames: vision is treated as absent")
        return
    _check_decoded(media, counts.frames / fps, "frames")
    no_face = f"{path}: {counts.no_face} of {counts.frames} frames show no face"
    if counts.no_face > _MAX_MISSING * counts.frames:
        raise DhmdError(
            f"{no_face}, which is more than half: use a video with a larger face, or leave vision "
            "out with --modalities text audio"
        )
    if counts.no_face:
        notes.append(no_face)
    if counts.several_faces:
        notes.append(
            f"{path}: {counts.several_faces} of {counts.frames} frames show several faces; the "
            "largest face is used"
        )


def _check_decoded(media: Media, seconds: float, stream: str) -> None:
    """Raise DhmdError if a stream is empty, or if the file is damaged and less than half decoded.

    A stream that is shorter than the file is valid if ffmpeg reports no damage.
    """
    if not seconds or (media.damage and seconds < _MAX_MISSING * media.duration):
        reason = media.damage[0] if media.damage else "it is empty"
        raise DhmdError(
            f"{media.path} is damaged: ffmpeg decodes {seconds:.1f} of {media.duration:.1f} s of "
            f"its {stream} ({reason}); download or copy the file again"
        )


def _word_notes(
    path: Path, aligned: AlignedTranscript, num_words: int, *, audible: bool
) -> Iterator[str]:
    """Yield warnings about words without exact times, and about guessed pronunciations."""
    if aligned.unaligned:
        reason = "could not be aligned to the sound" if audible else "cannot be aligned to silence"
        yield (
            f"{path}: {aligned.unaligned} of {len(aligned.transcript.segments)} cues {reason}; "
            "their words are spread over the cue"
        )
    if aligned.guessed:
        yield (
            f"{path}: {aligned.guessed} of {num_words} words are not in pocketsphinx's English "
            "dictionary; their pronunciation was guessed from the spelling"
        )


def _save(path: Path, video: _VideoFeatures) -> None:
    """Write the features of a video to an .npz file."""
    arrays: dict[str, Any] = {
        "about": np.array(json.dumps({**video.metadata, "names": dict(video.names)}))
    }
    for sequence, features in video.features.items():
        arrays[f"{sequence}_values"] = features.values
        arrays[f"{sequence}_intervals"] = features.intervals
    with atomic_file(path) as temporary:
        np.savez(temporary, **arrays)


def _load(path: Path) -> _VideoFeatures | None:
    """Return the features in an .npz file; None if it does not exist or is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            metadata = json.loads(str(arrays["about"]))
            features = {
                name: Features(arrays[f"{name}_values"], arrays[f"{name}_intervals"])
                for name in SEQUENCES.values()
                if f"{name}_values" in arrays
            }
        return _VideoFeatures(features, metadata["names"], metadata)
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None


def _assemble(output: Path, extraction: _Extraction) -> tuple[dict[str, float], tuple[Path, ...]]:
    """Write one `.csd` file per modality with all finished videos.

    Returns:
        The duration of each video in seconds by id, and the files.

    Raises:
        DhmdError: a video is damaged, or has features of other extractors.
    """
    paths = sorted((output / FINISHED_FOLDER).glob("*.npz"))
    names: dict[str, Sequence[str]] = {}
    counts: dict[str, Any] = {}
    durations: dict[str, float] = {}
    for path in paths:
        video = _load(path)
        if video is None:
            raise DhmdError(f"{path} is damaged: delete this file and run dhmd extract again")
        expected, actual = extraction.as_json(), video.metadata["extractors"]
        for name in sorted({*expected, *actual}):
            check_extractor(path, actual.get(name), expected.get(name))
        durations[path.stem] = video.metadata["duration"]
        counts[path.stem] = video.metadata["counts"]
        for name, features in video.features.items():
            if len(features.values):
                names.setdefault(name, video.names.get(name, ()))
    files = []
    for name in SEQUENCES.values():
        file = output / f"{name}.csd"
        if name not in names:
            file.unlink(missing_ok=True)
            continue
        metadata: dict[str, object] = {
            "creator": "dhmd extract",
            "computational sequence version": dhmd.__version__,
            "computational sequence description": f"{name} of {len(paths)} videos",
            "extraction": counts,
        }
        if name in extraction.extractors:
            metadata[EXTRACTOR_KEY] = extraction.extractors[name].as_json()
        write_sequence(
            file,
            root_name=name,
            entries=_entries(paths, name, len(names[name]) or 1),
            metadata=metadata,
            dimension_names=tuple(names[name]) or None,
        )
        files.append(file)
    return durations, tuple(files)


def _entries(paths: Sequence[Path], name: str, width: int) -> Iterator[tuple[str, Array, Array]]:
    """Yield id, features and intervals of each video in the sequence `name`, even without rows."""
    for path in paths:
        video = _load(path)
        features = None if video is None else video.features.get(name)
        if features is None or not len(features.values):
            empty = np.zeros((0, width), dtype="S1" if name == "words" else np.float32)
            features = Features(empty, np.zeros((0, 2)))
        yield path.stem, features.values, features.intervals
