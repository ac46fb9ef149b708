"""The second look at small pictures, and tiles: which faces they find, and where they find none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fer_sdk.detectors.confirmed import SURE, ConfirmedDetector
from fer_sdk.detectors.tiled import TiledDetector
from fer_sdk.second_look import LARGEST_SIDE, SecondLook

import tiny_models
from fer_bench.quality.detection import on_canvas
from fer_bench.quality.detection_scenes import Cutout, cropped, grid, place
from fer_bench.quality.detection_scenes import found as matched
from fer_bench.quality.scenes import compose
from fer_sdk import FerPipeline
from fer_sdk.detectors import Detection
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.errors import SettingError
from fer_sdk.image.crop import Square
from fer_sdk.image.load import load_image
from fer_sdk.models.landmarks import LandmarksModel
from fer_sdk.models.packaged import read_bundled
from fer_sdk.models.session import Session
from fer_sdk.types import Box
from fer_training.faces import FaceSet

Pixels = npt.NDArray[np.uint8]

PORTRAIT = Path(__file__).parents[2] / "benchmarks/fer_bench/assets/portrait.jpg"


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    return load_image(PORTRAIT)


@pytest.fixture(scope="module")
def landmarks() -> LandmarksModel:
    return LandmarksModel(
        read_bundled("landmarks.int8.onnx"), source="bundled", device="cpu", threads=1
    )


@pytest.fixture(scope="module")
def pipeline() -> Iterator[FerPipeline]:
    with FerPipeline(detector="blazeface", device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_models.write_models(tmp_path_factory.mktemp("models"))


@dataclass
class Counting:
    """A detector that finds nothing, or what it is told to, and counts how often it is asked."""

    found: list[Detection] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    closed: int = 0
    name: str = "counting"

    def detect(self, image: Pixels) -> list[Detection]:
        self.sizes.append(image.shape[:2])
        return list(self.found)

    def close(self) -> None:
        self.closed += 1


def _tight(portrait: Pixels, side: int = 48) -> Pixels:
    """Only eyes, nose and mouth: too little for the detector."""
    part = portrait[28:-28, 28:-28]
    return np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize("side", [48, 64, 120, 256])
def test_a_crop_that_is_too_tight_is_found_at_the_second_look(
    portrait: Pixels, pipeline: FerPipeline, side: int
) -> None:
    crop = _tight(portrait, side)
    assert BlazeFaceDetector().detect(crop) == []
    (face,) = pipeline.predict(crop, color="rgb")
    # What is found in the picture with its margin lies where it is in the picture itself.
    x, y, width, height = face.box
    assert 0 <= x <= x + width <= side
    assert 0 <= y <= y + height <= side
    assert min(width, height) > 0.6 * side
    assert face.detection_score is None or face.detection_score >= 0.5
    (left, right), (left_lip, right_lip) = face.landmarks[:2], face.landmarks[2:]
    assert left.x < right.x
    assert left_lip.x < right_lip.x
    assert max(left.y, right.y) < min(left_lip.y, right_lip.y)


def test_it_can_be_turned_off_and_ends_with_the_size(
    portrait: Pixels, models: tuple[Path, Path], pipeline: FerPipeline
) -> None:
    with FerPipeline(
        detector="blazeface", face_crops=False, emotion_model=models[0], landmarks_model=models[1]
    ) as without:
        assert without.predict(_tight(portrait), color="rgb") == []
    assert pipeline.predict(_tight(portrait, LARGEST_SIDE + 1), color="rgb") == []


@pytest.mark.parametrize(
    ("height", "width", "applies"),
    [(48, 48, True), (1, 1, True), (256, 256, True), (200, 256, True), (48, 72, True),
     (48, 73, False), (257, 257, False), (300, 100, False)],
)  # fmt: skip
def test_which_pictures_are_looked_at_again(height: int, width: int, applies: bool) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    assert SecondLook.applies(image) is applies


def test_where_the_first_look_finds_a_face_there_is_no_second(
    portrait: Pixels, pipeline: FerPipeline
) -> None:
    class Failing:
        applies = staticmethod(SecondLook.applies)

        def look(self, image: Pixels, landmarks: LandmarksModel) -> None:
            raise AssertionError("a second look")

    watched = pipeline.with_parts(pipeline.parts._replace(again=Failing()))  # type: ignore[arg-type]
    (face,) = watched.predict(portrait, color="rgb")
    assert face.detection_score is not None
    assert face.detection_score > 0.9
    with pytest.raises(AssertionError, match="a second look"):
        watched.predict(_tight(portrait), color="rgb")


def test_a_detector_of_the_callers_own_has_the_last_word(
    portrait: Pixels, models: tuple[Path, Path]
) -> None:
    detector = Counting()
    with FerPipeline(
        detector=detector, emotion_model=models[0], landmarks_model=models[1]
    ) as opened:
        assert opened.predict(_tight(portrait), color="rgb") == []
    assert len(detector.sizes) == 1
    assert detector.closed == 0


def _found_again(second: SecondLook, image: Pixels, landmarks: LandmarksModel) -> bool:
    return second.look(image, landmarks) is not None


def test_the_landmarks_tell_clouds_from_faces(portrait: Pixels, landmarks: LandmarksModel) -> None:
    """What a margin alone makes a face of, and what it is with both witnesses."""
    rng = np.random.default_rng(0)
    margin_alone, both = 0, 0
    detector, second = BlazeFaceDetector(), SecondLook(0.5)
    for _ in range(60):
        noise = cv2.GaussianBlur(
            rng.integers(0, 256, (96, 96, 3), np.uint8), (0, 0), float(rng.uniform(6, 16))
        )
        clouds = np.asarray(cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
        if detector.detect(clouds):
            continue
        gray = round(float(cv2.cvtColor(clouds, cv2.COLOR_RGB2GRAY).mean()))
        padded = cv2.copyMakeBorder(clouds, 48, 48, 48, 48, cv2.BORDER_CONSTANT, value=[gray] * 3)
        margin_alone += bool(detector.detect(np.asarray(padded, np.uint8)))
        both += _found_again(second, clouds, landmarks)
    assert margin_alone >= 12
    assert both <= margin_alone / 2
    for side in (48, 100, 200):
        assert _found_again(second, _tight(portrait, side), landmarks)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((48, 48, 3), np.uint8),
        np.full((1, 1, 3), 200, np.uint8),
        np.full((256, 256, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8),
        np.random.default_rng(1).integers(0, 256, (130, 100, 3), np.uint8),
        np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2),
    ],
    ids=["black", "one pixel", "white", "noise", "tall noise", "slope"],
)
def test_a_small_picture_without_a_face_gives_none(pipeline: FerPipeline, image: Pixels) -> None:
    assert pipeline.predict(image) == []


def test_a_face_below_the_least_score_is_the_whole_picture(
    portrait: Pixels, landmarks: LandmarksModel
) -> None:
    crop = _tight(portrait, 60)[:, 4:-4]
    sure = SecondLook(0.5).look(crop, landmarks)
    assert isinstance(sure, Detection)
    # The same picture, asked for more than the detector says.
    assert SecondLook(min(sure.score + 0.02, 1.0)).look(crop, landmarks) == Square(0, 4, 52)


def test_a_stricter_least_score_asks_more_of_the_whole_picture(
    portrait: Pixels, landmarks: LandmarksModel
) -> None:
    blurred = np.asarray(cv2.GaussianBlur(_tight(portrait, 48), (0, 0), 3.8), np.uint8)
    # More than the detector says, so that it rests on the landmarks.
    assert SecondLook(0.75).look(blurred, landmarks) == Square(0, 0, 48)
    assert SecondLook(1.0).look(blurred, landmarks) is None


@pytest.mark.data
def test_almost_every_small_face_gets_an_answer(fer2013: FaceSet, pipeline: FerPipeline) -> None:
    """On every 12th face of PublicTest; `fer-bench detection` takes all of them."""
    images = fer2013.images[fer2013.splits == "PublicTest"][::12]
    found = pipeline.predict_batch(list(images), max_faces=1, on_error="raise")
    without = pipeline.with_parts(pipeline.parts._replace(again=None))
    first = without.predict_batch(list(images), max_faces=1, on_error="raise")
    assert sum(map(bool, found)) / len(images) >= 0.99
    assert sum(map(bool, first)) / len(images) < 0.98
    # What the first look finds is left alone.
    for one, other in zip(first, found, strict=True):
        if one:
            assert one[0].box == other[0].box


# Faces in doubt


def _scene(portrait: Pixels, side: int = 200) -> tuple[Pixels, Box]:
    """A face on even ground, and its box."""
    scene = np.full((400, 500, 3), (120, 110, 100), np.uint8)
    scene[100 : 100 + side, 150 : 150 + side] = cv2.resize(portrait, (side, side))
    (found,) = BlazeFaceDetector().detect(scene)
    return scene, found.box


def _clouds(rng: np.random.Generator, side: int = 300) -> Pixels:
    noise = rng.integers(0, 256, (side, side, 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(6, 24)))
    return np.asarray(cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


@pytest.mark.parametrize("score", [0.3, 0.5, SURE - 0.01, SURE, 0.9])
def test_a_face_in_doubt_stays_where_it_is_one(
    portrait: Pixels, landmarks: LandmarksModel, score: float
) -> None:
    scene, box = _scene(portrait)
    face, nothing = Detection(box, score), Detection(Box(20.0, 20.0, 90.0, 90.0), score)
    found = ConfirmedDetector(Counting([face, nothing]), landmarks).detect(scene)
    assert found == ([face, nothing] if score >= SURE else [face])


def test_a_face_elsewhere_in_the_picture_confirms_nothing(
    portrait: Pixels, landmarks: LandmarksModel
) -> None:
    scene, box = _scene(portrait)
    beside = Detection(Box(box.x + box.width, box.y, box.width, box.height), 0.6)
    assert ConfirmedDetector(Counting([beside]), landmarks).detect(scene) == []


def test_a_crowd_in_doubt_is_looked_at_four_at_a_time(
    portrait: Pixels, landmarks: LandmarksModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faces stay and what is none goes, for far fewer runs than one each."""
    runs = []
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda one, array: runs.append(one) or run(one, array))
    crowd = compose(portrait, 640, 480, 12, "portrait").rgb
    doubted = [Detection(one.box, 0.6) for one in BlazeFaceDetector().detect(crowd)]
    assert len(doubted) == 12
    # In the gaps between the portraits: gray ground and the edges of two of them.
    nothing = [Detection(Box(one.box.x + 90.0, one.box.y, 20.0, 20.0), 0.6) for one in doubted[:2]]
    opened = ConfirmedDetector(Counting(doubted + nothing), landmarks)
    runs.clear()
    assert opened.detect(crowd) == doubted
    # Four pictures of four, and the two that nobody was sure of in there.
    assert len(runs) <= 4 + 2 * 2


