"""Faces with their emotions, from images: detection, crops and the two models in a row."""

from __future__ import annotations

import atexit
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, NoReturn, Self, TypeVar, get_args, overload

import numpy as np
import numpy.typing as npt

from fer_sdk import __version__
from fer_sdk.analysis import Analyzer, Crop
from fer_sdk.detectors import DetectorName, open_detector
from fer_sdk.detectors.base import Detection, Detector
from fer_sdk.detectors.boxes import roll
from fer_sdk.errors import (
    DetectorError,
    ImageError,
    ModelError,
    PipelineClosedError,
    SettingError,
)
from fer_sdk.image.crop import (
    ALIGN_BEYOND,
)
from fer_sdk.image.load import MAX_BYTES, MAX_PIXELS, Color, ImageLike, load_image
from fer_sdk.models import session as runtime
from fer_sdk.models.base import MAX_FACES_A_RUN
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.metadata import Precision, Task
from fer_sdk.models.packaged import is_bundled, read_bundled
from fer_sdk.models.providers import Device, known_device, provider_of
from fer_sdk.stream import Frame, check_settings, follow
from fer_sdk.types import Face
from fer_sdk.video.read import VideoLike, open_frames

ModelPath = str | os.PathLike[str]

_LAST_CALLS = 10.0
"""Seconds that the end of the interpreter waits for calls that are under way."""

