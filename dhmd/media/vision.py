"""Vision features: MediaPipe's face landmarks, and measures of expression, gaze and head pose.

Axes: P landmarks, F faces of a frame, T frames with a face, d features. x points to the image's
right, y down, z away from the camera, all in one unit.
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
_MOST_FACES = 4  # that are looked for in a frame

# Landmarks of MediaPipe's face mesh. Left and right are the person's.
_EYES = {"Right": (33, 133, 159, 145, 468), "Left": (263, 362, 386, 374, 473)}
_BROWS = {"Right": (70, 63, 105, 66, 107), "Left": (300, 293, 334, 296, 336)}
_NOSTRILS = {"Right": 98, "Left": 327}
_CORNERS = {"Right": 61, "Left": 291}
_NOSE_BASE, _CHIN = 2, 152
_LIPS = (0, 13, 14, 17)  # the middle of the lips, from above: upper outer, upper inner, …
_LANDMARKS = (
    *(point for side in _EYES.values() for point in side[:4]),
    *(point for side in _BROWS.values() for point in side),
    *(*_NOSTRILS.values(), _NOSE_BASE, 1, _CHIN),
    *(*_CORNERS.values(), *_LIPS, 37, 267, 40, 270, 84, 314, 91, 321),
)


class FaceLandmarks:
    """Face landmarks by MediaPipe; of several faces the largest counts.

    Every frame is looked at by itself, so that a face is neither carried on nor smoothed.

    Args:
        model: a model file of MediaPipe's Face Landmarker, which adds its blendshapes; None for
            the model in MediaPipe 0.10.14.
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
            frames: `[H, H, 3]` uint8 each.
            fps: how many frames there are per second.
            counts: is increased as frames are read.
        """
        rows, intervals = [], []
        for frame in frames:
            start, counts.frames = counts.frames / fps, counts.frames + 1
            faces = self._detect(np.ascontiguousarray(frame))
            counts.no_face += not faces
            counts.several_faces += len(faces) > 1
            if faces:
                points_P3, extra = max(faces, key=lambda face: _size(face[0]))
                named = {**face_features(points_P3), **extra}
                self.names = tuple(named)
                rows.append(list(named.values()))
                intervals.append([start, start + 1 / fps])
        return Features(
            values=np.array(rows, dtype=np.float32).reshape(len(rows), len(self.names)),
            intervals=np.array(intervals, dtype=np.float64).reshape(len(rows), 2),
        )


def face_features(points_P3: Array) -> dict[str, float]:
    """Describe a face by head pose, expression, gaze and landmarks.

    Expression and landmarks are measured in the head's own axes, in distances between the eyes, so
    that they depend neither on the head's pose nor on its size.

    Args:
        points_P3: MediaPipe's 478 landmarks, P of them, in units of the frame's side.
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
    found = {
        "headYaw": float(np.arctan2(x[2], np.hypot(x[0], x[1]))),
        "headPitch": float(np.arctan2(y[2], y[1])),
        "headRoll": float(np.arctan2(x[1], x[0])),
        "headX": float(origin[0]),
        "headY": float(origin[1]),
        "headSize": scale,
    }
    found |= _expression(head_P3)
    for point in _LANDMARKS:
        found[f"landmark{point}X"] = float(head_P3[point, 0])
        found[f"landmark{point}Y"] = float(head_P3[point, 1])
    return found


def _expression(head_P3: Array) -> dict[str, float]:
    def distance(a: int, b: int) -> float:
        return float(np.linalg.norm(head_P3[a] - head_P3[b]))

    def height(upper: int, lower: int) -> float:
        return float(head_P3[lower, 1] - head_P3[upper, 1])

    upper, upper_inner, lower_inner, lower = _LIPS
    found = {
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
        found |= {
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
    return found


def _size(points_P3: Array) -> float:
    return float(np.prod(points_P3[:, :2].max(0) - points_P3[:, :2].min(0)))


Face = tuple[Array, dict[str, float]]  # landmarks, and features that the model adds
Detector = Callable[[Array], list[Face]]


def _points(landmarks: Iterable[Any]) -> Array:
    return np.array([[point.x, point.y, point.z] for point in landmarks], dtype=np.float64)


def _face_mesh(mediapipe: Any) -> Detector:
    if not hasattr(mediapipe, "solutions"):
        raise DhmdError(
            f"mediapipe {importlib.metadata.version('mediapipe')} has no face model: name one "
            "by --face-model, or install mediapipe 0.10.14 (constraints-media.txt)"
        )
    mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=_MOST_FACES, refine_landmarks=True
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
                # The content: MediaPipe takes a relative path for one of its own.
                base_options=mediapipe.tasks.BaseOptions(model_asset_buffer=model.read_bytes()),
                num_faces=_MOST_FACES,
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
        found = landmarker.detect(image)
        shapes = [
            {f"blendshape_{one.category_name}": float(one.score) for one in face}
            for face in found.face_blendshapes
        ]
        return [
            (_points(points), extra)
            for points, extra in zip(found.face_landmarks, shapes, strict=True)
        ]

    return detect
