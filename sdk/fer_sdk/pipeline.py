"""Faces with their emotions, from images: detection, crops and the two models in a row."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, Self, TypeVar, get_args, overload

import numpy as np
import numpy.typing as npt

from fer_sdk import __version__, runtime
from fer_sdk.bundle import is_bundled, read_bundled
from fer_sdk.contract import Precision, Task
from fer_sdk.crop import Square, centred_square, crop_gray
from fer_sdk.detectors import DetectorName, open_detector
from fer_sdk.detectors.base import Detection, Detector, clamped
from fer_sdk.errors import (
    DetectorError,
    ImageError,
    ModelError,
    PipelineClosedError,
    SettingError,
)
from fer_sdk.face import Box, Face, Point
from fer_sdk.image import MAX_PIXELS, Color, ImageLike, load_image
from fer_sdk.model import EmotionModel, LandmarksModel
from fer_sdk.runtime import Device

ModelPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One of the models of a pipeline.

    Attributes:
        task: what it gives.
        version: of the trained model.
        precision: how its weights and arithmetic are held.
        input_size: side of the square faces that it takes, in pixels.
        source: file name of a bundled model, else the path that was given.
        sha256: hash of the file.
        provider: onnxruntime's name for what really runs it.
    """

    task: Task
    version: str
    precision: Precision
    input_size: int
    source: str
    sha256: str
    provider: str


@dataclass(frozen=True, slots=True)
class PipelineInfo:
    """What a pipeline really runs.

    Attributes:
        fer_sdk: version of this package.
        onnxruntime: version of onnxruntime.
        device: ``"cpu"`` or ``"cuda"``: where the models run.
        threads: onnxruntime threads that one run uses.
        detector: name of the face detector; None where each image is one face.
        detector_reason: why it is this one.
        labels: the emotions, in the order of ``Face.scores``.
        models: the emotion model and the landmarks model.
    """

    fer_sdk: str
    onnxruntime: str
    device: str
    threads: int
    detector: str | None
    detector_reason: str
    labels: tuple[str, ...]
    models: tuple[ModelInfo, ModelInfo]

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