@pytest.mark.parametrize("cut", [0, 20, 40])
def test_a_face_in_doubt_at_the_edge_of_the_picture_stays(
    portrait: Pixels, landmarks: LandmarksModel, cut: int
) -> None:
    scene, box = _scene(portrait)
    part = np.ascontiguousarray(scene[:, round(box.x) + cut :])
    face = Detection(Box(0.0, box.y, box.width - cut, box.height), 0.55)
    assert ConfirmedDetector(Counting([face]), landmarks).detect(part) == [face]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3000), (40, 40_000)])
def test_doubt_is_for_pictures_of_any_size(
    landmarks: LandmarksModel, height: int, width: int
) -> None:
    picture = np.full((height, width, 3), 90, np.uint8)
    whole = Detection(Box(0.0, 0.0, float(width), float(height)), 0.5)
    assert ConfirmedDetector(Counting([whole]), landmarks).detect(picture) == []


def test_clouds_pass_for_faces_less_often(pipeline: FerPipeline) -> None:
    """Both looks together find less in them than the detector's first look alone."""
    rng = np.random.default_rng(7)
    alone = BlazeFaceDetector()
    raw = seen = 0
    for _ in range(150):
        clouds = _clouds(rng)
        found = alone.detect(clouds)
        raw += bool(found)
        seen += bool(pipeline.predict(clouds, color="rgb"))
    assert raw >= 12
    assert seen <= raw / 3


