"""Both detectors, against MediaPipe's own task and against each other."""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from fer_sdk import detectors
from fer_sdk.detectors import Detection, Detector, open_detector
from fer_sdk.detectors import mediapipe as ours
from fer_sdk.detectors.base import clamped, thinned
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.detectors.mediapipe import MediaPipeDetector, installed_version, refusal
from fer_sdk.errors import DetectorError, ImageError, SettingError
from fer_sdk.types import Box
from fer_training.faces import read_faces

Pixels = npt.NDArray[np.uint8]

MODELS = Path(ours.__file__).parents[1] / "models" / "files"
TFLITE = MODELS / "face_detection_short_range.tflite"
ONNX = MODELS / "face_detection_short_range.onnx"

needs_mediapipe = pytest.mark.skipif(
    refusal(installed_version()) is not None,
    reason="needs a mediapipe that is used here (0.10.30 or 0.10.31)",
)

# MediaPipe cuts its boxes down to whole pixels, so what is exact lies in [0, 1) above them. The
# rest is float32 arithmetic on pictures of up to 2,000 pixels.
_FLOAT32 = 0.01


@pytest.fixture(scope="module")
def photo(example_photo: Path) -> Pixels:
    bgr = cv2.imread(str(example_photo))
    assert bgr is not None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


@pytest.fixture(scope="module")
def blazeface() -> BlazeFaceDetector:
    return BlazeFaceDetector()


@pytest.fixture(scope="module")
def mediapipe() -> Iterator[MediaPipeDetector]:
    detector = MediaPipeDetector()
    yield detector
    detector.close()


@pytest.fixture(scope="module")
def task() -> Iterator[Any]:
    """MediaPipe's own FaceDetector, used as its documentation has it."""
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceDetectorOptions(
        base_options=BaseOptions(model_asset_path=str(TFLITE)), min_detection_confidence=0.5
    )
    with vision.FaceDetector.create_from_options(options) as detector:
        yield detector


@pytest.fixture(params=["blazeface", pytest.param("mediapipe", marks=needs_mediapipe)])
def detector(request: pytest.FixtureRequest) -> Detector:
    found: Detector = request.getfixturevalue(request.param)
    return found


def run_task(task: Any, image: Pixels) -> list[tuple[tuple[int, int, int, int], float]]:
    import mediapipe

    frame = mediapipe.Image(
        image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
    )
    return [
        (
            (
                face.bounding_box.origin_x,
                face.bounding_box.origin_y,
                face.bounding_box.width,
                face.bounding_box.height,
            ),
            face.categories[0].score,
        )
        for face in task.detect(frame).detections
    ]


def assert_parity(found: list[Detection], expected: Any, width: int, height: int) -> int:
    """The same faces in the same order; returns how many boxes lay inside and were compared."""
    assert len(found) == len(expected)
    compared = 0
    for face, (box, score) in zip(found, expected, strict=True):
        assert face.score == pytest.approx(score, abs=1e-5)
        x, y, across, down = face.box
        # Of a box that reaches over an edge MediaPipe moves the corner and keeps the size.
        if x > 0 and y > 0 and x + across < width and y + down < height:
            above = np.array(face.box) - box
            assert (above > -_FLOAT32).all(), (face, box)
            assert (above < 1 + _FLOAT32).all(), (face, box)
            compared += 1
    return compared