class FerPipeline:
    """Finds the faces of images, their landmarks and their emotions.

    Opening one takes a moment, using it is fast: keep it. Threads may share it; processes open
    their own. Close it, or use it in a ``with`` statement::

        with FerPipeline() as pipeline:
            for face in pipeline.predict("photo.jpg"):
                print(face.emotion, face.confidence, face.box)
    """

    def __init__(
        self,
        *,
        detector: DetectorName | Detector | None = "auto",
        device: Device = "auto",
        precision: Precision | Literal["auto"] = "auto",
        threads: int | None = None,
        emotion_model: ModelPath | None = None,
        landmarks_model: ModelPath | None = None,
        min_detection_score: float = 0.5,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Open the models and the detector.

        Args:
            detector: ``"auto"`` (MediaPipe where a release that sends nothing is installed, else
                the same model on onnxruntime), ``"mediapipe"``, ``"blazeface"``, or a ``Detector``
                of your own, which stays yours to close. None takes each image as one face: its
                largest centred square.
            device: where the models run: ``"cpu"``, ``"cuda"``, or ``"auto"``, which is CUDA where
                it opens. A device that is named is used or refused.
            precision: ``"int8"``, ``"fp32"`` or ``"fp16"`` of the bundled models; ``"auto"`` is
                int8 on the CPU, and on CUDA fp16, or fp32 where that is not bundled.
            threads: onnxruntime threads of one run; None takes every core this process may use.
            emotion_model: an emotion model of your own, as ``fer-export`` writes it.
            landmarks_model: a landmarks model of your own.
            min_detection_score: least detection score of a face, 0..1; not for a detector of your
                own.
            max_pixels: larger pictures are refused before they are decoded.

        Raises:
            ModelError: a model is missing, damaged, or not one that keeps the model contract.
            DetectorError: the detector cannot be used here.
            DeviceUnavailableError: the named device is not where the models would run.
            SettingError: a setting is not one of those above.
        """
        if precision not in ("auto", *get_args(Precision)):
            names = ", ".join(f'"{name}"' for name in ("auto", *get_args(Precision)))
            raise SettingError(f"there is no precision {precision!r}: use one of {names}")
        if max_pixels < 1:
            raise SettingError(f"max_pixels must be at least 1, not {max_pixels}")
        self._max_pixels = max_pixels
        emotion = _open_model(EmotionModel, emotion_model, precision, device, threads)
        # Both run on one device: where CUDA did not open for the first, the second does not try.
        settled: Device = "cuda" if emotion.session.device == "cuda" else "cpu"
        landmarks = _open_model(LandmarksModel, landmarks_model, precision, settled, threads)
        opened, reason = _open_detector(detector, min_detection_score, threads)
        if opened is not None and opened is not detector:
            # Some detectors complain when the interpreter ends before they are closed.
            self._let_go = weakref.finalize(self, opened.close)
        else:
            self._let_go = weakref.finalize(self, lambda: None)
        self._parts: _Parts | None = _Parts(emotion, landmarks, opened)
        self._under_way = 0
        self._idle = threading.Condition()
        self.info = PipelineInfo(
            fer_sdk=__version__,
            onnxruntime=runtime.version(),
            device=emotion.session.device,
            threads=emotion.session.threads,
            detector=None if opened is None else opened.name,
            detector_reason=reason,
            labels=emotion.metadata.labels,
            models=(_model_info(emotion), _model_info(landmarks)),
        )

    def predict(
        self, image: ImageLike, *, color: Color = "bgr", max_faces: int | None = None
    ) -> list[Face]:
        """Find the faces of one image.

        Args:
            image: a path, the bytes of a picture file, a Pillow image, or a numpy array of uint8
                ``[H, W]``, ``[H, W, 3]`` or ``[H, W, 4]``.
            color: order of an array's channels, ``"bgr"`` (OpenCV's) or ``"rgb"``.
            max_faces: keep only this many, the largest; None keeps all.

        Returns:
            The faces, largest first; none where none was found.

        Raises:
            ImageError: not an image that can be read; names it and says why.
            DetectorError: the detector failed.
            SettingError: ``max_faces`` is below 1.
            PipelineClosedError: the pipeline was closed.
        """
        _check_max_faces(max_faces)
        with self._in_use() as parts:
            pixels = load_image(image, color=color, max_pixels=self._max_pixels)
            return _faces(parts, _find(parts, pixels, max_faces))

    @overload
    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        color: Color = "bgr",
        max_faces: int | None = None,
        on_error: Literal["return"] = "return",
    ) -> list[list[Face] | ImageError]: ...
    @overload
    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        color: Color = "bgr",
        max_faces: int | None = None,
        on_error: Literal["raise"],
    ) -> list[list[Face]]: ...
    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        color: Color = "bgr",
        max_faces: int | None = None,
        on_error: Literal["return", "raise"] = "return",
    ) -> Sequence[list[Face] | ImageError]:
        """Find the faces of several images; the models see all of them together.

        Images are read one after the other and only their faces are kept, so that ``images`` may
        be a generator over more than fits into memory.

        Args:
            images: as in ``predict``.
            color: order of the arrays' channels.
            max_faces: of each image keep only this many, the largest.
            on_error: what happens for an image that cannot be read: ``"return"`` puts an
                ``ImageError`` in its place and goes on, ``"raise"`` raises it.

        Returns:
            One entry for each image, in their order: its faces, largest first, or an
            ``ImageError``. It gives what ``predict`` gives for each.

        Raises:
            ImageError: with ``on_error="raise"``; names the image by its place and says why.
            DetectorError: the detector failed.
            SettingError: ``max_faces`` is below 1, ``on_error`` is neither of the two, or
                ``images`` is a single image.
            PipelineClosedError: the pipeline was closed.
        """
        _check_max_faces(max_faces)
        if on_error not in ("return", "raise"):
            raise SettingError(f'on_error must be "return" or "raise", not {on_error!r}')
        _check_several(images)
        with self._in_use() as parts:
            found: list[list[_Found] | ImageError] = []
            for place, image in enumerate(images):
                try:
                    pixels = load_image(image, color=color, max_pixels=self._max_pixels)
                except ImageError as error:
                    named = ImageError(f"images[{place}]: {error}")
                    if on_error == "raise":
                        raise named from error
                    # On its own: its cause would keep the whole file in memory.
                    found.append(named)
                else:
                    found.append(_find(parts, pixels, max_faces))
            together = [face for one in found if isinstance(one, list) for face in one]
            faces = iter(_faces(parts, together))
            return [[next(faces) for _ in one] if isinstance(one, list) else one for one in found]

    def close(self) -> None:
        """Wait for calls that are under way, then let go of everything. May be called again."""
        with self._idle:
            self._parts = None
            self._idle.wait_for(lambda: self._under_way == 0)
        self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._parts is None else ""
        info = self.info
        return f"<FerPipeline detector={info.detector} device={info.device}{state}>"

    @contextmanager
    def _in_use(self) -> Iterator[_Parts]:
        with self._idle:
            parts = self._parts
            if parts is None:
                raise PipelineClosedError("the pipeline was closed: open another FerPipeline()")
            self._under_way += 1
        try:
            yield parts
        finally:
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()


class _Parts(NamedTuple):
    emotion: EmotionModel
    landmarks: LandmarksModel
    detector: Detector | None


class _Found(NamedTuple):
    """A face that no model has seen yet, with what each of them is to see of it."""

    box: Box
    score: float | None
    square: Square
    for_landmarks: npt.NDArray[np.uint8]
    for_emotion: npt.NDArray[np.uint8]


def _find(parts: _Parts, image: npt.NDArray[np.uint8], max_faces: int | None) -> list[_Found]:
    """The faces of an RGB image, largest first."""
    height, width = image.shape[:2]
    if parts.detector is None:
        square = centred_square(width, height)
        return [_framed(parts, image, Box(0.0, 0.0, float(width), float(height)), None, square)]
    detections = _checked(parts.detector.detect(image), parts.detector.name, width, height)
    detections.sort(key=lambda one: (-one.box.width * one.box.height, -one.score, one.box))
    return [
        _framed(parts, image, detection.box, detection.score, None)
        for detection in detections[:max_faces]
    ]


def _framed(
    parts: _Parts,
    image: npt.NDArray[np.uint8],
    box: Box,
    score: float | None,
    square: Square | None,
) -> _Found:
    """Cut out what each model is to see: the same square, or one by each model's geometry."""
    landmarks, emotion = parts.landmarks.metadata, parts.emotion.metadata
    square_l = square or landmarks.crop.square(box)
    square_e = square or emotion.crop.square(box)
    for_landmarks = crop_gray(image, square_l, landmarks.input_size)
    if (square_l, landmarks.input_size) == (square_e, emotion.input_size):
        for_emotion = for_landmarks
    else:
        for_emotion = crop_gray(image, square_e, emotion.input_size)
    return _Found(box, score, square_l, for_landmarks, for_emotion)