def test_only_a_detector_by_name_below_the_sure_score_is_doubted(
    models: tuple[Path, Path],
) -> None:
    settings = {"emotion_model": models[0], "landmarks_model": models[1], "threads": 1}
    for detector, score, doubted in (
        ("blazeface", 0.5, True),
        ("blazeface", SURE, False),
        (Counting(), 0.5, False),
    ):
        with FerPipeline(detector=detector, min_detection_score=score, **settings) as opened:  # type: ignore[arg-type]
            assert isinstance(opened.parts.detector, ConfirmedDetector) is doubted
            assert opened.info.detector in ("blazeface", "counting")


def test_closing_it_closes_what_looks_first(landmarks: LandmarksModel) -> None:
    first = Counting()
    ConfirmedDetector(first, landmarks).close()
    assert first.closed == 1


@pytest.mark.data
def test_almost_no_face_is_lost_to_doubt(fer2013: FaceSet, pipeline: FerPipeline) -> None:
    """On every 6th face of PublicTest on a canvas; of crops there is the second look besides."""
    images = fer2013.images[fer2013.splits == "PublicTest"][::6]
    alone, confirmed = BlazeFaceDetector(), pipeline.parts.detector
    assert confirmed is not None
    raw = kept = 0
    for gray in images:
        rgb = np.repeat(on_canvas(gray)[..., None], 3, axis=2)
        raw += bool(alone.detect(rgb))
        kept += bool(confirmed.detect(rgb))
    assert raw >= 0.98 * len(images)
    assert kept >= raw - 0.003 * len(images)


