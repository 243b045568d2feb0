"""`dhmd extract`: videos and their transcripts to one computational sequence per modality.

Each finished video is a file in the folder `extracted` of the output, so that an interrupted or
extended extraction continues; the `.csd` files are assembled from these.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from dhmd.media.words import Aligned, Whisper, WordAligner

Array = np.ndarray[Any, Any]
Notify = Callable[[str], None]

SEQUENCES = {"text": "words", "audio": "audio", "vision": "vision"}  # modality -> sequence
SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".wav", ".mp3", ".flac")
FINISHED_FOLDER = "extracted"

_SILENT = 33  # the loudest of 16-bit samples that counts as silence, -60 dB of full scale
_MOST_LOST = 0.5  # share of the duration that may be undecodable, and of frames without a face


@dataclass(frozen=True, kw_only=True)
class Options:
    """How features are extracted.

    Attributes:
        modalities: which of text, audio and vision.
        fps: frames per second that are looked at.
        transcript: the transcript of a single video; None looks beside each video.
        whisper: folder of a Whisper model, for videos without a transcript.
        face_model: a model file for MediaPipe; None takes the one in its package.
        audio_encoder, image_encoder: a Hugging Face encoder in place of openSMILE or MediaPipe.
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
    """What an extraction did.

    Attributes:
        files: the `.csd` files.
        durations: video id -> seconds, of all videos that the files contain.
        reused: how many of the given videos were finished before.
        failed: video -> why it has no features.
    """

    files: tuple[Path, ...]
    durations: Mapping[str, float]
    reused: int
    failed: Mapping[Path, str]


@dataclass(frozen=True, eq=False)
class _Finished:
    """The features of one video.

    Attributes:
        features: sequence -> features; of `words` the values are text.
        names: sequence -> names of the columns.
        about: `source`, `extractors`, `counts` and `notes`, as JSON values.
    """

    features: Mapping[str, Features]
    names: Mapping[str, Sequence[str]]
    about: Mapping[str, Any]


def media_files(paths: Sequence[Path]) -> list[Path]:
    """Return files as given, and the media files of folders."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(one for one in path.glob("*") if one.suffix.lower() in SUFFIXES)
        if path.is_dir() and not inside:
            raise DhmdError(f"{path} has no video: name files that end in {', '.join(SUFFIXES)}")
        found += inside if path.is_dir() else [path]
    return found


def video_id(path: Path) -> str:
    """Return the id of a video: its file's name. Square brackets number segments in ids."""
    return path.stem.translate(str.maketrans("[]", "()"))


def extract(videos: Sequence[Path], output: Path, options: Options, notify: Notify) -> Result:
    """Extract features of videos into `output`; a video that fails does not stop the others.

    Args:
        videos: the files.
        output: a folder; videos that were finished there before with the same settings stay.
        notify: receives a sentence for everything that a user should know.

    Raises:
        DhmdError: an option or a program is missing, two videos have one id, or the folder has
            features with other settings. Failures of single videos are returned.
    """
    by_id: dict[str, Path] = {}
    for path in videos:
        other = by_id.setdefault(video_id(path), path)
        if other != path:
            raise DhmdError(f"{other} and {path} have the same id, {video_id(path)}: rename one")
    if options.transcript is not None and len(by_id) > 1:
        raise DhmdError(
            f"--transcript belongs to one video, but there are {len(by_id)}: put each transcript "
            "beside its video, under the same name"
        )
    extraction = _Extraction(options)
    folder = output / FINISHED_FOLDER
    failed: dict[Path, str] = {}
    reused = 0
    for name, path in progress(by_id.items(), "extract", unit="video", total=len(by_id)):
        try:
            source = extraction.source(path)
            finished = _load(folder / f"{name}.npz")
            if finished is not None and extraction.made(finished, source):
                reused += 1
                continue
            finished = extraction.extract(path, source)
        except DhmdError as error:
            failed[path] = str(error)
            notify(str(error))
            continue
        for note in finished.about["notes"]:
            notify(note)
        _store(folder / f"{name}.npz", finished)
    durations, files = _assemble(output, extraction)
    return Result(files=files, durations=durations, reused=reused, failed=failed)


class _Extraction:
    """The extractors, loaded once, and what they do with one video."""

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
            made = self.vision.extractor
            settings = {**made.settings, "fps": options.fps}
            self.extractors["vision"] = Extractor(made.name, made.version, settings)

    def as_json(self) -> dict[str, Any]:
        """Return sequence -> extractor."""
        return {name: extractor.as_json() for name, extractor in self.extractors.items()}

    def source(self, path: Path) -> dict[str, Any]:
        """Return what the features of a video are made of."""
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
                    "beside it, or name one by --transcript, or a Whisper model by --whisper"
                )
        return source

    def made(self, finished: _Finished, source: Mapping[str, Any]) -> bool:
        """Return whether this extraction would make the same features again."""
        about = finished.about
        return bool(about["source"] == source and about["extractors"] == self.as_json())

    def extract(self, path: Path, source: Mapping[str, Any]) -> _Finished:
        """Extract the features of one video."""
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
            nothing = Features(np.zeros((0, len(self.audio.names)), np.float32), np.zeros((0, 2)))
            features["audio"] = self.audio(sound) if len(sound) else nothing
        if self.vision is not None:
            seen = FrameCounts()
            total = round(media.duration * self.options.fps) or None
            frames = progress(media.frames(self.options.fps), path.name, unit="frame", total=total)
            features["vision"] = self.vision(frames, self.options.fps, seen)
            names["vision"] = self.vision.names
            _check_frames(media, seen, self.options.fps, notes)
            counts |= asdict(seen)
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
        if not any(len(one.values) for one in features.values()):
            raise DhmdError(f"{path} has none of {', '.join(self.options.modalities)}")
        if media.damage:
            notes.append(f"{path} is damaged, and only partly used: {media.damage[0]}")
        about = {
            "source": dict(source),
            "extractors": self.as_json(),
            "duration": duration,
            "counts": counts,
            "notes": notes,
        }
        return _Finished(features, names, about)

    def _words(self, media: Media, duration: float, sound: Array) -> tuple[Aligned, str]:
        """Return the words with their times, and where the times are from."""
        path = self.options.transcript or find_transcript(media.path)
        if path is None:
            assert self.whisper is not None  # `source` refuses videos without words
            if not len(sound):
                raise DhmdError(f"{media.path} has no sound, so Whisper cannot transcribe it")
            return Aligned(self.whisper(sound, media.path), 0, 0), self.whisper.name
        assert self.aligner is not None
        transcript = read_transcript(path, duration=duration or None)
        if transcript.words[-1].start > duration + 1:
            raise DhmdError(
                f"{path} has words at {transcript.words[-1].start:.1f} s, but {media.path} ends at "
                f"{duration:.1f} s: is it the transcript of this video?"
            )
        if all(segment.timed for segment in transcript.segments):
            return Aligned(transcript, 0, 0), "transcript"
        return self.aligner(transcript, sound), self.aligner.name