def _faces(parts: _Parts, found: list[_Found]) -> list[Face]:
    """Run each model once over all faces."""
    if not found:
        return []
    fractions = parts.landmarks.landmarks(np.stack([face.for_landmarks for face in found]))
    scores = parts.emotion.scores(np.stack([face.for_emotion for face in found]))
    labels = parts.emotion.metadata.labels
    return [
        _face(*of_face, labels)
        for of_face in zip(found, fractions.tolist(), scores.tolist(), strict=True)
    ]


def _face(
    found: _Found, fractions: list[list[float]], scores: list[float], labels: tuple[str, ...]
) -> Face:
    x, y, side = found.square
    left_eye, right_eye, left_lip, right_lip = (
        Point(x + across * side, y + down * side) for across, down in fractions
    )
    confidence = max(scores)
    return Face(
        box=found.box,
        detection_score=found.score,
        landmarks=(left_eye, right_eye, left_lip, right_lip),
        emotion=labels[scores.index(confidence)],
        confidence=confidence,
        scores=dict(zip(labels, scores, strict=True)),
    )


def _checked(detections: object, name: str, width: int, height: int) -> list[Detection]:
    """What a detector gave, with every box inside the image; boxes outside of it are left out."""
    if not isinstance(detections, list) or not all(
        isinstance(detection, Detection) for detection in detections
    ):
        raise DetectorError(
            f"detector {name}: detect() must return a list of fer_sdk.Detection, not {detections!r}"
        )
    inside = []
    for detection in detections:
        numbers = [float(number) for number in (*detection.box, detection.score)]
        if not all(map(math.isfinite, numbers)) or not 0 <= numbers[4] <= 1:
            raise DetectorError(
                f"detector {name}: {detection} has a number that is not finite or a score outside "
                "0..1"
            )
        box = clamped(Box(*numbers[:4]), width, height)
        if box is not None:
            inside.append(Detection(box, numbers[4]))
    return inside


