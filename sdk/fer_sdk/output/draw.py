"""Pictures with the faces drawn on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.image.load import Color, ImageLike, load_image
from fer_sdk.types import Face

Pixels = npt.NDArray[np.uint8]
Areas = npt.NDArray[np.int64]

# In the order of FER2013's labels: angry, disgust, fear, happy, sad, surprise, neutral. A model
# with more labels starts again.
PALETTE = (
    (239, 71, 60),
    (122, 176, 60),
    (168, 106, 232),
    (255, 205, 56),
    (72, 149, 239),
    (255, 143, 45),
    (205, 208, 214),
)
_DARK = (24, 24, 27)
_LIGHT = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TALLEST = "Ag#%"
_SUBPIXEL_BITS = 4
# On smaller faces the points would hide the eyes.
_LEAST_SIDE_WITH_LANDMARKS = 32
# Hair above a box belongs to the face too, in shares of the box's height.
_HAIR = 0.35
_HAIR_HIDDEN_AT_MOST = 0.15


def annotate(image: ImageLike, faces: Iterable[Face], *, color: Color = "bgr") -> Pixels:
    """Draw faces on a copy of an image: box, landmarks, emotion and its confidence.

    Lines and text grow with the image and with the face. A label stays inside the image and covers
    no other label, no other face and no landmark. Where it finds no room, it gets smaller, then
    loses its percentage, then is cut to the first letters of the emotion, and then is left out. The
    color of the box shows the emotion all the same.

    Args:
        image: as for ``FerPipeline.predict``.
        faces: what ``predict`` returned for this image.
        color: order of the channels of an array you pass, and of the result.

    Returns:
        A new array uint8 ``[H, W, 3]``.

    Raises:
        ImageError: the image cannot be read.
    """
    canvas = load_image(image, color=color).copy()
    shown = list(faces)
    shape = canvas.shape[:2]
    boxes = [_clipped(face, *shape) for face in shown]
    for face, box in zip(shown, boxes, strict=True):
        _draw_face(canvas, face, box)
    areas = np.array(boxes, np.int64).reshape(-1, 4)
    # Around each landmark there is an eye or a corner of the mouth.
    points = np.array(
        [(*point, _side(face) / 16) for face in shown for point in face.landmarks], np.float64
    ).reshape(-1, 3)
    labels = np.empty((0, 4), np.int64)
    for index, face in enumerate(shown):
        others = np.delete(areas, index, axis=0)
        label = _fitting_label(face, boxes[index], others, labels, points, shape)
        if label is not None:
            _draw_label(canvas, label, _color(face))
            labels = np.vstack([labels, label.area])
    if color == "rgb":
        return canvas
    return np.asarray(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR, dst=canvas), np.uint8)


class _Area(NamedTuple):
    """A rectangle of whole pixels; right and bottom are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int

    def covers(self, areas: Areas) -> npt.NDArray[np.float64]:
        """Which share of each of other areas ``[N, 4]`` it covers."""
        left, top, right, bottom = areas.T
        across = np.minimum(self.right, right) - np.maximum(self.left, left)
        down = np.minimum(self.bottom, bottom) - np.maximum(self.top, top)
        covered = np.maximum(across, 0) * np.maximum(down, 0)
        return np.asarray(covered / ((right - left) * (bottom - top)), np.float64)

    def holds(self, points: npt.NDArray[np.float64]) -> bool:
        """Whether any of points lies in it, or as near as its reach: ``[N, 3]`` x, y, reach."""
        x, y, reach = points.T
        across = (self.left - reach < x) & (x < self.right + reach)
        down = (self.top - reach < y) & (y < self.bottom + reach)
        return bool((across & down).any())


class _Text(NamedTuple):
    words: str
    scale: float
    weight: int
    width: int
    ascent: int
    descent: int
    padding: int


class _Label(NamedTuple):
    area: _Area
    text: _Text


def _color(face: Face) -> tuple[int, int, int]:
    return PALETTE[list(face.scores).index(face.emotion) % len(PALETTE)]


def _side(face: Face) -> float:
    return max(face.box.width, face.box.height)


def _clipped(face: Face, height: int, width: int) -> _Area:
    x, y, box_width, box_height = face.box
    left, top = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    return _Area(
        left,
        top,
        max(min(round(x + box_width), width), left + 1),
        max(min(round(y + box_height), height), top + 1),
    )


def _reach(face: Face, shape: tuple[int, ...]) -> int:
    """How far the lines of a box reach to both sides of the pixels that they follow."""
    return int(min(max(2.0, min(shape) / 220), _side(face) / 25) / 2)


def _draw_frame(canvas: Pixels, box: _Area, reach: int, ink: tuple[int, int, int]) -> None:
    # By hand, because how wide a line OpenCV draws differs from release to release.
    left, right = max(box.left - reach, 0), box.right + reach
    top, bottom = max(box.top - reach, 0), box.bottom + reach
    for edge in (box.left, box.right - 1):
        canvas[top:bottom, max(edge - reach, 0) : edge + reach + 1] = ink
    for edge in (box.top, box.bottom - 1):
        canvas[max(edge - reach, 0) : edge + reach + 1, left:right] = ink


