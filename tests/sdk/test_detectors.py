"""The detectors and how they are opened; BlazeFace against MediaPipe's own task."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from fer_sdk import detectors
from fer_sdk.detectors import Detection, Detector, open_detector
from fer_sdk.detectors import mediapipe as ours
from fer_sdk.detectors.base import thinned
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.detectors.boxes import clamped
from fer_sdk.detectors.mediapipe import MediaPipeDetector, installed_version, refusal
from fer_sdk.detectors.yunet import YuNetDetector
from fer_sdk.errors import DetectorError, ImageError, SettingError
from fer_sdk.types import Box

if TYPE_CHECKING:
    from fer_training.data.faces import FaceSet

Pixels = npt.NDArray[np.uint8]

MODELS = Path(ours.__file__).parents[1] / "models" / "files"
TFLITE = MODELS / "face_detection_short_range.tflite"

needs_mediapipe = pytest.mark.skipif(
    refusal(installed_version()) is not None,
    reason="needs a mediapipe that is used here (0.10.30 or 0.10.31)",
)

# MediaPipe cuts its boxes down to whole pixels, so what is exact lies in [0, 1) above them. The
# rest is float32 arithmetic on pictures of up to 2,000 pixels.
_FLOAT32 = 0.01
# Degrees; the eyes of the smallest faces here are 5 pixels apart.
_ROLL = 0.1


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


@pytest.fixture(scope="module")
def yunet() -> YuNetDetector:
    return YuNetDetector()


@pytest.fixture(scope="module")
def auto() -> Iterator[Detector]:
    detector, _ = open_detector("auto")
    yield detector
    detector.close()


@pytest.fixture(
    params=["blazeface", pytest.param("mediapipe", marks=needs_mediapipe), "yunet", "auto"]
)
def detector(request: pytest.FixtureRequest) -> Detector:
    found: Detector = request.getfixturevalue(request.param)
    return found


def run_task(task: Any, image: Pixels) -> list[tuple[tuple[int, int, int, int], float, float]]:
    """Box, score and roll of each face, as MediaPipe has them."""
    import mediapipe

    frame = mediapipe.Image(
        image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
    )
    height, width = image.shape[:2]
    faces = []
    for face in task.detect(frame).detections:
        box = face.bounding_box
        left, right = face.keypoints[:2]
        across, down = (right.x - left.x) * width, (right.y - left.y) * height
        faces.append(
            (
                (box.origin_x, box.origin_y, box.width, box.height),
                face.categories[0].score,
                float(np.degrees(np.arctan2(down, across))),
            )
        )
    return faces


def assert_parity(found: list[Detection], expected: Any, width: int, height: int) -> int:
    """The same faces in the same order; returns how many boxes lay inside and were compared."""
    assert len(found) == len(expected)
    compared = 0
    for face, (box, score, roll) in zip(found, expected, strict=True):
        assert face.score == pytest.approx(score, abs=1e-5)
        assert face.roll == pytest.approx(roll, abs=_ROLL)
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
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceDetectorOptions(
        base_options=BaseOptions(model_asset_path=str(TFLITE)), min_detection_confidence=0.05
    )
    image = np.hstack([photo, photo[:, ::-1], photo])
    with vision.FaceDetector.create_from_options(options) as low:
        expected = run_task(low, image)
    found = BlazeFaceDetector(min_score=0.05).detect(image)
    assert len(found) > len(run_task(task, image))
    assert assert_parity(found, expected, image.shape[1], image.shape[0]) >= 3


@needs_mediapipe
@pytest.mark.data
def test_blazeface_is_mediapipe_on_fer2013(
    fer2013: FaceSet, blazeface: BlazeFaceDetector, task: Any
) -> None:
    faces = fer2013.images[:200]
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
        assert [face.score for face in found] == [score for _, score, _ in expected]
        for face, (box, _, roll) in zip(found, expected, strict=True):
            half_up = Box(*(value + 0.5 for value in box))
            assert face.box == clamped(half_up, width, height)
            assert face.roll == pytest.approx(roll, abs=1e-3)
            compared += 1
    assert compared > 5


def test_finds_the_face_of_the_photo(photo: Pixels, detector: Detector) -> None:
    (face,) = detector.detect(photo)
    # The astronaut's eyes and mouth, read off the photo.
    for x, y in [(203, 101), (246, 103), (224, 141)]:
        assert face.box.x < x < face.box.x + face.box.width
        assert face.box.y < y < face.box.y + face.box.height
    assert 80 < face.box.width < 120
    assert 0.8 < face.score <= 1
    # The line between those eyes.
    assert face.roll == pytest.approx(np.degrees(np.arctan2(2, 43)), abs=5)


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


@pytest.mark.parametrize(
    "name", ["blazeface", pytest.param("mediapipe", marks=needs_mediapipe), "yunet", "auto"]
)
def test_closed_twice_and_then_of_no_use(name: Any, photo: Pixels) -> None:
    detector, _ = open_detector(name)
    assert isinstance(detector, Detector)
    assert name in (detector.name, "auto")
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
    """In place of a task of MediaPipe, which takes no two calls at once."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.at_work = self.closed = 0

    def detect(self, frame: object) -> SimpleNamespace:
        self.at_work += 1
        assert self.at_work == 1
        self.entered.set()
        assert self.go.wait(30)
        self.at_work -= 1
        return SimpleNamespace(detections=[])

    def close(self) -> None:
        assert self.at_work == 0
        self.closed += 1