_M = TypeVar("_M", EmotionModel, LandmarksModel)


def _open_model(
    kind: type[_M],
    path: ModelPath | None,
    precision: Precision | Literal["auto"],
    device: Device,
    threads: int | None,
) -> _M:
    if path is not None:
        model = kind.from_file(path, device=device, threads=threads)
        if precision not in ("auto", model.metadata.precision):
            raise ModelError(
                f'{path}: precision="{precision}" was asked for, but this model is '
                f'{model.metadata.precision}; use precision="auto"'
            )
        return model
    on_cuda = device == "cuda" or (device == "auto" and runtime.has_cuda())
    name = _bundled_name(kind.task, precision, on_cuda)
    model = kind(read_bundled(name), source=name, device=device, threads=threads)
    if on_cuda and model.session.device == "cpu" and precision == "auto":
        return _open_model(kind, None, precision, "cpu", threads)
    return model


def _bundled_name(task: Task, precision: Precision | Literal["auto"], on_cuda: bool) -> str:
    if precision == "auto":
        there = is_bundled(f"{task}.fp16.onnx")
        return f"{task}.{('fp16' if there else 'fp32') if on_cuda else 'int8'}.onnx"
    name = f"{task}.{precision}.onnx"
    bundled = [one for one in get_args(Precision) if is_bundled(f"{task}.{one}.onnx")]
    if bundled and precision not in bundled:
        raise ModelError(
            f"{name} does not come with fer-sdk, only {', '.join(bundled)}: use one of these, or "
            f"make it with fer-export and give it as {task}_model"
        )
    return name


def _open_detector(
    detector: DetectorName | Detector | None, min_score: float, threads: int | None
) -> tuple[Detector | None, str]:
    if detector is None:
        return None, "each image is taken as one face"
    if isinstance(detector, str):
        return open_detector(detector, min_score=min_score, threads=threads)
    if not isinstance(detector, Detector):
        raise DetectorError(
            f"{detector!r} is not a detector: it needs a name, detect() and close()"
        )
    return detector, "it was given"


def _model_info(model: EmotionModel | LandmarksModel) -> ModelInfo:
    return ModelInfo(
        task=model.task,
        version=model.metadata.version,
        precision=model.metadata.precision,
        input_size=model.metadata.input_size,
        source=model.source,
        sha256=model.sha256,
        provider=model.session.provider,
    )


def _check_max_faces(max_faces: int | None) -> None:
    if max_faces is not None and max_faces < 1:
        raise SettingError(f"max_faces must be at least 1, or None for all, not {max_faces}")


def _check_several(images: object) -> None:
    """A path, bytes or an array can be iterated over too, but that is never what was meant."""
    one_array = isinstance(images, np.ndarray) and (
        images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    )
    if (
        one_array
        or isinstance(images, str | bytes | bytearray | memoryview | os.PathLike)
        or not isinstance(images, Iterable)
    ):
        raise SettingError(
            "predict_batch takes several images: give a list of them, or use predict"
        )
