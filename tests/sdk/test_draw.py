"""What is drawn, where, and that it can be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_sdk.errors import ImageError
from fer_sdk.output.draw import annotate
from fer_sdk.types import Box, Face, Point

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
GROUND = 90

_Extent = tuple[float, float, float, float]


def _face(
    x: float, y: float, side: float, emotion: str = "happy", track: int | None = None
) -> Face:
    points = [Point(x + a * side, y + b * side) for a in (0.3, 0.7) for b in (0.35, 0.8)]
    return Face(
        box=Box(x, y, side, side),
        detection_score=0.9,
        landmarks=(points[0], points[2], points[1], points[3]),
        emotion=emotion,
        confidence=0.88,
        scores={label: 0.88 if label == emotion else 0.02 for label in EMOTIONS},
        track_id=track,
    )


def _canvas(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GROUND, np.uint8)


def _changed(image: np.ndarray) -> np.ndarray:
    return np.asarray((image != GROUND).any(axis=2))


def _extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_the_image_is_left_alone_and_the_order_of_colors_kept() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (150, 200, 3), np.uint8)
    before = image.copy()
    faces = [_face(60, 50, 60)]
    for color in ("rgb", "bgr"):
        drawn = annotate(image, faces, color=color)  # type: ignore[arg-type]
        np.testing.assert_array_equal(image, before)
        assert drawn.shape == image.shape
        assert drawn.dtype == np.uint8
        # Far from the face nothing changes.
        np.testing.assert_array_equal(drawn[:, 180:], image[:, 180:])
    np.testing.assert_array_equal(
        annotate(image, faces, color="rgb"),
        annotate(image[..., ::-1], faces, color="bgr")[..., ::-1],
    )
    np.testing.assert_array_equal(annotate(image, []), image)


def test_a_file_can_be_annotated(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    Image.fromarray(_canvas(200, 150)).save(path)
    drawn = annotate(path, [_face(60, 50, 60)])
    np.testing.assert_array_equal(drawn, annotate(_canvas(200, 150), [_face(60, 50, 60)]))
    with pytest.raises(ImageError, match="No such file"):
        annotate(tmp_path / "missing.png", [])


def test_the_box_is_where_the_face_is() -> None:
    drawn = annotate(_canvas(400, 300), [_face(150, 120, 100)], color="rgb")
    happy = (drawn == (255, 205, 56)).all(axis=2)
    left, _, right, bottom = _extent(happy)
    assert abs(left - 150) <= 3
    assert abs(right - 250) <= 3
    assert abs(bottom - 220) <= 3
    # Inside, only the four landmarks.
    inside = _changed(drawn)[126:214, 156:244]
    assert 0 < inside.mean() < 0.05
    assert inside[round(0.35 * 100) - 6, round(0.3 * 100) - 6]


@dataclass(frozen=True)
class _Written:
    """Text that was drawn, with the ink that it takes where nothing cuts it off."""

    words: str
    left: int
    top: int
    right: int
    bottom: int


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[_Written]:
    """Every text that is drawn from now on."""
    texts: list[_Written] = []
    margin = 400
    put = cv2.putText

    def watched(
        canvas: np.ndarray, words: str, origin: tuple[int, int], *how: object
    ) -> np.ndarray:
        font, scale, _, weight, kind = how
        height, width = canvas.shape[:2]
        paper = np.zeros((height + 2 * margin, width + 2 * margin), np.uint8)
        moved = origin[0] + margin, origin[1] + margin
        put(paper, words, moved, font, scale, 255, weight, kind)
        extent = (edge - margin for edge in _extent(paper > 60))
        texts.append(_Written(words, *extent))
        return np.asarray(put(canvas, words, origin, *how))

    monkeypatch.setattr(cv2, "putText", watched)
    return texts


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize(
    ("width", "height"), [(200, 150), (200, 200), (3840, 2160), (640, 100), (100, 400)]
)
def test_labels_are_legible_and_inside(
    emotion: str, width: int, height: int, written: list[_Written]
) -> None:
    side = min(width, height) * 0.4
    for x in (0.0, width / 2 - side / 2, width - side):
        for y in (0.0, height / 2 - side / 2, height - side):
            drawn = annotate(_canvas(width, height), [_face(x, y, side, emotion)], color="rgb")
            text = written.pop()
            assert text.words == f"{emotion} 88%"
            assert text.left > 0
            assert text.top > 0
            assert text.right < width
            assert text.bottom < height
            assert text.bottom - text.top >= 8
            assert text.bottom - text.top >= min(width, height) / 60
            plate = drawn[text.top - 1 : text.bottom + 1, text.left - 1 : text.right + 1]
            ground, light = np.array(_FILL[emotion]), plate.astype(int).sum(axis=2)
            # All around the letters is the label's ground, and they stand out from it.
            for edge in (plate[0], plate[-1], plate[:, 0], plate[:, -1]):
                assert np.abs(edge.astype(int) - ground).max() <= 90
            assert (np.abs(light - ground.sum()) > 200).mean() > 0.05


_FILL = {
    "angry": (239, 71, 60),
    "disgust": (122, 176, 60),
    "fear": (168, 106, 232),
    "happy": (255, 205, 56),
    "sad": (72, 149, 239),
    "surprise": (255, 143, 45),
    "neutral": (205, 208, 214),
}


def test_more_on_a_larger_picture() -> None:
    shares = []
    for scale in (1, 4, 8):
        drawn = annotate(
            _canvas(480 * scale, 270 * scale), [_face(200 * scale, 90 * scale, 90 * scale)]
        )
        shares.append(_changed(drawn).mean())
    # The same picture in more pixels is drawn on alike: the lines grow with it.
    assert max(shares) < 2.5 * min(shares)


def _hidden(drawn: np.ndarray, faces: list[Face]) -> list[float]:
    """Which share of the inside of each face was drawn on."""
    changed = _changed(drawn)
    inner = []
    for face in faces:
        left, top, side = (round(number) for number in face.box[:3])
        inner.append(changed[top + 4 : top + side - 4, left + 4 : left + side - 4].mean())
    return inner


def _overlaps(first: _Extent, second: _Extent) -> bool:
    across = min(first[2], second[2]) - max(first[0], second[0])
    return bool(across > 0 and min(first[3], second[3]) > max(first[1], second[1]))


def _labels(written: list[_Written]) -> list[_Extent]:
    """The ground of each label, which reaches a little around its letters."""
    return [(text.left - 2, text.top - 2, text.right + 2, text.bottom + 2) for text in written]


def test_labels_of_a_group_keep_off_the_other_faces_and_off_each_other(
    written: list[_Written],
) -> None:
    # Three rows that stand close, as on a photo of a school class.
    faces = [
        _face(
            40 + 86 * column + 43 * (row % 2), 60 + 84 * row, 52, EMOTIONS[(row * 9 + column) % 7]
        )
        for row in range(3)
        for column in range(9)
    ]
    drawn = annotate(_canvas(900, 420), faces)
    labels = _labels(written)
    assert [text.words for text in written] == [f"{face.emotion} 88%" for face in faces]
    for index, label in enumerate(labels):
        for other, face in enumerate(faces):
            x, y, width, height = face.box
            assert other == index or not _overlaps(label, (x, y, x + width, y + height))
        assert not any(_overlaps(label, earlier) for earlier in labels[:index])
    assert max(_hidden(drawn, faces)) < 0.1


@pytest.mark.parametrize(("pitch", "words"), [(40, {"h", "n"}), (30, set())])
def test_in_a_dense_crowd_labels_get_short_or_go(
    written: list[_Written], pitch: int, words: set[str]
) -> None:
    faces = [
        _face(pitch * column, pitch * row, 28, "happy" if row % 2 else "neutral")
        for row in range(15)
        for column in range(20)
    ]
    drawn = annotate(_canvas(pitch * 20, pitch * 15), faces)
    assert {text.words for text in written} == words
    assert max(_hidden(drawn, faces)) == 0


def test_no_label_lies_on_a_landmark(written: list[_Written]) -> None:
    rng = np.random.default_rng(1)
    faces = [
        _face(*(float(at) for at in rng.uniform((0, 0), (1180, 620))), float(rng.uniform(60, 130)))
        for _ in range(60)
    ]
    annotate(_canvas(1280, 720), faces)
    assert len(written) > 20
    for text in written:
        for face in faces:
            for x, y in face.landmarks:
                assert not (text.left <= x < text.right and text.top <= y < text.bottom), text


def test_a_label_gets_smaller_before_it_is_left_out(written: list[_Written]) -> None:
    alone = _face(300, 300, 150)
    annotate(_canvas(1280, 720), [alone])
    # Wherever the label would go, a landmark is in its middle; a smaller one goes past it.
    middle = [Point(375.0, y) for y in (290.0, 310.0, 440.0, 460.0)]
    beside = [Point(x, y) for x in (250.0, 500.0) for y in (315.0, 435.0)]
    others = [
        replace(_face(1200, 680, 8), landmarks=(points[0], points[1], points[2], points[3]))
        for points in (middle, beside)
    ]
    annotate(_canvas(1280, 720), [alone, *others])
    large, first = written[0], written[1]
    assert first.words == large.words
    assert first.bottom - first.top < 0.8 * (large.bottom - large.top)


@pytest.mark.parametrize(("width", "height", "side"), [(1280, 720, 150), (3840, 2160, 700)])
def test_a_label_continues_the_lines_of_its_box(width: int, height: int, side: int) -> None:
    drawn = annotate(_canvas(width, height), [_face(200, 300, side)], color="rgb")
    fill = (drawn == (255, 205, 56)).all(axis=2)
    left, top, _, _ = _extent(fill)
    # Down the left edge of label and box nothing interrupts the color.
    assert fill[top : 300 + side, left].all()


def test_a_track_is_shown() -> None:
    plain = annotate(_canvas(400, 300), [_face(150, 120, 100)])
    tracked = annotate(_canvas(400, 300), [_face(150, 120, 100, track=7)])
    # The label is longer by the number; below it nothing differs.
    assert _changed(tracked)[:118].sum() > _changed(plain)[:118].sum() + 100
    np.testing.assert_array_equal(tracked[122:], plain[122:])


@pytest.mark.parametrize(
    "face",
    [
        _face(-50, -50, 40),
        _face(1e9, 1e9, 1e9),
        _face(-1e12, 5, 2e12),
        _face(5, 5, 0.001),
        _face(0, 0, 4000),
    ],
    ids=["outside", "far away", "endless", "a speck", "larger than the image"],
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (64, 48), (500, 400)])
def test_odd_faces_and_odd_images_do_no_harm(face: Face, width: int, height: int) -> None:
    drawn = annotate(_canvas(width, height), [face, face])
    assert drawn.shape == (height, width, 3)