# Tiles


@pytest.fixture(scope="module")
def face(portrait: Pixels) -> Cutout:
    side = portrait.shape[0]
    across = side / 1.35
    return Cutout(portrait, Box((side - across) / 2, (side - across) / 2, across, across))


GROUND = np.full((600, 800, 3), (120, 110, 100), np.uint8)


@pytest.mark.parametrize("place_of_face", [(100, 100), (400, 300), (457, 343), (700, 520)])
def test_tiles_find_small_faces_once_and_where_they_are(
    face: Cutout, place_of_face: tuple[float, float]
) -> None:
    scene = place(GROUND, [(face, *place_of_face, 50.0, 0.0)])
    whole = BlazeFaceDetector()
    assert matched(scene.boxes, [one.box for one in whole.detect(scene.rgb)])[0] == 0
    found = TiledDetector(whole, 4).detect(scene.rgb)
    assert matched(scene.boxes, [one.box for one in found], least=0.5) == (1, 0)


def test_large_faces_are_found_as_without_tiles(face: Cutout) -> None:
    scene = place(GROUND, [(face, 400.0, 300.0, 380.0, 0.0)])
    whole = BlazeFaceDetector()
    (alone,) = whole.detect(scene.rgb)
    found = TiledDetector(whole, 4).detect(scene.rgb)
    assert matched([alone.box], [one.box for one in found], least=0.7) == (1, 0)