def turned(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """The face of the photo at some size, tilt and place of a canvas of some shape."""
    width, height = (int(side) for side in rng.integers(150, 2000, 2))
    scale = rng.uniform(0.15, 0.9) * min(width, height) / 100
    matrix = cv2.getRotationMatrix2D((224, 128), rng.uniform(-30, 30), scale)
    matrix[:, 2] += rng.uniform(0.25, 0.75, 2) * (width, height) - (224, 128)
    return np.asarray(cv2.warpAffine(photo, matrix, (width, height)), np.uint8)


@needs_mediapipe
def test_blazeface_is_mediapipe_at_any_size_tilt_and_place(
    photo: Pixels, blazeface: BlazeFaceDetector, task: Any
) -> None:
    rng = np.random.default_rng(1)
    compared = 0
    for image in [photo, *(turned(photo, rng) for _ in range(50))]:
        height, width = image.shape[:2]
        compared += assert_parity(blazeface.detect(image), run_task(task, image), width, height)
    assert compared > 30


@needs_mediapipe
def test_blazeface_is_mediapipe_where_there_are_many_faces(
    photo: Pixels, blazeface: BlazeFaceDetector, task: Any
) -> None:
    rng = np.random.default_rng(2)
    face = photo[40:220, 130:310]
    compared = []
    for _ in range(20):
        scene = rng.integers(0, 256, (1, 1, 3), dtype=np.uint8).repeat(560, 0).repeat(840, 1)
        for top, left in product((0, 280), (0, 280, 560)):
            side = int(rng.integers(180, 280))
            small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
            if rng.random() < 0.5:
                small = small[:, ::-1]
            down, across = rng.integers(0, 281 - side, 2)
            scene[top + down : top + down + side, left + across : left + across + side] = small
        compared.append(assert_parity(blazeface.detect(scene), run_task(task, scene), 840, 560))
    assert sum(count >= 3 for count in compared) >= 10


@needs_mediapipe
def test_overlapping_faces_are_merged_as_mediapipe_merges_them(photo: Pixels, task: Any) -> None:
    # A low score lets many anchors through, so that the weighting of their boxes shows.
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceDetectorOptions(
        base_options=BaseOptions(model_asset_path=str(TFLITE)), min_detection_confidence=0.05
    )
    image = np.hstack([photo, photo[:, ::-1], photo])
    frame = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
    with vision.FaceDetector.create_from_options(options) as low:
        expected = [
            ((b.origin_x, b.origin_y, b.width, b.height), face.categories[0].score)
            for face in low.detect(frame).detections
            for b in [face.bounding_box]
        ]
    found = BlazeFaceDetector(min_score=0.05).detect(image)
    assert len(found) > len(run_task(task, image))
    assert assert_parity(found, expected, image.shape[1], image.shape[0]) >= 3


@needs_mediapipe
@pytest.mark.data
def test_blazeface_is_mediapipe_on_fer2013(
    fer2013_path: Path, tmp_path: Path, blazeface: BlazeFaceDetector, task: Any
) -> None:
    few = tmp_path / "few.csv"
    with gzip.open(fer2013_path, "rt", encoding="ascii") as rows:
        few.write_text("".join(islice(rows, 201)), encoding="ascii")
    faces = read_faces(few).images
    found = 0
    for face in faces:
        padded = cv2.copyMakeBorder(
            face, 12, 12, 12, 12, cv2.BORDER_CONSTANT, value=float(face.mean())
        )
        image = np.asarray(cv2.cvtColor(padded, cv2.COLOR_GRAY2RGB), np.uint8)
        expected = run_task(task, image)
        assert_parity(blazeface.detect(image), expected, 72, 72)
        found += bool(expected)
    assert found > 0.95 * len(faces)


@needs_mediapipe
def test_mediapipe_gives_its_boxes_without_their_bias(
    photo: Pixels, mediapipe: MediaPipeDetector, task: Any
) -> None:
    rng = np.random.default_rng(3)
    compared = 0
    for image in [photo, *(turned(photo, rng) for _ in range(10))]:
        height, width = image.shape[:2]
        expected = run_task(task, image)
        found = mediapipe.detect(image)
        assert [face.score for face in found] == [score for _, score in expected]
        for face, (box, _) in zip(found, expected, strict=True):
            half_up = Box(*(value + 0.5 for value in box))
            assert face.box == clamped(half_up, width, height)
            compared += 1
    assert compared > 5


def test_finds_the_face_of_the_photo(photo: Pixels, detector: Detector) -> None:
    (face,) = detector.detect(photo)
    # The astronaut's eyes and mouth, read off the photo.
    for x, y in [(202, 105), (246, 110), (222, 150)]:
        assert face.box.x < x < face.box.x + face.box.width
        assert face.box.y < y < face.box.y + face.box.height
    assert 80 < face.box.width < 120
    assert 0.8 < face.score <= 1


def test_gray_made_rgb_is_an_image_like_any_other(photo: Pixels, detector: Detector) -> None:
    gray = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    (colour,), (plain,) = detector.detect(photo), detector.detect(np.asarray(gray, np.uint8))
    assert np.allclose(colour.box, plain.box, atol=10)


def test_a_view_is_the_same_as_its_copy(photo: Pixels, detector: Detector) -> None:
    view = np.ascontiguousarray(photo[:, ::-1, ::-1])[:, ::-1, ::-1]
    assert not view.flags["C_CONTIGUOUS"]
    assert detector.detect(view) == detector.detect(photo) != []


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 7), (2, 40_000), (40_000, 9)])
def test_odd_shapes_give_an_answer(shape: tuple[int, int], detector: Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert detector.detect(noise) == []


def test_a_huge_image_gives_the_same_box(photo: Pixels, detector: Detector) -> None:
    canvas = np.zeros((6000, 8000, 3), np.uint8)
    canvas[:, :6000] = cv2.resize(photo, (6000, 6000), interpolation=cv2.INTER_LINEAR)
    (large,) = detector.detect(canvas)
    (small,) = detector.detect(cv2.resize(canvas, (1024, 768), interpolation=cv2.INTER_AREA))
    assert np.allclose(np.array(large.box) * 768 / 6000, small.box, atol=8)


def test_an_image_over_opencvs_limit_still_shows_its_face(
    photo: Pixels, detector: Detector
) -> None:
    canvas = np.zeros((512, 40_000, 3), np.uint8)
    canvas[:, 20_000:20_512] = photo
    assert detector.detect(canvas) == []  # the face is 1.5 pixels wide to the network
    assert thinned(canvas)[0].shape == (256, 20_000, 3)
    assert thinned(canvas)[1] == 2
    tall = np.broadcast_to(np.uint8(0), (32_000, 32_000, 3))
    assert thinned(tall)[1] == 2
    assert thinned(photo)[0].shape == photo.shape


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
    ],
    ids=["gray", "with alpha", "float", "empty"],
)
def test_what_is_no_rgb_image_is_refused(image: Any, detector: Detector) -> None:
    with pytest.raises(ImageError, match="uint8"):
        detector.detect(image)