def _draw_face(canvas: Pixels, face: Face, box: _Area) -> None:
    reach = _reach(face, canvas.shape[:2])
    if reach:
        # A dark rim shows the line on bright ground; around a thin one it would hide the face.
        _draw_frame(canvas, box, reach + max(1, reach // 2), _DARK)
    _draw_frame(canvas, box, reach, _color(face))
    if _side(face) < _LEAST_SIDE_WITH_LANDMARKS:
        return
    unit = 1 << _SUBPIXEL_BITS
    radius = max(1.0, _side(face) / 50)
    for point in face.landmarks:
        # Far outside of the picture, the numbers would be too large for OpenCV.
        if not (-1 < point.x < canvas.shape[1] and -1 < point.y < canvas.shape[0]):
            continue
        centre = round(point.x * unit), round(point.y * unit)
        for size, ink in ((radius * 1.5, _DARK), (radius, _LIGHT)):
            cv2.circle(
                canvas, centre, round(size * unit), ink, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS
            )


def _fitting_label(
    face: Face,
    box: _Area,
    others: Areas,
    labels: Areas,
    points: npt.NDArray[np.float64],
    shape: tuple[int, ...],
) -> _Label | None:
    """The longest wording in the largest letters that has room, where it hides least hair."""
    # Below 12 pixels letters run together; on a large picture that is looked at as a whole, the
    # least legible size grows with it.
    least = max(12.0, min(shape) / 90)
    tall = max(least, min(min(shape) / 32, _side(face) / 6))
    taken = np.vstack([others, labels])
    hair = others.copy()
    hair[:, 1] -= np.round(_HAIR * (others[:, 3] - others[:, 1])).astype(np.int64)
    for words, size in _wordings(face, tall, least):
        text = _text(words, size)
        places = [
            (float(area.covers(hair).max(initial=0.0)), area)
            for area in _places(text, box, _reach(face, shape), shape)
            if not area.covers(taken).any() and not area.holds(points)
        ]
        if places:
            hidden, area = min(places, key=lambda place: place[0])
            if hidden <= _HAIR_HIDDEN_AT_MOST:
                return _Label(area, text)
    return None


def _wordings(face: Face, tall: float, least: float) -> Iterator[tuple[str, float]]:
    number = "" if face.track_id is None else f"#{face.track_id} "
    for size in (tall, least):
        yield f"{number}{face.emotion} {face.confidence:.0%}", size
    yield f"{number}{face.emotion}", least
    # As many letters as tell it from the others: h for happy, sa for sad, su for surprise.
    prefixes = (face.emotion[:end] for end in range(1, len(face.emotion) + 1))
    alone = (one for one in prefixes if sum(label.startswith(one) for label in face.scores) == 1)
    yield f"{number}{next(alone, face.emotion)}", least


def _text(words: str, tall: float) -> _Text:
    # All labels of a size stand on one line, whether or not their letters reach up and down.
    (_, above), below = cv2.getTextSize(_TALLEST, _FONT, 1.0, 1)
    scale = tall / (above + below)
    weight = max(1, round(tall / 14))
    (_, ascent), descent = cv2.getTextSize(_TALLEST, _FONT, scale, weight)
    (width, _), _ = cv2.getTextSize(words, _FONT, scale, weight)
    return _Text(words, scale, weight, width, ascent, descent, max(2, round(tall / 5)))


def _places(text: _Text, box: _Area, reach: int, shape: tuple[int, ...]) -> Iterator[_Area]:
    """Where a label can go, best first: above the box, below it, inside of it, beside it.

    Outside it continues the lines of the box, which reach so far beyond it.
    """
    height, width = shape
    across = text.width + 2 * text.padding
    down = text.ascent + text.descent + 2 * text.padding
    if across > width or down > height:
        return
    inside = [
        min(max(left, 0), width - across) for left in (box.left - reach, box.right + reach - across)
    ]
    beside = [box.right + reach, box.left - reach - across]
    rows = [box.top - reach - down, box.bottom + reach, box.top, box.bottom - down]
    places = [(left, top) for top in rows for left in inside]
    places += [(left, top) for top in (box.top, box.bottom - down) for left in beside]
    for left, top in places:
        if 0 <= left <= width - across and 0 <= top <= height - down:
            yield _Area(left, top, left + across, top + down)


def _draw_label(canvas: Pixels, label: _Label, fill: tuple[int, int, int]) -> None:
    area, text = label
    canvas[area.top : area.bottom, area.left : area.right] = fill
    brightness = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2]
    cv2.putText(
        canvas,
        text.words,
        (area.left + text.padding, area.top + text.padding + text.ascent),
        _FONT,
        text.scale,
        _DARK if brightness > 110 else _LIGHT,
        text.weight,
        cv2.LINE_AA,
    )
