"""Compute vision features: MediaPipe's face landmarks, expression, gaze and head pose.

Axes: P landmarks. The coordinate x points to the right of the image, y down and z away from the
camera, in the same unit.
"""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256
from dhmd.base.optional import import_optional
from dhmd.media.extractor import Extractor, Features, FrameCounts

Array = np.ndarray[Any, Any]

FEATURE_SET = "dhmd face 1"  # changes whenever `face_features` or the size of frames does
_MAX_FACES = 4  # per frame

# Indices of landmarks in MediaPipe's face mesh. Left and right are those of the person.
_EYES = {"Right": (33, 133, 159, 145, 468), "Left": (263, 362, 386, 374, 473)}
_BROWS = {"Right": (70, 63, 105, 66, 107), "Left": (300, 293, 334, 296, 336)}
_NOSTRILS = {"Right": 98, "Left": 327}
_CORNERS = {"Right": 61, "Left": 291}
_NOSE_BASE, _CHIN = 2, 152
_LIPS = (0, 13, 14, 17)  # the middle of the lips: upper outer, upper inner, lower inner, outer
_LANDMARKS = (
    *(point for side in _EYES.values() for point in side[:4]),
    *(point for side in _BROWS.values() for point in side),
    *(*_NOSTRILS.values(), _NOSE_BASE, 1, _CHIN),
    *(*_CORNERS.values(), *_LIPS, 37, 267, 40, 270, 84, 314, 91, 321),
)


class FaceLandmarks:
    """MediaPipe's landmarks of the largest face in each frame.

    Frames are analysed independently: a face is neither tracked nor smoothed over time.

    Args:
        model: a model file of MediaPipe's Face Landmarker, which adds its blendshapes; None takes
            the model in MediaPipe 0.10.14.

    Attributes:
        names: names of the features; () before the first face.
        extractor: name, version and settings, for the metadata of the `.csd` file.
    """

    def __init__(self, model: Path | None = None) -> None:
        if model is not None and not model.is_file():
            raise DhmdError(f"--face-model is {model}, but there is no such file")
        os.environ.setdefault("GLOG_minloglevel", "2")
        warnings.filterwarnings("ignore", category=UserWarning, module="google.protobuf")
        mediapipe = import_optional("mediapipe", "media")
        settings: dict[str, Any] = {"feature_set": FEATURE_SET}
        if model is None:
            self._detect = _face_mesh(mediapipe)
        else:
            self._detect = _face_landmarker(mediapipe, model)
            settings["model"] = model.name
            settings["model_sha256"] = file_sha256(model)
        self.names: tuple[str, ...] = ()
        self.extractor = Extractor(
            name="MediaPipe face landmarks",
            version=importlib.metadata.version("mediapipe"),
            settings=settings,
        )

    def __call__(self, frames: Iterable[Array], fps: float, counts: FrameCounts) -> Features:
        """Compute the features of every frame that shows a face.

        Args:
            frames: uint8 frames, shape [H, H, 3].
            fps: number of frames per second.
            counts: counts of frames, which are updated.
        """
        rows, intervals = [], []
        for frame in frames:
            start, counts.frames = counts.frames / fps, counts.frames + 1
            faces = self._detect(np.ascontiguousarray(frame))
            counts.no_face += not faces
            counts.several_faces += len(faces) > 1
            if faces:
                points_P3, blendshapes = max(faces, key=lambda face: _area(face[0]))
                features = {**face_features(points_P3), **blendshapes}
                self.names = tuple(features)
                rows.append(list(features.values()))
                intervals.append([start, start + 1 / fps])
        return Features(
            values=np.array(rows, dtype=np.float32).reshape(len(rows), len(self.names)),
            intervals=np.array(intervals, dtype=np.float64).reshape(len(rows), 2),
        )


def face_features(points_P3: Array) -> dict[str, float]:
    """Return the features of a face by name: head pose, expression, gaze and landmarks.

    Expression and landmarks are measured in the axes of the head, in units of the distance between
    the eyes, so that they do not depend on the pose and size of the head.

    Args:
        points_P3: MediaPipe's 478 landmarks, in units of the side of the frame.
    """
    eye = {side: points_P3[list(points[:2])].mean(0) for side, points in _EYES.items()}
    origin, across = (eye["Right"] + eye["Left"]) / 2, eye["Left"] - eye["Right"]
    scale = float(np.linalg.norm(across)) or 1.0
    x = across / scale
    down = points_P3[_NOSE_BASE] - origin
    y = down - x * (down @ x)
    y = y / (float(np.linalg.norm(y)) or 1.0)
    z = np.cross(x, y)
    head_P3 = (points_P3 - origin) @ np.stack([x, y, z], axis=1) / scale
    features = {
        "headYaw": float(np.arctan2(x[2], np.hypot(x[0], x[1]))),
        "headPitch": float(np.arctan2(y[2], y[1])),
        "headRoll": float(np.arctan2(x[1], x[0])),
        "headX": float(origin[0]),
        "headY": float(origin[1]),
        "headSize": scale,
    }
    features |= _expression(head_P3)
    for point in _LANDMARKS:
        features[f"landmark{point}X"] = float(head_P3[point, 0])
        features[f"landmark{point}Y"] = float(head_P3[point, 1])
    return features