def test_each_face_of_a_crowd_is_found_once(face: Cutout) -> None:
    middles, cell = grid(24, 1280, 720)
    ground = cropped(GROUND, 1280, 720)
    scene = place(ground, [(face, x, y, 0.55 * cell, 0.0) for x, y in middles])
    whole = BlazeFaceDetector()
    found = TiledDetector(whole, 3).detect(scene.rgb)
    assert matched(scene.boxes, [one.box for one in found]) == (24, 0)
    assert matched(scene.boxes, [one.box for one in whole.detect(scene.rgb)])[0] < 12
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080), (700, 700), (200, 3000)])
@pytest.mark.parametrize("tiles", [2, 3, 5])
def test_tiles_cover_the_picture_and_overlap(height: int, width: int, tiles: int) -> None:
    """Every square of a quarter of a tile lies in one tile at least."""
    # A picture whose pixels tell where they are.
    y, x = np.mgrid[:height, :width]
    numbered = np.stack([y % 256, x % 256, y // 256 * 16 + x // 256], axis=-1).astype(np.uint8)
    seen: list[tuple[int, int, int, int]] = []

    class Looking(Counting):
        def detect(self, image: Pixels) -> list[Detection]:
            low_y, low_x, high = (int(value) for value in image[0, 0])
            top, left = low_y + 256 * (high // 16), low_x + 256 * (high % 16)
            seen.append((top, left, top + image.shape[0], left + image.shape[1]))
            return []

    TiledDetector(Looking(), tiles).detect(numbered)
    assert seen[0] == (0, 0, height, width)
    parts = seen[1:]
    side = max(parts[0][2:])
    assert side == pytest.approx(max(height, width) / (tiles - (tiles - 1) / 4), abs=1)
    reach = side // 4 - 1
    for top in range(0, height - reach, 20):
        for left in range(0, width - reach, 20):
            inside = [
                part[0] <= top and part[1] <= left
                and top + reach <= part[2] and left + reach <= part[3]
                for part in parts
            ]  # fmt: skip
            assert any(inside), (top, left)
    assert len(set(parts)) == len(parts)


def test_no_tile_is_smaller_than_what_the_network_sees() -> None:
    detector = Counting()
    TiledDetector(detector, 50).detect(np.zeros((300, 400, 3), np.uint8))
    assert min(min(size) for size in detector.sizes) == 128
    detector.sizes.clear()
    TiledDetector(detector, 4).detect(np.zeros((128, 100, 3), np.uint8))
    assert detector.sizes == [(128, 100)]


def test_a_face_that_an_edge_cuts_gives_way_to_the_whole_one() -> None:
    """Only its right half in one tile, surer than the whole one of the other."""

    class Half(Counting):
        def detect(self, image: Pixels) -> list[Detection]:
            at = np.argwhere(image[..., 0] == 255)
            if image.shape[1] > 600 or not len(at):
                return []
            (top, left), (bottom, right) = at.min(axis=0), at.max(axis=0) + 1
            box = Box(float(left), float(top), float(right - left), float(bottom - top))
            return [Detection(box, 0.9 if right - left < 80 else 0.6)]

    image = np.zeros((400, 800, 3), np.uint8)
    image[100:180, 420:500] = 255
    tiled = TiledDetector(Half(), 2)
    assert tiled.detect(image) == [Detection(Box(420.0, 100.0, 80.0, 80.0), 0.6)]


def test_tiles_are_a_setting_of_the_pipeline(face: Cutout, models: tuple[Path, Path]) -> None:
    scene = place(GROUND, [(face, 600.0, 200.0, 50.0, 0.0)])
    settings = {"emotion_model": models[0], "landmarks_model": models[1], "threads": 1}
    with FerPipeline(detector="blazeface", tiles=4, **settings) as opened:  # type: ignore[arg-type]
        (one,) = opened.predict(scene.rgb, color="rgb")
        assert matched(scene.boxes, [one.box]) == (1, 0)
        assert opened.info.detector == "blazeface in 4 tiles"
    own = Counting()
    with FerPipeline(detector=own, tiles=2, **settings) as opened:  # type: ignore[arg-type]
        opened.predict(scene.rgb)
    assert len(own.sizes) > 1
    assert own.closed == 0
    for tiles in (0, -1):
        with pytest.raises(SettingError, match="tiles must be at least 1"):
            FerPipeline(tiles=tiles, **settings)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="tiles must be at least 2"):
        TiledDetector(own, 1)