def _audible(media: Media, sound: Array, notes: list[str]) -> Array:
    """Return the sound, or no samples if it is silent."""
    if not media.has_sound:
        notes.append(f"{media.path} has no sound: audio counts as absent")
        return sound
    _check_decoded(media, len(sound) / RATE, "sound")
    if np.abs(sound.astype(np.int32)).max(initial=0) < _SILENT:
        notes.append(f"{media.path} is silent: audio counts as absent")
        return sound[:0]
    return sound


def _check_frames(media: Media, seen: FrameCounts, fps: float, notes: list[str]) -> None:
    path = media.path
    if not media.has_frames:
        notes.append(f"{path} has no frames: vision counts as absent")
        return
    _check_decoded(media, seen.frames / fps, "frames")
    if seen.no_face > _MOST_LOST * seen.frames:
        raise DhmdError(
            f"{path}: {seen.no_face} of {seen.frames} frames show no face, which is more than half:"
            " use a video with a larger face, or leave vision out by --modalities text audio"
        )
    if seen.no_face:
        notes.append(f"{path}: {seen.no_face} of {seen.frames} frames show no face")
    if seen.several_faces:
        notes.append(
            f"{path}: {seen.several_faces} of {seen.frames} frames show several faces; the largest "
            "was used"
        )


def _check_decoded(media: Media, seconds: float, what: str) -> None:
    """Refuse a damaged file of which little could be decoded; a short stream is fine."""
    if not seconds or (media.damage and seconds < _MOST_LOST * media.duration):
        reported = media.damage[0] if media.damage else "it is empty"
        raise DhmdError(
            f"{media.path} is damaged: ffmpeg decodes {seconds:.1f} of {media.duration:.1f} s of "
            f"its {what} ({reported}); get the file again"
        )


def _word_notes(path: Path, aligned: Aligned, words: int, *, audible: bool) -> Iterator[str]:
    if aligned.spread:
        why = "could not be found in the sound" if audible else "have no sound to be aligned to"
        yield (
            f"{path}: {aligned.spread} of {len(aligned.transcript.segments)} cues {why}; their "
            "words are spread over the cue"
        )
    if aligned.guessed:
        yield (
            f"{path}: {aligned.guessed} of {words} words are not in pocketsphinx's English "
            "dictionary; their sound was guessed from their spelling"
        )


def _store(path: Path, finished: _Finished) -> None:
    arrays: dict[str, Any] = {
        "about": np.array(json.dumps({**finished.about, "names": dict(finished.names)}))
    }
    for sequence, features in finished.features.items():
        arrays[f"{sequence}_values"] = features.values
        arrays[f"{sequence}_intervals"] = features.intervals
    with atomic_file(path) as temporary:
        np.savez(temporary, **arrays)


def _load(path: Path) -> _Finished | None:
    """Read a finished video; None where there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            features = {
                name: Features(arrays[f"{name}_values"], arrays[f"{name}_intervals"])
                for name in SEQUENCES.values()
                if f"{name}_values" in arrays
            }
        return _Finished(features, about["names"], about)
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None


def _assemble(output: Path, extraction: _Extraction) -> tuple[dict[str, float], tuple[Path, ...]]:
    """Write one `.csd` per modality of all finished videos."""
    paths = sorted((output / FINISHED_FOLDER).glob("*.npz"))
    names: dict[str, Sequence[str]] = {}
    counts: dict[str, Any] = {}
    durations: dict[str, float] = {}
    for path in paths:
        finished = _load(path)
        if finished is None:
            raise DhmdError(f"{path} is damaged: delete it and run again")
        expected, found = extraction.as_json(), finished.about["extractors"]
        for name in sorted({*expected, *found}):
            check_extractor(path, found.get(name), expected.get(name))
        durations[path.stem] = finished.about["duration"]
        counts[path.stem] = finished.about["counts"]
        for name, features in finished.features.items():
            if len(features.values):
                names.setdefault(name, finished.names.get(name, ()))
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
    """Return one entry per video; it has no rows if the video lacks the modality."""
    for path in paths:
        finished = _load(path)
        features = None if finished is None else finished.features.get(name)
        if features is None or not len(features.values):
            empty = np.zeros((0, width), dtype="S1" if name == "words" else np.float32)
            features = Features(empty, np.zeros((0, 2)))
        yield path.stem, features.values, features.intervals