def test_boxes_end_where_the_image_ends(photo: Pixels, detector: Detector) -> None:
    # Cut through the face at each side; what is found must lie inside.
    found = 0
    for image in [photo[:, 200:], photo[:, :245], photo[110:], photo[:150]]:
        height, width = image.shape[:2]
        for face in detector.detect(image):
            x, y, across, down = face.box
            assert x >= 0 <= y
            assert across > 0 < down
            assert x + across <= width
            assert y + down <= height
            found += 1
    assert found >= 2


def test_clamped() -> None:
    assert clamped(Box(-2, 3, 10, 4), 20, 30) == Box(0, 3, 8, 4)
    assert clamped(Box(15, 25, 10, 10), 20, 30) == Box(15, 25, 5, 5)
    assert clamped(Box(1, 2, 3, 4), 20, 30) == Box(1, 2, 3, 4)
    assert clamped(Box(20, 5, 3, 3), 20, 30) is None
    assert clamped(Box(5, -3, 3, 3), 20, 30) is None


def test_only_what_reaches_the_least_score(photo: Pixels) -> None:
    score = BlazeFaceDetector().detect(photo)[0].score
    assert BlazeFaceDetector(min_score=score - 1e-6).detect(photo)
    assert not BlazeFaceDetector(min_score=score + 1e-6).detect(photo)
    for nonsense in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingError, match="min_score"):
            BlazeFaceDetector(nonsense)
        with pytest.raises(SettingError, match="min_score"):
            open_detector("auto", min_score=nonsense)


def test_threads_get_what_one_gets(photo: Pixels, detector: Detector) -> None:
    rng = np.random.default_rng(4)
    images = [photo, *(turned(photo, rng) for _ in range(7))]
    single = [detector.detect(image) for image in images]
    assert sum(map(len, single)) >= 4
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(detector.detect, images * 4)) == single * 4


@pytest.mark.parametrize("name", ["blazeface", pytest.param("mediapipe", marks=needs_mediapipe)])
def test_closed_twice_and_then_of_no_use(name: Any, photo: Pixels) -> None:
    detector, _ = open_detector(name)
    assert isinstance(detector, Detector)
    assert detector.name == name
    assert detector.detect(photo)
    detector.close()
    detector.close()
    with pytest.raises(DetectorError, match="closed"):
        detector.detect(photo)


def run_python(program: str, *path: Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        [*map(str, path), *(entry for entry in sys.path if entry)]
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )


_READ = """
import cv2
photo = cv2.cvtColor(cv2.imread({photo!r}), cv2.COLOR_BGR2RGB)
"""
_OPEN = "from fer_sdk.detectors import open_detector\nd, _ = open_detector('mediapipe')\n"
_ENDINGS = {
    "global, opened by name": _OPEN + "print(len(d.detect(photo)))",
    "kept alive by a cycle": (
        _OPEN + "class Holder: pass\nh = Holder(); h.d = d; h.h = h; del d\n"
        "print(len(h.d.detect(photo)))"
    ),
    "mediapipe imported before": "import mediapipe\n" + _OPEN + "print(len(d.detect(photo)))",
    "in a thread that outlives the main one": (
        _OPEN + "import threading, time\n"
        "def work():\n    print(len(d.detect(photo)))\n    time.sleep(0.3)\n"
        "t = threading.Thread(target=work); t.start()\n"
        "while not t.is_alive(): pass\ntime.sleep(0.1)\n"
    ),
    "dropped": _OPEN + "print(len(d.detect(photo)))\ndel d\nimport gc; gc.collect()",
    "two of them": _OPEN + "e, _ = open_detector('auto')\nprint(len(e.detect(photo)))",
    "ended by an exit": _OPEN + "print(len(d.detect(photo)))\nraise SystemExit(0)",
}


@needs_mediapipe
@pytest.mark.parametrize("ending", list(_ENDINGS))
def test_nothing_is_left_on_stderr(ending: str, example_photo: Path) -> None:
    done = run_python(_READ.format(photo=str(example_photo)) + _ENDINGS[ending])
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@needs_mediapipe
def test_what_others_write_to_stderr_meanwhile_arrives() -> None:
    done = run_python(
        """
import os, threading
from fer_sdk.detectors.mediapipe import MediaPipeDetector

stop = threading.Event()
def write():
    number = 0
    while not stop.is_set():
        os.write(2, b"line %d\\n" % number)
        number += 1
        stop.wait(0.0005)
    print(number)
writer = threading.Thread(target=write)
writer.start()
for _ in range(3):
    MediaPipeDetector().close()
stop.set()
writer.join()
"""
    )
    assert done.returncode == 0
    assert int(done.stdout) > 3
    # All of it, though what was held back may come after what was written next, and beside a remark
    # of MediaPipe's that it tore apart.
    numbers = sorted(int(number) for number in re.findall(r"line (\d+)\n", done.stderr))
    assert numbers == list(range(int(done.stdout)))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_what_several_threads_write_to_a_held_stderr_is_not_overwritten() -> None:
    with ours._memory() as held:

        def write(name: int) -> None:
            for number in range(2000):
                os.write(held.fileno(), b"%d %d\n" % (name, number))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write, range(4)))
        held.seek(0)
        assert len(set(held.readlines())) == 8000


@needs_mediapipe
def test_opens_without_a_stderr() -> None:
    done = run_python(
        "import os\nos.close(2)\n"
        "from fer_sdk.detectors.mediapipe import MediaPipeDetector\n"
        "print(MediaPipeDetector().name)"
    )
    assert (done.returncode, done.stdout) == (0, "mediapipe\n")


@needs_mediapipe
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_told_to_open_its_own(example_photo: Path) -> None:
    done = run_python(
        _READ.format(photo=str(example_photo))
        + _OPEN
        + """
import os, sys
assert d.detect(photo)
child = os.fork()
if child == 0:
    try:
        d.detect(photo)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    d.close()
    del d
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(d.detect(photo)))
"""
    )
    assert done.returncode == 0, done.stderr
    child, parent = done.stdout.splitlines()
    assert child.startswith("DetectorError")
    assert "open one in each process" in child
    assert parent == "7 1"


class _Slow:
    """In place of a task of MediaPipe: says how many are at work at once."""

    at_work = most = closed = 0
    lock = threading.Lock()

    def detect(self, frame: object) -> SimpleNamespace:
        with self.lock:
            _Slow.at_work += 1
            _Slow.most = max(_Slow.most, _Slow.at_work)
        time.sleep(0.05)
        with self.lock:
            _Slow.at_work -= 1
        return SimpleNamespace(detections=[])

    def close(self) -> None:
        assert _Slow.at_work == 0
        _Slow.closed += 1


