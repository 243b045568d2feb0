"""`dhmd extract VIDEO… --out FOLDER`: extract features of videos as computational sequences."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.media.audio import TERMS
from dhmd.media.extract import SEQUENCES, Options, extract, media_files


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = f"Terms: {TERMS}."
    parser.add_argument(
        "videos",
        nargs="+",
        type=Path,
        metavar="VIDEO",
        help="video or audio files, or folders of them",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="output directory for words.csd, audio.csd, vision.csd and the features of each finished "
        "video, with which the same command continues an interrupted extraction",
    )
    parser.add_argument(
        "--transcript",
        type=Path,
        metavar="FILE",
        help="transcript of a single video (default: the .srt, .vtt, .json, .csv or .txt file with "
        "the name of the video, in the same folder)",
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of feature extraction."""
    parser.add_argument(
        "--modalities",
        nargs="+",
        choices=tuple(SEQUENCES),
        default=tuple(SEQUENCES),
        help="modalities to extract (default: all)",
    )
    parser.add_argument(
        "--whisper",
        type=Path,
        metavar="FOLDER",
        help="folder of a Whisper model in the format of transformers, for videos without a "
        "transcript",
    )
    parser.add_argument(
        "--fps", type=float, default=10.0, help="video frames to analyse per second (default: 10)"
    )
    parser.add_argument(
        "--face-model",
        type=Path,
        metavar="FILE",
        help="model file of MediaPipe's Face Landmarker (default: the model in mediapipe 0.10.14)",
    )
    for kind, default in (("audio", "openSMILE"), ("image", "MediaPipe")):
        parser.add_argument(
            f"--{kind}-encoder",
            metavar="MODEL",
            help=f"folder or name of a Hugging Face {kind} encoder to use instead of {default}",
        )


def read_options(arguments: argparse.Namespace) -> Options:
    """Return the options of feature extraction."""
    if not 0 < arguments.fps <= 120:
        raise DhmdError(f"--fps is {arguments.fps:g}, but must be above 0 and at most 120")
    return Options(
        modalities=tuple(name for name in SEQUENCES if name in arguments.modalities),
        fps=arguments.fps,
        transcript=getattr(arguments, "transcript", None),
        whisper=arguments.whisper,
        face_model=arguments.face_model,
        audio_encoder=arguments.audio_encoder,
        image_encoder=arguments.image_encoder,
    )


def run(arguments: argparse.Namespace) -> int:
    """Extract the features; return 1 if a video failed, otherwise 0."""
    videos = media_files(arguments.videos)
    result = extract(videos, arguments.out, read_options(arguments), report)
    for file in result.files:
        print(f"wrote {file}: {len(result.durations)} videos")
    count = len(videos) - len(result.failed)
    print(f"extracted {count} of {len(videos)} videos ({result.reused} in an earlier run)")
    return 1 if result.failed else 0


def report(sentence: str) -> None:
    """Print a sentence to stderr without breaking the progress bar."""
    from tqdm import tqdm

    tqdm.write(f"dhmd extract: {sentence}", file=sys.stderr)
