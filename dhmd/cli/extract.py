"""`dhmd extract VIDEO… --out FOLDER`: features of videos as computational sequences."""

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
        "videos", nargs="+", type=Path, metavar="VIDEO", help="video or sound files, or folders"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="where words.csd, audio.csd and vision.csd are written; finished videos are kept "
        "there, so that the same command continues where it stopped",
    )
    parser.add_argument(
        "--transcript",
        type=Path,
        metavar="FILE",
        help="the transcript of a single video (default: the .srt, .vtt, .json, .csv or .txt "
        "beside each video, under the same name)",
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare how features are extracted."""
    parser.add_argument(
        "--modalities",
        nargs="+",
        choices=tuple(SEQUENCES),
        default=tuple(SEQUENCES),
        help="which to extract (default: all)",
    )
    parser.add_argument(
        "--whisper",
        type=Path,
        metavar="FOLDER",
        help="a Whisper model in the form of transformers, for videos without a transcript",
    )
    parser.add_argument(
        "--fps", type=float, default=10.0, help="frames to analyse per second (default: 10)"
    )
    parser.add_argument(
        "--face-model",
        type=Path,
        metavar="FILE",
        help="a model file of MediaPipe's Face Landmarker (default: the one in mediapipe 0.10.14)",
    )
    for kind, default in (("audio", "openSMILE"), ("image", "MediaPipe")):
        parser.add_argument(
            f"--{kind}-encoder",
            metavar="MODEL",
            help=f"a Hugging Face {kind} encoder, by folder or name, in place of {default}",
        )


def read_options(arguments: argparse.Namespace) -> Options:
    """Return the options that the arguments name."""
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
    """Extract; return 1 if a video failed."""
    videos = media_files(arguments.videos)
    result = extract(videos, arguments.out, read_options(arguments), report)
    for file in result.files:
        print(f"wrote {file}: {len(result.durations)} videos")
    done = len(videos) - len(result.failed)
    print(f"{done} of {len(videos)} videos extracted ({result.reused} of them before)")
    return 1 if result.failed else 0


def report(sentence: str) -> None:
    """Print a sentence beside the progress bar."""
    from tqdm import tqdm

    tqdm.write(f"dhmd extract: {sentence}", file=sys.stderr)