@needs_mediapipe
@pytest.mark.parametrize(("cores", "fails_at", "tasks"), [(3, 99, 3), (1, 99, 1), (3, 2, 2)])
def test_calls_that_meet_get_a_task_each_as_far_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, fails_at: int, tasks: int
) -> None:
    opened: list[_Slow] = []

    def open_task(min_score: float) -> tuple[_Slow, Callable[[Pixels], Pixels]]:
        if len(opened) == fails_at:
            raise RuntimeError("no more threads")
        opened.append(_Slow())
        return opened[-1], lambda image: image

    _Slow.most = _Slow.closed = 0
    monkeypatch.setattr(ours, "usable_cores", lambda: cores)
    monkeypatch.setattr(ours, "_open", open_task)
    detector = MediaPipeDetector()
    image = np.zeros((64, 64, 3), np.uint8)
    for _ in range(3):
        assert detector.detect(image) == []
    assert len(opened) == 1
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(detector.detect, [image] * 18)) == [[]] * 18
    assert (len(opened), _Slow.most) == (tasks, tasks)
    with ThreadPoolExecutor(8) as threads:
        under_way = [threads.submit(detector.detect, image) for _ in range(6)]
        while not _Slow.at_work:
            time.sleep(0.001)
        # Whoever closes it waits for those at work; those in the queue are told.
        for closing in [threads.submit(detector.close) for _ in range(2)]:
            closing.result()
            assert _Slow.closed == tasks
        told = [call.exception() for call in under_way]
    assert sum(error is None for error in told) >= 1
    assert all(error is None or "was closed" in str(error) for error in told)


@needs_mediapipe
def test_a_task_looks_at_a_picture_in_the_callers_thread(
    photo: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(MediaPipeDetector()) as detector:
        (task,) = detector._tasks
        expected = detector.detect(photo)
        assert len(expected) == 1

        def submit(*_: object) -> None:
            raise AssertionError("went to another thread")

        with monkeypatch.context() as patched:
            patched.setattr(task._lib._executor, "submit", submit)
            with ThreadPoolExecutor(1) as threads:
                assert threads.submit(detector.detect, photo).result() == expected


def test_what_fails_in_the_callers_thread_fails_at_once() -> None:
    executor = ours._AtOnce()
    assert executor.submit(max, 1, 2, key=lambda one: -one).result() == 1
    with pytest.raises(ValueError, match="invalid literal"):
        executor.submit(int, "x")


@needs_mediapipe
def test_a_release_of_mediapipe_that_is_made_otherwise_is_left_as_it_is() -> None:
    for task in (SimpleNamespace(), SimpleNamespace(_lib=SimpleNamespace())):
        before = repr(task)
        ours._run_in_the_callers_thread(task)
        assert repr(task) == before


@needs_mediapipe
def test_a_waiting_call_that_is_interrupted_leaves_its_turn_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ours, "usable_cores", lambda: 1)
    monkeypatch.setattr(ours, "_open", lambda min_score: (_Slow(), lambda image: image))
    detector = MediaPipeDetector()
    image = np.zeros((64, 64, 3), np.uint8)
    idents: list[int] = []

    def detect() -> list[Any]:
        idents.append(threading.get_ident())
        return detector.detect(image)

    def has_waiting(count: int) -> bool:
        with detector._turn:
            return len(detector._turn._waiters) == count  # type: ignore[attr-defined]

    with ThreadPoolExecutor(2) as threads, contextlib.closing(detector):
        with detector._one_task():
            calls = []
            for count in (1, 2):
                calls.append(threads.submit(detect))
                while not has_waiting(count):
                    time.sleep(0.001)
            # It reaches the first one when that is woken up, as Ctrl-C does in the main thread.
            interrupt = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(idents[0]), interrupt)
        with pytest.raises(KeyboardInterrupt):
            calls[0].result(timeout=10)
        assert calls[1].result(timeout=10) == []


