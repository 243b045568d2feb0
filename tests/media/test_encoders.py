"""Encoders and Whisper, with small random models in the format of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dhmd.base.errors import DhmdError
from dhmd.data.csd import open_sequence
from dhmd.media.encoders import AudioEncoder, ImageEncoder
from dhmd.media.extract import Options, extract
from dhmd.media.extractor import FrameCounts
from dhmd.media.ffmpeg import RATE
from dhmd.media.words import Whisper
from tests.media.conftest import skip_without, write_video

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


@pytest.fixture(scope="module")
def audio_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "hearing"
    config = transformers.Wav2Vec2Config(
        **SMALL,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "seeing"
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=16)
    transformers.ViTModel(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_sound_is_encoded_in_windows(audio_model: Path) -> None:
    encoder = AudioEncoder(str(audio_model))
    sound = np.random.default_rng(1).normal(0, 1000, 21 * RATE).astype(np.int16)
    features = encoder(sound)
    assert features.values.shape == (len(features.intervals), len(encoder.names))
    assert len(features.values) == pytest.approx(21 * 50, abs=3)  # 50 vectors per second
    assert features.intervals[0, 0] == 0.0
    assert features.intervals[-1, 1] == 21.0
    assert (features.intervals[1:, 0] == features.intervals[:-1, 1]).all()
    assert np.allclose(encoder(sound[20 * RATE :]).values, features.values[-49:], atol=1e-4)
    assert (encoder.extractor.name, len(encoder.extractor.version)) == ("hearing", 64)


def test_frames_are_encoded_one_by_one(image_model: Path) -> None:
    encoder, counts = ImageEncoder(str(image_model)), FrameCounts()
    frames = np.random.default_rng(1).integers(0, 255, (18, 64, 64, 3)).astype(np.uint8)
    features = encoder(frames, 5.0, counts)
    assert features.values.shape == (18, 8)
    assert counts.frames == 18
    assert features.intervals[-1].tolist() == [3.4, 3.6]
    alone = encoder(frames[17:], 5.0, counts)
    assert np.allclose(alone.values[0], features.values[17], atol=1e-5)


def test_encoders_replace_the_default_extractors(
    tmp_path: Path, audio_model: Path, image_model: Path
) -> None:
    skip_without("ffmpeg")
    frames = [np.full((64, 64, 3), shade, np.uint8) for shade in range(10)]
    sound = np.random.default_rng(1).normal(0, 1000, RATE).astype(np.int16)
    write_video(tmp_path / "a.mp4", frames, sound)
    options = Options(
        modalities=("audio", "vision"),
        audio_encoder=str(audio_model),
        image_encoder=str(image_model),
    )
    result = extract([tmp_path / "a.mp4"], tmp_path / "out", options, print)
    assert [file.name for file in result.files] == ["audio.csd", "vision.csd"]
    with open_sequence(tmp_path / "out" / "vision.csd") as vision:
        assert vision.metadata["extractor"]["name"] == "seeing"
        assert len(vision.read("a").features) == 10


def test_a_folder_without_an_encoder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(DhmdError, match="cannot be read as an encoder"):
        AudioEncoder(str(tmp_path))


def whisper_model(folder: Path) -> None:
    """Create a Whisper model of one layer, with random weights and a vocabulary of letters."""
    folder.mkdir()
    letters = {letter: at for at, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ.")}
    (folder / "vocab.json").write_text(json.dumps({**letters, "<|endoftext|>": len(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
    )
    special = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens(times)
    ids = tokenizer.convert_tokens_to_ids
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        decoder_start_token_id=ids(special[0]),
        bos_token_id=len(letters),
        eos_token_id=len(letters),
        pad_token_id=len(letters),
    )
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    generation = model.generation_config
    generation._from_model_config = False  # else it is not read back
    generation.is_multilingual = False
    generation.no_timestamps_token_id = ids(special[3])
    generation.alignment_heads = [[0, 0]]
    generation.max_length = 20
    model.save_pretrained(folder)
    feature_extractor = transformers.WhisperFeatureExtractor()
    transformers.WhisperProcessor(feature_extractor, tokenizer).save_pretrained(folder)


def test_whisper_returns_words_with_times(tmp_path: Path) -> None:
    whisper_model(tmp_path / "tiny")
    whisper = Whisper(tmp_path / "tiny")
    sound = np.random.default_rng(1).normal(0, 1000, 3 * RATE).astype(np.int16)
    transcript = whisper(sound, tmp_path / "a.mp4")
    assert whisper.name == "Whisper (tiny)"
    assert all(segment.timed and segment.words for segment in transcript.segments)