@needs_mediapipe
def test_calls_take_turns_and_closing_waits_for_the_one_that_is_at_work() -> None:
    detector, slow = MediaPipeDetector(), _Slow()
    detector._task.close()
    detector._task = slow
    image = np.zeros((64, 64, 3), np.uint8)
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(detector.detect, image) for _ in range(6)]
        assert slow.entered.wait(30)
        closing = [threads.submit(detector.close) for _ in range(2)]
        with pytest.raises(TimeoutError):
            closing[0].result(0.1)
        slow.go.set()
        for one in closing:
            one.result(30)
        told = [call.exception(30) for call in calls]
    assert slow.closed == 1
    assert sum(error is None for error in told) >= 1
    assert all(error is None or "was closed" in str(error) for error in told)


@needs_mediapipe
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_while_a_task_is_at_work_goes_on(example_photo: Path) -> None:
    done = run_python(
        _READ.format(photo=str(example_photo))
        + _OPEN
        + """
import os, sys, threading
from fer_sdk.detectors.mediapipe import MediaPipeDetector
at_work, go = threading.Event(), threading.Event()
def work():
    with d._turn:
        at_work.set()
        go.wait()
thread = threading.Thread(target=work)
thread.start()
at_work.wait()
child = os.fork()
if child == 0:
    d.close()
    os.write(2, b"the child's own\\n")
    own = MediaPipeDetector()
    found = len(own.detect(photo))
    own.close()
    sys.stdout.flush()
    os._exit(found)
go.set()
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
    assert name == "yunet+blazeface"
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
    assert [detector.name for detector, _ in opened] == ["yunet+blazeface"] * 2
    assert all("not installed" in reason for _, reason in opened)
    assert len(caplog.records) == 1
    with pytest.raises(DetectorError, match="not installed"):
        open_detector("mediapipe")


@needs_mediapipe
def test_auto_takes_mediapipe_where_it_can() -> None:
    detector, reason = open_detector("auto")
    detector.close()
    assert detector.name == "yunet+mediapipe"
    assert str(installed_version()) in reason


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    unknown: Any = "haar"
    with pytest.raises(DetectorError, match=r"'haar'.*'auto', 'mediapipe', 'blazeface', 'yunet'"):
        open_detector(unknown)


def test_detections_come_with_the_highest_score_first(
    photo: Pixels, blazeface: BlazeFaceDetector
) -> None:
    image = np.hstack([photo[:300, 100:360], photo[:300, 360:90:-1]])
    scores = [face.score for face in blazeface.detect(image)]
    assert len(scores) == 2
    assert all(first >= second for first, second in pairwise(scores))