def _expression(head_P3: Array) -> dict[str, float]:
    """Return features of expression and gaze from landmarks in the axes of the head."""

    def distance(a: int, b: int) -> float:
        return float(np.linalg.norm(head_P3[a] - head_P3[b]))

    def height(upper: int, lower: int) -> float:
        return float(head_P3[lower, 1] - head_P3[upper, 1])

    upper, upper_inner, lower_inner, lower = _LIPS
    features = {
        "browGap": distance(_BROWS["Right"][-1], _BROWS["Left"][-1]),
        "jawOpen": height(_NOSE_BASE, _CHIN),
        "jawSide": float(head_P3[_CHIN, 0]),
        "mouthOpen": distance(upper_inner, lower_inner),
        "mouthWidth": distance(*_CORNERS.values()),
        "mouthSide": float(head_P3[list(_CORNERS.values()), 0].mean()),
        "upperLip": distance(upper, upper_inner),
        "lowerLip": distance(lower_inner, lower),
    }
    for side, (outer, inner, above, below, iris) in _EYES.items():
        width = distance(outer, inner) or 1.0
        middle = (head_P3[outer] + head_P3[inner]) / 2
        brow = _BROWS[side]
        corner = _CORNERS[side]
        features |= {
            f"eyeOpen{side}": distance(above, below) / width,
            f"gazeX{side}": float(head_P3[iris, 0] - middle[0]) / width,
            f"gazeY{side}": float(head_P3[iris, 1] - middle[1]) / width,
            f"browOuterUp{side}": height(brow[0], outer),
            f"browUp{side}": height(brow[2], above),
            f"browInnerUp{side}": height(brow[-1], inner),
            f"mouthSmile{side}": height(corner, upper_inner) + height(corner, lower_inner),
            f"cheekRaise{side}": height(below, corner),
            f"noseWrinkle{side}": height(inner, _NOSTRILS[side]),
        }
    return features


def _area(points_P3: Array) -> float:
    """Return the area of the bounding box of a face."""
    return float(np.prod(points_P3[:, :2].max(0) - points_P3[:, :2].min(0)))


Face = tuple[Array, dict[str, float]]  # landmarks, and blendshapes if the model has them
Detector = Callable[[Array], list[Face]]


def _points(landmarks: Iterable[Any]) -> Array:
    return np.array([[point.x, point.y, point.z] for point in landmarks], dtype=np.float64)


def _face_mesh(mediapipe: Any) -> Detector:
    if not hasattr(mediapipe, "solutions"):
        raise DhmdError(
            f"mediapipe {importlib.metadata.version('mediapipe')} has no face model: give one "
            "with --face-model, or install mediapipe 0.10.14 (constraints-media.txt)"
        )
    mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=_MAX_FACES, refine_landmarks=True
    )

    def detect(frame: Array) -> list[Face]:
        faces = mesh.process(frame).multi_face_landmarks or ()
        return [(_points(face.landmark), {}) for face in faces]

    return detect


def _face_landmarker(mediapipe: Any, model: Path) -> Detector:
    vision = mediapipe.tasks.vision
    try:
        landmarker = vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                # Not the path, since MediaPipe resolves a relative path in its own folder.
                base_options=mediapipe.tasks.BaseOptions(model_asset_buffer=model.read_bytes()),
                num_faces=_MAX_FACES,
                output_face_blendshapes=True,
            )
        )
    except (RuntimeError, ValueError) as error:
        raise DhmdError(
            f"--face-model: {model} is not a model of MediaPipe's Face Landmarker "
            f"({first_line(error)[:200]})"
        ) from error

    def detect(frame: Array) -> list[Face]:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame)
        result = landmarker.detect(image)
        return [
            (
                _points(landmarks),
                {f"blendshape_{shape.category_name}": float(shape.score) for shape in shapes},
            )
            for landmarks, shapes in zip(
                result.face_landmarks, result.face_blendshapes, strict=True
            )
        ]

    return detect
