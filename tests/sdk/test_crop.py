"""From boxes to faces, against references written with numpy and Pillow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fer_sdk.image.crop import (
    CropGeometry,
    Square,
    align_face,
    centred_square,
    crop_around,
    crop_gray,
    resize_square,
    roll_angle,
)
from fer_sdk.types import Box

Pixels = npt.NDArray[np.uint8]

IDENTITY = CropGeometry(scale=1.0, shift_x=0.0, shift_y=0.0)


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cut(gray: Pixels, square: Square) -> Pixels:
    """A square out of an image whose edge pixels go on for ever."""
    rows = np.clip(square.y + np.arange(square.side), 0, gray.shape[0] - 1)
    columns = np.clip(square.x + np.arange(square.side), 0, gray.shape[1] - 1)
    return np.asarray(gray[np.ix_(rows, columns)], np.uint8)


def averaged(gray: Pixels, size: int) -> npt.NDArray[np.float64]:
    """The mean over the area that each smaller pixel covers."""
    side = len(gray)
    edges = np.arange(size + 1) * side / size
    at = np.arange(side)
    low, high = edges[:-1, None], edges[1:, None]
    weights = (np.minimum(high, at + 1) - np.maximum(low, at)).clip(min=0) * size / side
    return np.asarray(weights @ gray.astype(np.float64) @ weights.T)


@pytest.mark.parametrize(
    "square",
    [
        Square(5, 3, 20),
        Square(0, 0, 30),
        Square(-7, 4, 20),
        Square(5, -9, 20),
        Square(30, 5, 20),
        Square(5, 25, 20),
        Square(-10, -10, 70),
        Square(-50, 5, 20),
        Square(60, 5, 20),
        Square(5, -90, 20),
        Square(-20, 5, 20),
        Square(40, 30, 20),
        Square(-(10**9), 10**9, 20),
        Square(39, 29, 1),
    ],
    ids=str,
)
def test_beyond_the_image_its_edge_pixels_go_on(square: Square) -> None:
    gray = noise(30, 40)
    assert np.array_equal(crop_gray(gray, square, square.side), cut(gray, square))


@given(
    x=st.floats(-1e9, 1e9) | st.floats(-60, 60),
    y=st.floats(-1e9, 1e9) | st.floats(-60, 60),
    width=st.floats(0, 200),
    height=st.floats(0, 200),
    scale=st.floats(0.1, 10),
    shift_x=st.floats(-5, 5),
    shift_y=st.floats(-5, 5),
    image_width=st.integers(1, 50),
    image_height=st.integers(1, 50),
    channels=st.sampled_from([(), (3,)]),
    size=st.integers(8, 64),
)
def test_any_box_gives_a_face(
    x: float,
    y: float,
    width: float,
    height: float,
    scale: float,
    shift_x: float,
    shift_y: float,
    image_width: int,
    image_height: int,
    channels: tuple[int, ...],
    size: int,
) -> None:
    image = noise(image_height, image_width, *channels)
    before = image.copy()
    square = CropGeometry(scale, shift_x, shift_y).square(Box(x, y, width, height))
    face = crop_gray(image, square, size)
    assert face.shape == (size, size)
    assert face.dtype == np.uint8
    assert np.array_equal(image, before)
    # Nothing comes in that the image does not hold.
    assert face.min() >= image.min()
    assert face.max() <= image.max()


@given(
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
    side=st.floats(1, 1000),
    scale=st.floats(0.5, 4),
    shift_x=st.floats(-1, 1),
    shift_y=st.floats(-1, 1),
)
def test_the_square_is_the_geometry_in_whole_pixels(
    x: float, y: float, side: float, scale: float, shift_x: float, shift_y: float
) -> None:
    square = CropGeometry(scale, shift_x, shift_y).square(Box(x, y, side, side))
    assert abs(square.side - max(1, scale * side)) <= 0.5
    assert abs(square.x + square.side / 2 - (x + side / 2 + shift_x * side)) <= 0.5 + 1e-6
    assert abs(square.y + square.side / 2 - (y + side / 2 + shift_y * side)) <= 0.5 + 1e-6


def test_the_square_of_a_box() -> None:
    geometry = CropGeometry(scale=1.2, shift_x=0.0, shift_y=-0.1)
    # Centre (150, 250), moved up by 10, side 120.
    assert geometry.square(Box(100, 200, 100, 100)) == Square(90, 180, 120)
    # A box cut off by the image's edge: its longer side is its size.
    assert IDENTITY.square(Box(0, 10, 40, 60)) == Square(-10, 10, 60)
    assert IDENTITY.square(Box(3, 4, 0, 0)) == Square(3, 4, 1)


def test_moving_the_box_moves_the_square() -> None:
    geometry = CropGeometry(scale=1.37, shift_x=0.03, shift_y=-0.1)
    here = geometry.square(Box(10.3, 20.6, 33.3, 31.1))
    there = geometry.square(Box(10.3 + 7, 20.6 - 5, 33.3, 31.1))
    assert there == Square(here.x + 7, here.y - 5, here.side)


@pytest.mark.parametrize("side", [49, 60, 96, 97, 144, 333])
def test_shrinking_averages(side: int) -> None:
    gray = noise(side, side)
    assert np.abs(resize_square(gray, 48) - averaged(gray, 48)).max() <= 1


@pytest.mark.parametrize("side", [2, 7, 20, 30, 47])
def test_enlarging_interpolates(side: int) -> None:
    # Pillow's bilinear filter is the same one where it enlarges.
    gray = noise(side, side)
    expected = np.asarray(Image.fromarray(gray).resize((48, 48), Image.Resampling.BILINEAR))
    assert np.abs(resize_square(gray, 48).astype(int) - expected).max() <= 1


def test_colours_become_gray_as_pillow_has_them() -> None:
    rgb = noise(48, 48, 3)
    expected = np.asarray(Image.fromarray(rgb).convert("L")).astype(int)
    assert np.abs(crop_gray(rgb, Square(0, 0, 48), 48) - expected).max() <= 1
    gray = crop_gray(np.repeat(rgb[..., :1], 3, axis=2), Square(0, 0, 48), 48)
    assert np.array_equal(gray, rgb[..., 0])


def test_cut_turned_gray_and_resized_at_once() -> None:
    rgb = noise(80, 90, 3)
    square = Square(-11, 31, 77)
    gray = np.asarray(Image.fromarray(rgb).convert("L"))
    expected = averaged(cut(gray, square), 48)
    assert np.abs(crop_gray(rgb, square, 48) - expected).max() <= 2


def test_a_view_is_the_same_as_its_copy() -> None:
    rgb = noise(50, 60, 3)
    view = np.ascontiguousarray(rgb[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    square = Square(5, -6, 40)
    assert np.array_equal(crop_gray(view, square, 48), crop_gray(rgb, square, 48))


def test_the_face_is_not_the_callers_memory() -> None:
    gray = noise(48, 48)
    face = crop_gray(gray, Square(0, 0, 48), 48)
    assert np.array_equal(face, gray)
    assert not np.shares_memory(face, gray)


def test_an_enormous_square_is_a_face_too() -> None:
    # 300,000 pixels a side are 90 GB; what counts is how it looks from afar.
    image = np.full((600, 600), 200, np.uint8)
    image[:, 300:] = 100
    face = crop_gray(image, Square(-150_000 + 300, -150_000 + 300, 300_000), 48)
    assert (face[:, :23] == 200).all()
    assert (face[:, 25:] == 100).all()


def test_a_large_square_looks_as_a_smaller_one_does() -> None:
    small = noise(64, 64)
    large = small.repeat(160, axis=0).repeat(160, axis=1)
    face = crop_gray(large, Square(0, 0, 64 * 160), 64)
    assert np.abs(face.astype(int) - small).max() <= 1


@pytest.mark.parametrize(
    ("width", "height", "square"),
    [
        (48, 48, Square(0, 0, 48)),
        (100, 40, Square(30, 0, 40)),
        (40, 101, Square(0, 30, 40)),
        (1, 1, Square(0, 0, 1)),
    ],
)
def test_centred_square(width: int, height: int, square: Square) -> None:
    assert centred_square(width, height) == square


def _blobs(tilt: float) -> Pixels:
    """Two eyes and a mouth in the middle of a picture, tilted clockwise by an angle in degrees."""
    turn = np.radians(tilt)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    x, y = np.meshgrid(np.arange(400.0), np.arange(300.0))
    picture = np.full((300, 400), 20.0)
    for point in ((-40, -30), (40, -30), (0, 50)):
        at = rotation @ np.array(point) + (199.5, 149.5)
        picture += 200 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 200)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("tilt", [0.0, 17.0, -33.0, 90.0, -178.0])
def test_a_tilted_face_turned_upright_is_the_face_that_it_was(tilt: float) -> None:
    square = Square(120, 70, 160)
    expected = crop_gray(_blobs(0.0), square, 48).astype(np.int64)
    given = align_face(crop_around(_blobs(tilt), square, 48), tilt, 48)
    assert (given.shape, given.dtype) == ((48, 48), np.dtype(np.uint8))
    assert np.abs(given - expected).max() <= 12
    assert np.abs(given - expected).mean() < 1


def test_the_eye_line_is_measured_clockwise() -> None:
    eyes = np.array([[[0.2, 0.4], [0.6, 0.4]], [[0.2, 0.4], [0.6, 0.8]], [[0.5, 0.9], [0.5, 0.1]]])
    assert roll_angle(eyes.astype(np.float32)) == pytest.approx([0, 45, -90])
