"""Media for the tests: speech by espeak-ng, and scikit-image's astronaut as the face.

Where one of these or the extra `media` is absent, tests that need it skip and name it.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.media.ffmpeg import RATE

Array = np.ndarray[Any, Any]

FPS = 10


def skip_without(*names: str) -> None:
    """Skip the test if a program or a package is absent."""
    programs = ("ffmpeg", "espeak-ng")
    absent = [
        name
        for name in names
        if (shutil.which(name) if name in programs else importlib.util.find_spec(name)) is None
    ]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed (the extra media, or apt-get install)")


@pytest.fixture(scope="session")
def say() -> Callable[[str], Array]:
    """Return a function that synthesises a sentence as int16 samples, shape [N]."""
    skip_without("espeak-ng", "ffmpeg")

    def speak(text: str) -> Array:
        spoken = subprocess.run(
            ["espeak-ng", "-v", "en-us", "-s", "150", "--stdout", text],
            capture_output=True,
            check=True,
        )
        decoded = subprocess.run(
            f"ffmpeg -v error -i - -ac 1 -ar {RATE} -f s16le -".split(),
            input=spoken.stdout,
            capture_output=True,
            check=True,
        )
        return np.frombuffer(decoded.stdout, dtype=np.int16)

    return speak


@pytest.fixture(scope="session")
def face() -> Array:
    """Return a frame with one face, shape [256, 256, 3]."""
    skip_without("skimage")
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:256, 96:352])


def write_video(path: Path, frames: Sequence[Array], sound: Array | None) -> None:
    """Write frames at `FPS` and audio at `RATE`; without frames, write an audio file."""
    streams, mapped = [], []
    raw = path.with_suffix(".raw")
    if frames:
        height, width, _ = frames[0].shape
        raw.write_bytes(b"".join(frame.tobytes() for frame in frames))
        streams += f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {FPS} -i {raw}".split()
        mapped += ["-c:v", "libx264", "-pix_fmt", "yuv420p"]
    if sound is not None:
        streams += f"-f s16le -ac 1 -ar {RATE} -i -".split()
        mapped += [] if path.suffix == ".wav" else ["-c:a", "aac"]
    subprocess.run(
        ["ffmpeg", "-y", "-v", "error", *streams, *mapped, str(path)],
        input=b"" if sound is None else sound.tobytes(),
        check=True,
    )
    raw.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def speech(say: Callable[[str], Array]) -> tuple[Array, tuple[float, float]]:
    """Return two sentences with two seconds of silence between them, and its interval."""
    first, second = say("this movie was wonderful"), say("the ending was terrible")
    silence = np.zeros(2 * RATE, dtype=np.int16)
    start = len(first) / RATE
    return np.concatenate([first, silence, second]), (start, start + 2)


@pytest.fixture(scope="session")
def talk(
    tmp_path_factory: pytest.TempPathFactory,
    speech: tuple[Array, tuple[float, float]],
    face: Array,
) -> Path:
    """Create a video of a face and two sentences, with a plain transcript next to it."""
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    sound, _ = speech
    write_video(path, [face] * round(len(sound) / RATE * FPS), sound)
    path.with_suffix(".txt").write_text("This movie was wonderful. The ending was terrible.")
    return path
