"""Feature extraction from valid and faulty media files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.data.csd import open_sequence
from dhmd.media.extract import Options, Result, extract, media_files
from dhmd.media.extractor import check_extractor
from dhmd.media.ffmpeg import RATE
from tests.media.conftest import FPS, skip_without, write_video

TEXT = "This movie was wonderful. The ending was terrible."


@pytest.fixture
def tools() -> None:
    """Skip the test without the programs and packages of feature extraction."""
    skip_without("ffmpeg", "opensmile", "mediapipe", "pocketsphinx")


def run(videos: list[Path], out: Path, **options: object) -> tuple[Result, list[str]]:
    """Extract features, and return the result and the messages."""
    messages: list[str] = []
    result = extract(videos, out, Options(**options), messages.append)  # type: ignore[arg-type]
    return result, messages


@pytest.mark.usefixtures("tools")
def test_a_talk_becomes_three_sequences(tmp_path: Path, talk, speech, capsys) -> None:
    sound, (start, end) = speech
    assert main(["extract", str(talk), "--out", str(tmp_path)]) == 0
    assert "extracted 1 of 1 videos" in capsys.readouterr().out
    with open_sequence(tmp_path / "words.csd") as words:
        entry = words.read("talk")
        assert [row[0] for row in entry.features] == TEXT.lower().replace(".", "").split()
        # The first sentence is before the silence and the second after it, within 0.1 s.
        assert (entry.intervals[:4] < start + 0.1).all()
        assert (entry.intervals[4:] > end - 0.1).all()
        assert entry.intervals[-1, 1] > len(sound) / RATE - 0.5
        assert words.metadata["extraction"]["talk"]["word_times"].startswith("pocketsphinx")
    with open_sequence(tmp_path / "audio.csd") as audio:
        entry = audio.read("talk")
        assert entry.features.shape[1] == len(audio.dimension_names) == 25
        assert np.allclose(np.diff(entry.intervals[:, 0]), 0.01)
        loudness = entry.features[:, audio.dimension_names.index("Loudness_sma3")]
        middle = entry.intervals.mean(axis=1)
        quiet = (middle > start + 0.2) & (middle < end - 0.2)
        assert loudness[quiet].max() < loudness[~quiet].mean() / 2
        extractor = audio.metadata["extractor"]
        assert extractor["name"] == "openSMILE"
        assert extractor["settings"]["feature_set"] == "eGeMAPSv02"
    with open_sequence(tmp_path / "vision.csd") as vision:
        entry = vision.read("talk")
        assert abs(len(entry.features) - len(sound) / RATE * FPS) <= 2
        assert entry.features.shape[1] == len(vision.dimension_names)
        assert vision.metadata["extractor"]["settings"]["fps"] == 10.0
        smile = entry.features[:, vision.dimension_names.index("mouthSmileLeft")]
        assert (smile > 0.2).all()  # she smiles
        # The same face in every frame.
        assert entry.features.std(axis=0).max() < 0.1


@pytest.mark.usefixtures("tools")
def test_finished_videos_are_not_extracted_again(tmp_path: Path, talk: Path) -> None:
    for name in ("a", "b"):
        for suffix in (".mp4", ".txt"):
            shutil.copy(talk.with_suffix(suffix), tmp_path / f"{name}{suffix}")
    out, a, b = tmp_path / "out", tmp_path / "a.mp4", tmp_path / "b.mp4"
    assert run([a], out)[0].reused == 0
    before = (out / "extracted" / "a.npz").stat().st_mtime_ns
    result, _ = run(media_files([tmp_path]), out)
    assert (result.reused, sorted(result.durations)) == (1, ["a", "b"])
    assert (out / "extracted" / "a.npz").stat().st_mtime_ns == before
    contents = (out / "audio.csd").read_bytes()
    (tmp_path / "a.txt").write_text(TEXT.replace("wonderful", "dreadful"))
    (out / "extracted" / "b.npz").write_bytes(b"cut")
    assert run([a, b], out)[0].reused == 0  # another transcript, a damaged file
    assert (out / "audio.csd").read_bytes() == contents
    with pytest.raises(DhmdError, match=r"a\.npz has features of MediaPipe .*fps 10.*fps 5"):
        run([b], out, fps=5.0)
    with pytest.raises(DhmdError, match=r"have the same id, a: rename one"):
        run([a, tmp_path / "other" / "a.mp4"], out)


@pytest.mark.usefixtures("tools")
def test_faulty_videos_are_reported(tmp_path: Path, talk: Path, speech, face) -> None:
    sound, _ = speech
    seconds = round(len(sound) / RATE * FPS)
    empty_frame = np.zeros_like(face)
    two = np.concatenate([face[::2, ::2], face[::2, ::2]], axis=1)
    two = np.concatenate([two, np.zeros_like(two)])
    files = {
        "silent": ([face] * seconds, np.zeros_like(sound)),
        "mute": ([face] * seconds, None),
        "faceless": ([empty_frame] * (seconds - 3) + [face] * 3, sound),
        "mixed": ([face] * (seconds - 8) + [empty_frame] * 3 + [two] * 5, sound),
        "nothing": ([face] * seconds, sound),
        "short": ([face] * 3, sound[: RATE // 3]),
    }
    for name, (frames, samples) in files.items():
        write_video(tmp_path / f"{name}.mp4", frames, samples)
        if name != "nothing":
            (tmp_path / f"{name}.srt").write_text(f"1\n00:00:00,000 --> 00:00:05,000\n{TEXT}\n")
    write_video(tmp_path / "sound.wav", [], sound)
    (tmp_path / "sound.txt").write_text("Zorgleblat was quxy.")
    (tmp_path / "cut.mp4").write_bytes(talk.read_bytes()[:2000])
    (tmp_path / "cut.txt").write_text(TEXT)
    (tmp_path / "short.srt").write_text(f"1\n00:01:00,000 --> 00:02:00,000\n{TEXT}\n")
    result, messages = run(media_files([tmp_path]), tmp_path / "out")
    failed = {path.name: sentence for path, sentence in result.failed.items()}
    assert set(failed) == {"faceless.mp4", "nothing.mp4", "cut.mp4", "short.mp4"}
    assert f"{seconds - 3} of {seconds} frames show no face" in failed["faceless.mp4"]
    assert "has no transcript: put nothing.srt (or .vtt" in failed["nothing.mp4"]
    assert "has no sound and no frames that ffmpeg can read" in failed["cut.mp4"]
    assert "is it the transcript of this video?" in failed["short.mp4"]
    text = "\n".join(messages)
    for sentence in (
        "silent.mp4 is silent: audio is treated as absent",
        "silent.mp4: 1 of 1 cues cannot be aligned to silence",
        "mute.mp4 has no sound: audio is treated as absent",
        f"mixed.mp4: 3 of {seconds} frames show no face",
        f"mixed.mp4: 5 of {seconds} frames show several faces; the largest face is used",
        "sound.wav has no frames: vision is treated as absent",
        "sound.wav: 2 of 3 words are not in pocketsphinx's English dictionary",
        *failed.values(),
    ):
        assert sentence in text
    with open_sequence(tmp_path / "out" / "audio.csd") as audio:
        assert audio.ids == ("mixed", "mute", "silent", "sound")
        assert [len(audio.read(name).features) > 0 for name in audio.ids] == [
            True,
            False,
            False,
            True,
        ]
    with open_sequence(tmp_path / "out" / "vision.csd") as vision:
        entry = vision.read("mixed")
        assert len(entry.features) == seconds - 3
        assert np.diff(entry.intervals[:, 0]).max() == pytest.approx(0.4)  # the gap stays a gap
        assert vision.metadata["extraction"]["mixed"]["several_faces"] == 5


@pytest.mark.usefixtures("tools")
def test_the_intact_part_of_a_damaged_file_is_used(tmp_path: Path, speech, face) -> None:
    sound, _ = speech
    frames = [np.roll(face, shift, axis=1) for shift in range(round(len(sound) / RATE * FPS))]
    write_video(tmp_path / "talk.mkv", frames, sound)
    (tmp_path / "talk.txt").write_text("This movie was wonderful.")
    content = (tmp_path / "talk.mkv").read_bytes()
    (tmp_path / "talk.mkv").write_bytes(content[: len(content) * 3 // 4])
    result, messages = run([tmp_path / "talk.mkv"], tmp_path / "out")
    assert not result.failed
    assert "is damaged and used in part: " in messages[-1]
    (tmp_path / "talk.mkv").write_bytes(content[: len(content) // 4])
    result, _ = run([tmp_path / "talk.mkv"], tmp_path / "out2")
    assert "is damaged: ffmpeg decodes" in next(iter(result.failed.values()))


def test_absent_programs_and_packages_are_errors(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "talk.mp4").touch()
    command = ["extract", str(tmp_path / "talk.mp4"), "--out", str(tmp_path / "out")]
    monkeypatch.setitem(sys.modules, "opensmile", None)
    assert main([*command, "--modalities", "audio"]) == 1
    assert "pip install -c constraints-media.txt 'dhmd[media]'" in capsys.readouterr().err
    monkeypatch.undo()
    skip_without("opensmile")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*command, "--modalities", "audio"]) == 1
    assert "ffprobe is not installed: install the program ffmpeg" in capsys.readouterr().err


def test_invalid_options_are_errors(tmp_path: Path, capsys) -> None:
    def error_message(*words: str) -> str:
        assert main(["extract", *words, "--out", str(tmp_path / "out")]) == 1
        return capsys.readouterr().err

    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    assert "has no media file (.mp4" in error_message(str(Path(__file__).parent))
    assert "--fps is 0, but must be above 0" in error_message(str(tmp_path), "--fps", "0")
    several = error_message(str(tmp_path), "--transcript", "x.srt")
    assert "--transcript belongs to one video, but there are 2" in several
    absent = str(tmp_path / "absent")
    vision = error_message(str(tmp_path), "--modalities", "vision", "--face-model", absent)
    assert "--face-model is" in vision
    skip_without("pocketsphinx")
    whisper = error_message(str(tmp_path), "--modalities", "text", "--whisper", absent)
    assert "is not a Whisper model: it must have config.json" in whisper


def test_help_states_the_licence_terms(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    help_text = " ".join(capsys.readouterr().out.split())
    assert "openSMILE is free for research, education and private use; commercial" in help_text


def test_features_of_another_extractor_are_an_error() -> None:
    extractor = {"name": "openSMILE", "version": "2.6.0", "settings": {"rate": 100}}
    check_extractor(Path("a.csd"), extractor, dict(extractor))
    check_extractor(Path("a.csd"), None, None)
    with pytest.raises(DhmdError, match=r"a\.csd has features of an extractor that is not rec"):
        check_extractor(Path("a.csd"), None, extractor)
    with pytest.raises(DhmdError, match=r"openSMILE 2\.5\.0 \(rate 100\), .* openSMILE 2\.6\.0"):
        check_extractor(Path("a.csd"), {**extractor, "version": "2.5.0"}, extractor)