_MOST_HELD = 64 * 2**20
"""Bytes of images that a batch keeps until the models have seen their faces."""


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
        nodes: operations that onnxruntime sees in it.
        cpu_nodes: those of them that run on the CPU, whatever the device.
    """

    task: Task
    version: str
    precision: Precision
    input_size: int
    source: str
    sha256: str
    provider: str
    nodes: int
    cpu_nodes: int


@dataclass(frozen=True, slots=True)
class PipelineInfo:
    """What a pipeline really runs.

    Attributes:
        fer_sdk: version of this package.
        onnxruntime: version of onnxruntime.
        device: ``"cpu"``, ``"cuda"`` and so on: where the models run. Detectors run on the CPU.
        provider: onnxruntime's name for what really runs them.
        threads: onnxruntime threads that one run uses.
        detector: name of the face detector; None where each image is one face.
        detector_reason: why it is this one.
        labels: the emotions, in the order of ``Face.scores``.
        convention: how the labels are used, such as ``"ferplus"``; None where the model knows one.
        models: the emotion model and the landmarks model.
    """

    fer_sdk: str
    onnxruntime: str
    device: str
    provider: str
    threads: int
    detector: str | None
    detector_reason: str
    labels: tuple[str, ...]
    convention: str | None
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
        device: Device | str = "auto",
        precision: Precision | Literal["auto"] = "auto",
        threads: int | None = None,
        emotion_model: ModelPath | None = None,
        landmarks_model: ModelPath | None = None,
        labels: str | None = None,
        min_detection_score: float | None = None,
        align_beyond: float | None = ALIGN_BEYOND,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        provider_options: Mapping[str, str] | None = None,
    ) -> None:
        """Open the models and the detector.

        Args:
            detector: ``"auto"`` (YuNet for faces of every size together with MediaPipe where a
                release that sends nothing is installed, else with the same model on onnxruntime),
                one of ``"yunet"``, ``"mediapipe"`` and ``"blazeface"`` alone, or a ``Detector`` of
                your own, which stays yours to close. None takes each image as one face: its
                largest centred square, as it is.
            device: where the models run: ``"cpu"``, ``"cuda"``, or ``"auto"``, which is CUDA where
                it opens, else the CPU. With an onnxruntime that is built for it also
                ``"openvino"``, ``"coreml"``, ``"directml"``, ``"tensorrt"`` or ``"xnnpack"``, or
                another provider by onnxruntime's name of it, such as ``"QNNExecutionProvider"``. A
                device that is named is used or refused. CoreML, XNNPACK and those other providers
                leave the operations that they do not know to the CPU: ``info.models`` counts them.
                With the other devices one that would is refused too.
            precision: ``"int8"`` or ``"fp32"`` of the bundled models; ``"auto"`` is int8 on the CPU
                and OpenVINO, and fp32 on the others. ``"fp16"`` needs models of your own.
            threads: onnxruntime threads of one run; None takes every core this process may use.
            emotion_model: an emotion model of your own, as ``fer-export`` writes it.
            landmarks_model: a landmarks model of your own.
            labels: how the emotion model uses the labels: ``"ferplus"`` as the ten people of FER+
                do, ``"fer2013"`` as that data set does. None takes the model's own default.
            min_detection_score: least detection score of a face, 0..1; None takes what was measured
                to be best. Not for a detector of your own.
            align_beyond: a face whose eyes are on a line that is tilted by more than this many
                degrees, 0..180, is turned upright before its emotion is read. Upright faces are
                left as they are: nothing is gained by turning them. None turns no face.
            max_pixels: larger pictures are refused before they are decoded.
            max_bytes: larger files are refused before they are read.
            provider_options: onnxruntime's own options for the provider of a named device, such as
                ``{"device_type": "GPU"}`` with ``device="openvino"``.

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
        if max_bytes < 1:
            raise SettingError(f"max_bytes must be at least 1, not {max_bytes}")
        if align_beyond is not None and not 0 <= align_beyond <= 180:
            raise SettingError(f"align_beyond must be from 0 to 180, or None, not {align_beyond}")
        self._limits = {"max_pixels": max_pixels, "max_bytes": max_bytes}
        self._process = os.getpid()
        device = known_device(device)
        emotion = _open_model(
            EmotionModel, emotion_model, precision, device, threads, provider_options, labels
        )
        # Both run on one device: where CUDA did not open for the first, the second does not try.
        settled = emotion.session.device if device == "auto" else device
        landmarks = _open_model(
            LandmarksModel, landmarks_model, precision, settled, threads, provider_options
        )
        opened, reason = _open_detector(detector, min_detection_score, threads)
        named = isinstance(detector, str)
        if opened is not None and named:
            # Some detectors complain when the interpreter ends before they are closed.
            self._let_go = weakref.finalize(self, opened.close)
        else:
            self._let_go = weakref.finalize(self, lambda: None)
        self._analyzer: Analyzer | None = Analyzer(emotion, landmarks, opened, align_beyond)
        self._under_way = 0
        self._idle = threading.Condition()
        self.info = PipelineInfo(
            fer_sdk=__version__,
            onnxruntime=runtime.version(),
            device=emotion.session.device,
            provider=emotion.session.provider,
            threads=emotion.session.threads,
            detector=None if opened is None else opened.name,
            detector_reason=reason,
            labels=emotion.metadata.labels,
            convention=emotion.labels,
            models=(_model_info(emotion), _model_info(landmarks)),
        )
        _open_pipelines.add(self)
        _watch_the_end()

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
        with self._in_use() as analyzer:
            with analyzer.stage("read"):
                pixels = load_image(image, color=color, **self._limits)
            return analyzer.faces(analyzer.find(pixels, max_faces)[0])

    @overload
    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        color: Color = "bgr",
        max_faces: int | None = None,
        on_error: Literal["return"] = "return",
        workers: int = 1,
    ) -> list[list[Face] | ImageError]: ...
    @overload
    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        color: Color = "bgr",
        max_faces: int | None = None,
        on_error: Literal["raise"],
        workers: int = 1,
    ) -> list[list[Face]]: ...
    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        color: Color = "bgr",
        max_faces: int | None = None,
        on_error: Literal["return", "raise"] = "return",
        workers: int = 1,
    ) -> Sequence[list[Face] | ImageError]:
        """Find the faces of several images; the models see the faces of many of them together.

        Only a few images are kept at a time, so that ``images`` may be a generator over more than
        fits into memory.

        Args:
            images: as in ``predict``.
            color: order of the arrays' channels.
            max_faces: of each image keep only this many, the largest.
            on_error: what happens for an image that cannot be read: ``"return"`` puts an
                ``ImageError`` in its place and goes on, ``"raise"`` raises it.
            workers: how many images are read and searched at the same time, each in a thread. With
                more than one, ``FerPipeline(threads=1)`` leaves the cores to them.

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
        if workers < 1:
            raise SettingError(f"workers must be at least 1, not {workers}")

        def look(numbered: tuple[int, ImageLike]) -> list[Crop] | ImageError:
            index, image = numbered
            try:
                pixels = load_image(image, color=color, **self._limits)
            except ImageError as error:
                named = ImageError(f"images[{index}]: {error}")
                if on_error == "raise":
                    raise named from error
                # On its own: its cause would keep the whole file in memory.
                return named
            return analyzer.find(pixels, max_faces)[0]

        results: list[list[Face] | ImageError] = []
        with self._in_use() as analyzer:
            for group in _grouped(_in_order(look, enumerate(images), workers)):
                crops = [crop for found in group if isinstance(found, list) for crop in found]
                faces = iter(analyzer.faces(crops))
                results += [
                    [next(faces) for _ in found] if isinstance(found, list) else found
                    for found in group
                ]
        return results

    def stream(
        self,
        source: VideoLike,
        *,
        color: Color = "bgr",
        times: Iterable[float] | None = None,
        fps: float | None = None,
        max_faces: int | None = None,
        detect_every: int | None = None,
        smoothing: float | None = 0.3,
        keep: float = 1.0,
        images: bool = False,
    ) -> Generator[Frame, None, None]:
        """Follow the faces of a video, a camera, or frames of your own.

        Frames come one at a time, as they are asked for, and none is kept: memory does not grow
        with the length of the video. It is opened at once and closed at its end, or with the
        iterator's ``close()``::

            for frame in pipeline.stream("meeting.mp4"):
                for face in frame.faces:
                    print(frame.time, face.track_id, face.emotion)

        A face keeps its ``track_id`` from frame to frame, also when it is out of sight for less
        than ``keep``; an id is never given to another face of the stream. Who someone is, is told
        by place and movement alone: after a cut of the film ids mean nothing.

        Args:
            source: path of a video file, a binary file object, number of a camera (0 is the first)
                or its ``/dev/video0``, an address such as ``rtsp://…`` or ``https://…``, to which a
                connection is opened, or an iterable of images as ``predict`` takes them.
            color: order of the channels of arrays that are given, and of ``Frame.image``.
            times: when each frame was taken, in seconds that grow; for frames that come in live,
                ``iter(time.monotonic, None)``. Without, a file's own times count, of a camera the
                clock from its first frame on, and of your own frames ``fps``.
            fps: frames a second, for frames at even distances: frame ``i`` is at ``i / fps``,
                whatever the file says. Your own frames are taken for 30 a second unless you say.
            max_faces: keep only this many, the largest that are found.
            detect_every: run the face detector on every such frame only. Between, each face is
                followed by its movement and its landmarks; new faces are found at the next. None
                goes by the picture: every frame where a quick look finds the faces, every 4th or
                16th where small ones need a closer look.
            smoothing: time constant in seconds of the exponential smoothing of scores: of a sudden
                change 63 % show after this time, 95 % after three times it, at any frame rate.
                None gives each frame's own scores.
            keep: seconds that a face may be out of sight, or be missed, and keep its id.
            images: whether each ``Frame`` holds its pixels, to draw on or to save.

        Raises:
            VideoError: the video cannot be opened; or, after the frames that could be read, it is
                damaged or cut, the camera vanished, or ``times`` do not go with the frames.
            ImageError: one of your own frames is not an image; names it by its place.
            DetectorError: the detector failed.
            SettingError: a setting is not one of those above.
            PipelineClosedError: the pipeline was closed.
        """
        _check_max_faces(max_faces)
        check_settings(detect_every, smoothing, keep)
        with self._in_use():
            shots = open_frames(source, color=color, times=times, fps=fps, **self._limits)
        return follow(
            shots,
            _Looker(self, max_faces),
            detect_every=detect_every,
            smoothing=smoothing,
            keep=keep,
            images=images,
        )

    def close(self) -> None:
        """Wait for calls that are under way, then let go of everything. May be called again."""
        if self._process != os.getpid():
            # Nothing of it works in a forked process, and what it holds must not be closed there.
            return
        with self._idle:
            self._analyzer = None
            self._idle.wait_for(self._has_no_calls)
        self._let_go()

    @property
    def analyzer(self) -> Analyzer:
        """Its detector and models, to be measured or called alone. Closed with the pipeline.

        Raises:
            PipelineClosedError: the pipeline was closed.
        """
        analyzer = self._analyzer
        if analyzer is None:
            raise PipelineClosedError("the pipeline was closed: open another FerPipeline()")
        return analyzer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._analyzer is None else ""
        info = self.info
        return f"<FerPipeline detector={info.detector} device={info.device}{state}>"

    def _has_no_calls(self) -> bool:
        return self._under_way == 0

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a FerPipeline holds open models, which can be neither pickled nor copied: open one in "
            "each process, for example in the initializer of a ProcessPoolExecutor"
        )

    @contextmanager
    def _in_use(self) -> Iterator[Analyzer]:
        if self._process != os.getpid():
            raise PipelineClosedError(
                "the pipeline was opened before this process was forked, which neither onnxruntime "
                "nor MediaPipe survives: open one in each process"
            )
        with self._idle:
            analyzer = self.analyzer
            self._under_way += 1
        try:
            yield analyzer
        finally:
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()


_open_pipelines: weakref.WeakSet[FerPipeline] = weakref.WeakSet()


@functools.cache
def _watch_the_end() -> None:
    # A thread that comes back from native code while the interpreter ends takes the process down.
    atexit.register(_finish_all)


def _finish_all() -> None:
    """Let daemon threads finish the call that they are in, and begin no other."""
    here = [one for one in list(_open_pipelines) if one._process == os.getpid()]
    for pipeline in here:
        with pipeline._idle:
            pipeline._analyzer = None
    for pipeline in here:
        with pipeline._idle:
            pipeline._idle.wait_for(pipeline._has_no_calls, _LAST_CALLS)


class _Looker(NamedTuple):
    """A pipeline as a stream uses it."""

    pipeline: FerPipeline
    max_faces: int | None

    def find(self, image: npt.NDArray[np.uint8]) -> tuple[list[Face], int]:
        with self.pipeline._in_use() as analyzer:
            crops, cost = analyzer.find(image, self.max_faces)
            return analyzer.faces(crops), cost

    def look(self, image: npt.NDArray[np.uint8], faces: Sequence[Face]) -> list[Face]:
        with self.pipeline._in_use() as analyzer:
            crops = []
            for face in faces:
                if face.detection_score is None:
                    crops.append(analyzer.whole(image))
                else:
                    (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
                    tilt = roll(left_x, left_y, right_x, right_y)
                    crops.append(
                        analyzer.crop(image, Detection(face.box, face.detection_score, tilt))
                    )
            return analyzer.faces(crops)


_T = TypeVar("_T")
_R = TypeVar("_R")


def _in_order(
    work: Callable[[_T], _R], items: Iterable[_T], workers: int
) -> Generator[_R, None, None]:
    """``map``, with a few items at work at a time, and no more taken than that."""
    if workers == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _grouped(
    found: Iterable[list[Crop] | ImageError],
) -> Generator[list[list[Crop] | ImageError], None, None]:
    """As many images together as give the models enough faces, or as memory should hold."""
    group: list[list[Crop] | ImageError] = []
    faces = held = 0
    for crops in found:
        group.append(crops)
        if isinstance(crops, list) and crops:
            faces += len(crops)
            held += crops[0].image.nbytes
        if faces >= MAX_FACES_A_RUN or held >= _MOST_HELD:
            yield group
            group, faces, held = [], 0, 0
    if group:
        yield group


_M = TypeVar("_M", EmotionModel, LandmarksModel)


def _open_model(
    kind: type[_M],
    path: ModelPath | None,
    precision: Precision | Literal["auto"],
    device: str,
    threads: int | None,
    provider_options: Mapping[str, str] | None,
    labels: str | None = None,
) -> _M:
    if path is not None:
        model = kind.from_file(
            path,
            device=device,
            threads=threads,
            provider_options=provider_options,
            labels=labels,
        )
        if precision not in ("auto", model.metadata.precision):
            raise ModelError(
                f'{path}: precision="{precision}" was asked for, but this model is '
                f'{model.metadata.precision}; use precision="auto"'
            )
        return model
    likely = device
    if device == "auto":
        likely = "cuda" if runtime.has_cuda() else "cpu"
    name = _bundled_name(kind.task, precision, likely)
    model = kind(
        read_bundled(name),
        source=name,
        device=device,
        threads=threads,
        provider_options=provider_options,
        labels=labels,
    )
    if model.session.device != likely and precision == "auto":
        return _open_model(kind, None, precision, "cpu", threads, None, labels)
    return model


def _bundled_name(task: Task, precision: Precision | Literal["auto"], device: str) -> str:
    if precision == "auto":
        return f"{task}.{provider_of(device).precision}.onnx"
    name = f"{task}.{precision}.onnx"
    bundled = [one for one in get_args(Precision) if is_bundled(f"{task}.{one}.onnx")]
    if bundled and precision not in bundled:
        raise ModelError(
            f"{name} does not come with fer-sdk, only {', '.join(bundled)}: use one of these, or "
            f"make it with fer-export and give it as {task}_model"
        )
    return name


def _open_detector(
    detector: DetectorName | Detector | None, min_score: float | None, threads: int | None
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
        nodes=model.session.nodes,
        cpu_nodes=model.session.cpu_nodes,
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
        or hasattr(images, "read")
        or not isinstance(images, Iterable)
    ):
        raise SettingError(
            "predict_batch takes several images: give a list of them, or use predict"
        )