@needs_mediapipe
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_while_a_task_opens_and_others_work_goes_on(example_photo: Path) -> None:
    done = run_python(
        _READ.format(photo=str(example_photo))
        + """
import os, sys, threading
from fer_sdk.detectors import mediapipe as m
d = m.MediaPipeDetector()
at_work, go = threading.Event(), threading.Event()
def work():
    with d._one_task():
        at_work.set()
        go.wait()
def open_one():
    with m._without_chatter():
        opening.set()
        go.wait()
opening = threading.Event()
threads = [threading.Thread(target=work), threading.Thread(target=open_one)]
for thread in threads:
    thread.start()
at_work.wait(); opening.wait()
child = os.fork()
if child == 0:
    d.close()
    os.write(2, b"the child's own\\n")
    own = m.MediaPipeDetector()
    found = len(own.detect(photo))
    own.close()
    sys.stdout.flush()
    os._exit(found)
go.set()
for thread in threads:
    thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(d.detect(photo)))
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 1\n", "the child's own\n")


def test_importing_detectors_loads_no_runtime() -> None:
    done = run_python(
        "import sys, fer_sdk.detectors\n"
        "print(sorted({'mediapipe', 'onnxruntime', 'cv2', 'torch'} & set(sys.modules)))"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (None, "not installed"),
        ("0.10.21", "too old"),
        ("0.10.9", "too old"),
        ("0.10.32", "opencv-contrib"),
        ("0.10.33", "opencv-contrib"),
        ("0.10.35", "logging host"),
        ("0.11.0", "logging host"),
        ("1.2.2", "logging host"),
        ("nightly", "not a release"),
    ],
)
def test_releases_that_are_not_used(version: str | None, says: str) -> None:
    reason = refusal(version)
    assert reason is not None
    assert says in reason
    assert 'detector="blazeface"' in reason
    allowed = refusal(version, allow_telemetry=True)
    assert (allowed is None) == (says == "logging host")


@pytest.mark.parametrize("version", ["0.10.30", "0.10.31", "0.10.31+local"])
def test_releases_that_are_used(version: str) -> None:
    assert refusal(version) is None


@pytest.fixture
def telltale(tmp_path: Path) -> Path:
    """A folder with a mediapipe 0.10.35 that says so when it is imported."""
    package = tmp_path / "mediapipe"
    package.mkdir()
    (package / "__init__.py").write_text("print('imported')\n")
    info = tmp_path / "mediapipe-0.10.35.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mediapipe\nVersion: 0.10.35\n")
    return tmp_path


def test_auto_does_not_touch_a_release_with_telemetry(telltale: Path) -> None:
    done = run_python(
        "from fer_sdk.detectors import open_detector\n"
        "detector, reason = open_detector('auto')\nprint(detector.name)\nprint(reason)",
        telltale,
    )
    name, reason = done.stdout.splitlines()
    assert name == "blazeface"
    assert "0.10.35" in reason
    assert done.stderr == ""


def test_naming_a_release_with_telemetry_raises_unless_it_is_allowed(telltale: Path) -> None:
    done = run_python(
        """
from fer_sdk.detectors.mediapipe import MediaPipeDetector
from fer_sdk.errors import DetectorError
for allowed in (False, True):
    try:
        MediaPipeDetector(allow_telemetry=allowed)
    except DetectorError as error:
        print(error)
""",
        telltale,
    )
    refused, imported, failed = done.stdout.splitlines()
    assert "logging host" in refused
    assert imported == "imported"
    assert "does not open" in failed


def test_auto_says_once_why_it_is_not_mediapipe(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ours, "installed_version", lambda: None)
    detectors._say_once.cache_clear()
    with caplog.at_level(logging.INFO, "fer_sdk.detectors"):
        opened = [open_detector("auto") for _ in range(2)]
    assert [detector.name for detector, _ in opened] == ["blazeface"] * 2
    assert all("not installed" in reason for _, reason in opened)
    assert len(caplog.records) == 1
    with pytest.raises(DetectorError, match="not installed"):
        open_detector("mediapipe")


@needs_mediapipe
def test_auto_is_mediapipe_where_it_can_be() -> None:
    detector, reason = open_detector("auto")
    detector.close()
    assert detector.name == "mediapipe"
    assert str(installed_version()) in reason


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    unknown: Any = "haar"
    with pytest.raises(DetectorError, match=r"'haar'.*'auto', 'mediapipe', 'blazeface'"):
        open_detector(unknown)


def test_detections_come_with_the_highest_score_first(
    photo: Pixels, blazeface: BlazeFaceDetector
) -> None:
    image = np.hstack([photo[:300, 100:360], photo[:300, 360:90:-1]])
    scores = [face.score for face in blazeface.detect(image)]
    assert len(scores) == 2
    assert all(first >= second for first, second in pairwise(scores))
