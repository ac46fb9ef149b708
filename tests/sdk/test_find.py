"""What detection as a whole finds: faces of every size, tilt and number, and none where is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import scenes
from fer_sdk import Box, Face, FerPipeline
from fer_sdk.detectors import Detection
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.detectors.combined import NEAR_MIN_SCORE, CombinedDetector
from fer_sdk.detectors.mediapipe import MediaPipeDetector, installed_version, refusal
from fer_sdk.detectors.yunet import YuNetDetector
from fer_sdk.image.load import load_image

if TYPE_CHECKING:
    from fer_training.data.faces import FaceSet

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 1280, 720

needs_mediapipe = pytest.mark.skipif(
    refusal(installed_version()) is not None, reason="needs a mediapipe that is used here"
)


def _with_blazeface() -> CombinedDetector:
    return CombinedDetector(BlazeFaceDetector(NEAR_MIN_SCORE), YuNetDetector())


@pytest.fixture(scope="module")
def blazeface() -> CombinedDetector:
    return _with_blazeface()


@pytest.fixture(scope="module")
def mediapipe() -> Iterator[CombinedDetector]:
    detector = CombinedDetector(MediaPipeDetector(NEAR_MIN_SCORE), YuNetDetector())
    yield detector
    detector.close()


@pytest.fixture(params=["blazeface", pytest.param("mediapipe", marks=needs_mediapipe)])
def auto(request: pytest.FixtureRequest) -> CombinedDetector:
    found: CombinedDetector = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def pipeline() -> Iterator[FerPipeline]:
    with FerPipeline(detector=_with_blazeface(), device="cpu") as opened:
        yield opened


def _one(x: float, y: float, side: float, degrees: float = 0.0) -> tuple[Pixels, Box]:
    scene = scenes.placed(scenes.ground(WIDTH, HEIGHT), [(x, y, side, degrees)])
    return scene, Box(x - side / 2, y - side / 2, side, side)


# One face


@pytest.mark.parametrize(
    ("part", "most"),
    [(2, 1), (3, 1), (5, 1), (8, 4), (12, 4), (16, 4), (20, 4), (25, 16), (30, 16), (40, 16)],
)
def test_a_face_of_every_size_is_found_once_and_where_it_is(
    part: int, most: int, auto: CombinedDetector
) -> None:
    """At no more than the cost that its size needs."""
    for x, y in ((640, 360), (433, 300), (900, 450)):
        scene, box = _one(x, y, WIDTH / part)
        faces, took = auto.look(scene)
        assert len(faces) == 1
        assert scenes.overlap(box, faces[0].box) > 0.6
        assert abs(faces[0].roll or 0.0) < 10
        assert took <= most


@pytest.mark.parametrize("degrees", range(-180, 180, 30))
def test_a_face_at_every_tilt_is_found_once(degrees: int, auto: CombinedDetector) -> None:
    scene, box = _one(640, 360, 200, degrees)
    (face,) = auto.detect(scene)
    assert scenes.overlap(box, face.box) > 0.5


@pytest.mark.parametrize(
    "degrees",
    [15, -15, 30, -30, 45, -45, 60, -60, 75, -75, 90, -90, 105, 135, -150, 180],
)
def test_a_tilted_face_is_read_as_the_upright_one(degrees: int, pipeline: FerPipeline) -> None:
    def read(by: float) -> Face:
        (face,) = pipeline.predict(_one(640, 360, 200, by)[0], color="rgb")
        return face

    upright, tilted = read(0.0), read(degrees)
    back = scenes.upright(tilted.landmarks, degrees, 640, 360)
    there = scenes.upright(upright.landmarks, 0.0, 640, 360)
    # About a tenth of the face: the landmarks model was trained on faces tilted up to 30 degrees.
    np.testing.assert_allclose(back, there, atol=0.11 * 200)
    for emotion, score in upright.scores.items():
        assert tilted.scores[emotion] == pytest.approx(score, abs=0.05)


@pytest.mark.parametrize("level", [0.5, 0.2, 0.1])
def test_a_dark_face_is_found(level: float, auto: CombinedDetector) -> None:
    scene, box = _one(640, 360, 200)
    (face,) = auto.detect(np.asarray(scene * level, np.uint8))
    assert scenes.overlap(box, face.box) > 0.7


@pytest.mark.parametrize("side", [32, 48, 64, 100, 256, 500])
def test_a_tight_crop_is_a_face(side: int, auto: CombinedDetector) -> None:
    (face,) = auto.detect(scenes.tight(side))
    x, y, width, height = face.box
    assert 0 <= x <= x + width <= side
    assert 0 <= y <= y + height <= side
    assert min(width, height) > 0.7 * side


def test_a_tight_crop_has_its_landmarks_where_they_are(pipeline: FerPipeline) -> None:
    (face,) = pipeline.predict(scenes.tight(48), color="rgb")
    (left, right), (left_lip, right_lip) = face.landmarks[:2], face.landmarks[2:]
    assert 0 < left.x < 24 < right.x < 48
    assert 0 < left_lip.x < 24 < right_lip.x < 48
    assert max(left.y, right.y) + 8 < min(left_lip.y, right_lip.y) < 48


# Many faces


@pytest.mark.parametrize(
    ("columns", "rows", "cell", "cost"),
    [(4, 3, 160, 1), (8, 8, 160, 4), (8, 8, 60, 4), (16, 9, 80, 16)],
)
def test_each_face_of_a_crowd_is_found_once(
    columns: int, rows: int, cell: int, cost: int, auto: CombinedDetector
) -> None:
    crowd, boxes = scenes.crowd(columns, rows, cell)
    faces, took = auto.look(crowd)
    assert len(faces) == len(boxes)
    assert len(scenes.matched(boxes, [face.box for face in faces], 0.5)) == len(boxes)
    assert took == cost


def test_a_near_face_does_not_hide_the_far_ones(auto: CombinedDetector) -> None:
    faces = [(380.0, 360.0, 300.0, 0.0), (800.0, 300.0, 90.0, 0.0), (1050.0, 500.0, 60.0, 0.0)]
    scene = scenes.placed(scenes.ground(WIDTH, HEIGHT), faces)
    found = [face.box for face in auto.detect(scene)]
    boxes = [Box(x - side / 2, y - side / 2, side, side) for x, y, side, _ in faces]
    assert len(found) == len(scenes.matched(boxes, found, 0.5)) == 3


# No face


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((48, 48, 3), np.uint8),
        np.full((1, 1, 3), 200, np.uint8),
        np.full((256, 256, 3), 255, np.uint8),
        scenes.ground(WIDTH, HEIGHT),
        np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8),
        np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8),
        np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2),
    ],
    ids=["black", "one pixel", "white", "even ground", "noise", "much noise", "slope"],
)
def test_what_shows_no_face_gives_none(image: Pixels, auto: CombinedDetector) -> None:
    assert auto.detect(image) == []


@pytest.mark.parametrize("side", [96, 300, 640])
def test_clouds_are_no_faces(side: int, blazeface: CombinedDetector) -> None:
    """BlazeFace alone sees faces in some of them."""
    rng = np.random.default_rng(7)
    alone = BlazeFaceDetector()
    pictures = [scenes.clouds(rng, side) for _ in range(40)]
    assert sum(bool(alone.detect(picture)) for picture in pictures) >= 2
    # Of small pictures, which may be the crop of a face, one in fifty gives one.
    allowed = 1 if side == 96 else 0
    assert sum(bool(blazeface.detect(picture)) for picture in pictures) <= allowed


# Both forms of it, and its parts


@needs_mediapipe
def test_both_forms_agree(blazeface: CombinedDetector, mediapipe: CombinedDetector) -> None:
    assert (blazeface.name, mediapipe.name) == ("yunet+blazeface", "yunet+mediapipe")
    pictures = [scenes.tight(24), scenes.tight(64), scenes.crowd(4, 3, 100)[0]]
    for side, degrees in ((30, 0), (80, 40), (200, 130), (300, -90), (500, 180)):
        scene, _ = _one(640, 360, side, degrees)
        pictures += [scene, np.asarray(scene * 0.1, np.uint8)]
    for picture in pictures:
        one = [face.box for face in blazeface.detect(picture)]
        other = [face.box for face in mediapipe.detect(picture)]
        assert len(one) == len(other) == len(scenes.matched(one, other, 0.7))


class _Told:
    """In place of BlazeFace: gives what it is told to."""

    name = "told"

    def __init__(self, *found: Detection) -> None:
        self.found = found
        self.asked = self.closed = 0

    def detect(self, image: Pixels) -> list[Detection]:
        self.asked += 1
        return list(self.found)

    def close(self) -> None:
        self.closed += 1


def test_blazeface_is_asked_only_where_yunet_finds_nothing_or_is_in_doubt() -> None:
    scene, _ = _one(640, 360, 300)
    told = _Told()
    detector = CombinedDetector(told, YuNetDetector())
    assert len(detector.detect(scene)) == 1
    assert told.asked == 0
    assert detector.detect(scenes.ground(WIDTH, HEIGHT)) == []
    assert told.asked == 1


def test_a_face_that_only_blazeface_sees_needs_a_second_opinion() -> None:
    nothing = scenes.ground(WIDTH, HEIGHT)
    unsure = Detection(Box(500.0, 300.0, 200.0, 200.0), 0.5, 0.0)
    assert CombinedDetector(_Told(unsure), YuNetDetector()).detect(nothing) == []


def test_the_least_score_leaves_faces_out() -> None:
    scene, _ = _one(640, 360, 300)
    (face,) = _with_blazeface().detect(scene)
    for least, count in ((face.score - 0.01, 1), (face.score + 0.01, 0)):
        detector = CombinedDetector(_Told(), YuNetDetector(), min_score=least)
        assert len(detector.detect(scene)) == count


def test_closing_it_closes_both() -> None:
    told, yunet = _Told(), YuNetDetector()
    CombinedDetector(told, yunet).close()
    assert told.closed == 1
    with pytest.raises(Exception, match="closed"):
        yunet.detect(np.zeros((9, 9, 3), np.uint8))


# On data


@pytest.mark.data
def test_almost_every_face_of_48_pixels_is_found(
    fer2013: FaceSet, blazeface: CombinedDetector
) -> None:
    """As it is, and in the middle of its own mean gray, three times as wide."""
    images = fer2013.images[fer2013.splits == "PublicTest"][::3]
    # A few pictures of FER2013 are of one gray.
    images = images[images.std(axis=(1, 2)) > 5]
    alone = canvas = 0
    for gray in images:
        alone += bool(blazeface.detect(np.repeat(gray[..., None], 3, axis=2)))
        level = [round(float(gray.mean()))]
        wide = cv2.copyMakeBorder(gray, 48, 48, 48, 48, cv2.BORDER_CONSTANT, value=level)
        canvas += bool(blazeface.detect(np.repeat(np.asarray(wide)[..., None], 3, axis=2)))
    assert alone >= 0.99 * len(images)
    assert canvas >= 0.99 * len(images)


def _annotated(folder: Path) -> Iterator[tuple[Path, list[Box], list[Box]]]:
    """Each photo, the faces to be found, and those that may be: in WIDER FACE's format."""
    lines = iter((folder / "bbx_gt.txt").read_text(encoding="utf-8").splitlines())
    for name in lines:
        rows = [list(map(float, next(lines).split())) for _ in range(max(int(next(lines)), 1))]
        rows = [row for row in rows if row[2] > 0]
        wanted, others = (
            [Box(*row[:4]) for row in rows if bool(row[7]) is invalid] for invalid in (False, True)
        )
        yield folder / "images" / name, wanted, others


@pytest.mark.photos
def test_the_faces_of_annotated_photos_are_found(photos: Path, blazeface: CombinedDetector) -> None:
    faces = hits = false = pictures = 0
    without: list[str] = []
    for path, wanted, others in _annotated(photos):
        found = [face.box for face in blazeface.detect(load_image(path))]
        here = scenes.matched(wanted, found, 0.35)
        pictures += 1
        faces += len(wanted)
        hits += len(here)
        if wanted and not here:
            without.append(path.name)
        false += sum(
            all(scenes.overlap(box, one) < 0.35 for one in wanted + others) for box in found
        )
    assert pictures >= 100
    assert hits >= 0.96 * faces
    assert without == []
    assert false <= 0.03 * pictures
