"""Decode the audio and the frames of media files with the program ffmpeg."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError

Array = np.ndarray[Any, Any]

RATE = 16000  # samples per second
SIDE = 640  # pixels; frames are scaled to fit a square and padded with black


@dataclass
class Media:
    """A media file.

    Attributes:
        path: the file.
        duration: seconds according to the container; 0 if it does not state the duration.
        has_sound: whether the file has an audio stream.
        has_frames: whether the file has a video stream.
        damage: errors that ffmpeg reported while decoding.
    """

    path: Path
    duration: float
    has_sound: bool
    has_frames: bool
    damage: list[str] = field(default_factory=list)

    def sound(self) -> Array:
        """Return the audio as int16 samples, shape [N], mono, `RATE` per second."""
        if not self.has_sound:
            return np.zeros(0, dtype=np.int16)
        # Time 0 is the start of the container, even if the audio stream starts later.
        filters = ["-af", "aresample=async=1:first_pts=0"]
        command = [*filters, "-vn", "-ac", "1", "-ar", str(RATE), "-f", "s16le"]
        data = b"".join(self._decode(command, 1 << 20))
        return np.frombuffer(data, dtype="<i2").astype(np.int16)

    def frames(self, fps: float) -> Iterator[Array]:
        """Yield `fps` frames per second: uint8, RGB, shape [SIDE, SIDE, 3]."""
        if not self.has_frames:
            return
        box = f"{SIDE}:{SIDE}"
        filters = (
            f"fps={fps}:start_time=0,scale={box}:force_original_aspect_ratio=decrease,"
            f"pad={box}:(ow-iw)/2:(oh-ih)/2"
        )
        size = SIDE * SIDE * 3
        command = ["-an", "-vf", filters, "-f", "rawvideo", "-pix_fmt", "rgb24"]
        for block in self._decode(command, size):
            if len(block) == size:
                yield np.frombuffer(block, dtype=np.uint8).reshape(SIDE, SIDE, 3)

    def _decode(self, command: list[str], size: int) -> Iterator[bytes]:
        """Run ffmpeg and yield its output in blocks of `size` bytes."""
        with tempfile.TemporaryFile() as messages:
            process = subprocess.Popen(
                [_program("ffmpeg"), "-v", "error", "-nostdin", *_input(self.path), *command, "-"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
            )
            assert process.stdout is not None
            try:
                while block := process.stdout.read(size):
                    yield block
                process.wait()
            finally:
                process.kill()
                process.stdout.close()
                process.wait()
            messages.seek(0)
            errors = messages.read().decode("utf-8", "replace").strip().splitlines()
        if errors or process.returncode > 0:
            last = errors[-1] if errors else f"exit status {process.returncode}"
            self.damage.append(last[:200])


def open_media(path: Path) -> Media:
    """Return the duration and streams of a media file, according to ffprobe.

    Raises:
        DhmdError: ffmpeg is not installed, or the file does not exist or has neither audio nor
            frames.
    """
    if not path.is_file():
        raise DhmdError(f"{path} does not exist")
    entries = "stream=codec_type:stream_disposition:format=duration"
    options = ["-v", "error", "-show_entries", entries, "-of", "json"]
    process = subprocess.run(
        [_program("ffprobe"), *options, *_input(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    errors = process.stderr.decode("utf-8", "replace").strip().splitlines() or ["no stream"]
    try:
        content = json.loads(process.stdout)
    except ValueError:
        content = {}
    streams = [
        stream.get("codec_type")
        for stream in content.get("streams", ())
        if not stream.get("disposition", {}).get("attached_pic")  # the cover of a sound file
    ]
    if "audio" not in streams and "video" not in streams:
        raise DhmdError(f"{path} has no sound and no frames that ffmpeg can read: {errors[-1]}")
    return Media(
        path=path,
        duration=float(content.get("format", {}).get("duration", 0.0)),
        has_sound="audio" in streams,
        has_frames="video" in streams,
    )


def _program(name: str) -> str:
    """Return the path of ffmpeg or ffprobe."""
    path = shutil.which(name)
    if path is None:
        raise DhmdError(
            f"{name} is not installed: install the program ffmpeg (Debian and Ubuntu: apt-get "
            "install ffmpeg; macOS: brew install ffmpeg)"
        )
    return path


def _input(path: Path) -> list[str]:
    """Return ffmpeg's options for an input file, which may be untrusted."""
    # A playlist must not open an address, and a file name must not be read as a protocol.
    return ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]
