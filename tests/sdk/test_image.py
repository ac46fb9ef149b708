"""Images in every form, against Pillow's decoders and plain numpy."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from PIL import Image, ImageFile, ImageOps, features

from checks import tried
from fer_sdk.errors import FerError, ImageError
from fer_sdk.image.load import load_image, to_gray

WIDTH, HEIGHT = 40, 29


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """Smooth, so that lossy files stay near it, and different under each turn and mirroring."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def _file(image: Image.Image, kind: str, **settings: object) -> bytes:
    into = io.BytesIO()
    image.save(into, kind, **settings)
    return into.getvalue()


def _by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


def _alpha() -> np.ndarray:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, :10], alpha[:, 10:20] = 0, 128
    return alpha


_CMYK_BY_PILLOW_AND_OPENCV = 2
_KINDS: dict[str, tuple[str, Callable[[Image.Image], Image.Image], dict[str, object], int]] = {
    "png": ("PNG", lambda image: image, {}, 0),
    "png gray": ("PNG", lambda image: image.convert("L"), {}, 0),
    "png palette": ("PNG", lambda image: image.quantize(64), {}, 0),
    "png palette with transparency": ("PNG", lambda im: im.quantize(64), {"transparency": 0}, 0),
    "png one bit": ("PNG", lambda image: image.convert("1"), {}, 0),
    "png interlaced": ("PNG", lambda image: image, {"interlace": 1}, 0),
    "jpeg": ("JPEG", lambda image: image, {"quality": 95}, 1),
    "jpeg gray": ("JPEG", lambda image: image.convert("L"), {"quality": 95}, 1),
    "jpeg progressive": ("JPEG", lambda im: im, {"quality": 95, "progressive": True}, 1),
    "jpeg cmyk": ("JPEG", lambda im: im.convert("CMYK"), {"quality": 95}, 2),
    "webp": ("WEBP", lambda image: image, {"lossless": True}, 0),
    "webp lossy": ("WEBP", lambda image: image, {"quality": 90}, 2),
    "gif": ("GIF", lambda image: image.quantize(64), {}, 0),
    "bmp": ("BMP", lambda image: image, {}, 0),
    "bmp palette": ("BMP", lambda image: image.quantize(64), {}, 0),
    "tiff": ("TIFF", lambda image: image, {}, 0),
    "tiff compressed": ("TIFF", lambda image: image, {"compression": "tiff_lzw"}, 0),
    "tiff palette": ("TIFF", lambda image: image.quantize(64), {}, 0),
    "tiff gray": ("TIFF", lambda image: image.convert("L"), {}, 0),
    "ppm": ("PPM", lambda image: image, {}, 0),
    "pgm": ("PPM", lambda image: image.convert("L"), {}, 0),
    "jpeg 2000": ("JPEG2000", lambda image: image, {}, 0),
    "avif": ("AVIF", lambda image: image, {"quality": 90}, 2),
}


def _skip_unless_both_know(kind: str) -> None:
    if kind == "AVIF" and not (features.check("avif") and cv2.haveImageWriter("x.avif")):
        pytest.skip("this Pillow or this OpenCV has no AVIF")
    if kind == "GIF" and not cv2.haveImageWriter("x.gif"):
        pytest.skip("this OpenCV has no GIF")
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000")


@pytest.mark.parametrize("name", _KINDS)
def test_every_kind_of_file_is_read_as_pillow_reads_it(rgb: np.ndarray, name: str) -> None:
    kind, prepare, how, tolerance = _KINDS[name]
    _skip_unless_both_know(kind)
    content = _file(prepare(Image.fromarray(rgb)), kind, **how)
    found = load_image(content)
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    difference = np.abs(found.astype(int) - _by_pillow(content).astype(int))
    assert difference.max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_left_out_not_blended(rgb: np.ndarray, kind: str) -> None:
    image = Image.fromarray(np.dstack([rgb, _alpha()]))
    content = _file(image, kind, lossless=True, exact=True)
    np.testing.assert_array_equal(load_image(content), rgb)
    np.testing.assert_array_equal(load_image(image), rgb)
    np.testing.assert_array_equal(load_image(np.asarray(image), color="rgb"), rgb)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jp2"])
def test_sixteen_bits_become_eight(suffix: str) -> None:
    ramp = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    for stored in (ramp, np.dstack([ramp, ramp, ramp])):
        found = load_image(cv2.imencode(suffix, stored)[1].tobytes())
        for channel in range(3):
            assert np.abs(found[..., channel].astype(int) * 257 - ramp).max() <= 257
    np.testing.assert_array_equal(load_image(Image.fromarray(ramp))[..., 0], ramp >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_orientation_of_a_file_is_applied(
    rgb: np.ndarray, kind: str, orientation: int, tmp_path: Path
) -> None:
    _skip_unless_both_know(kind)
    if kind in ("PNG", "WEBP") and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV 4 reads the orientation of JPEG and TIFF files only")
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"quality": 95} if kind in ("JPEG", "AVIF") else {"lossless": True}
    content = _file(Image.fromarray(rgb), kind, exif=exif, **how)
    turned = _by_pillow(content).astype(int)
    assert turned.shape == ((WIDTH, HEIGHT, 3) if orientation > 4 else (HEIGHT, WIDTH, 3))
    (tmp_path / "photo").write_bytes(content)
    opened = Image.open(io.BytesIO(content))
    for form in (content, tmp_path / "photo", opened):
        found = load_image(form).astype(int)
        assert found.shape == turned.shape
        assert np.abs(found - turned).max() <= 2


def test_every_form_of_one_picture_gives_the_same(rgb: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "Gesicht ğörüntü 顔.png"
    content = _file(Image.fromarray(rgb), "PNG")
    path.write_bytes(content)
    read_only = rgb.copy()
    read_only.flags.writeable = False
    wide = np.zeros((HEIGHT, 2 * WIDTH, 3), np.uint8)
    wide[:, ::2] = rgb
    forms: list[tuple[object, str]] = [
        (path, "bgr"),
        (str(path), "bgr"),
        (content, "bgr"),
        (bytearray(content), "rgb"),
        (memoryview(content), "rgb"),
        (Image.fromarray(rgb), "bgr"),
        (Image.open(path), "rgb"),
        (rgb, "rgb"),
        (read_only, "rgb"),
        (rgb[..., ::-1], "bgr"),
        (np.ascontiguousarray(rgb[..., ::-1]), "bgr"),
        (np.asfortranarray(rgb), "rgb"),
        (wide[:, ::2], "rgb"),
        (np.dstack([rgb, _alpha()]), "rgb"),
        (np.dstack([rgb[..., ::-1], _alpha()]), "bgr"),
    ]
    for form, color in forms:
        found = load_image(form, color=color)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, rgb)
        assert found.flags.c_contiguous


def test_channels_that_were_turned_by_a_view_are_not_copied(rgb: np.ndarray) -> None:
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    assert np.shares_memory(load_image(rgb[..., ::-1], color="bgr"), rgb)
    assert np.array_equal(load_image(rgb[..., ::-1], color="bgr"), rgb)
    assert np.array_equal(load_image(bgr[..., ::-1], color="rgb"), rgb)
    # Turned in another way as well, it is copied and right all the same.
    mirrored = rgb[:, ::-1, ::-1]
    assert np.array_equal(load_image(mirrored, color="bgr"), rgb[:, ::-1])


def test_gray_arrays_become_three_equal_channels(rgb: np.ndarray) -> None:
    gray = rgb[..., 0]
    for form in (gray, gray[..., None], Image.fromarray(np.ascontiguousarray(gray))):
        np.testing.assert_array_equal(load_image(form), np.dstack([gray] * 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_pillow_modes_are_converted_as_pillow_does(rgb: np.ndarray, mode: str) -> None:
    image = Image.fromarray(rgb)
    image = image.convert("L").convert("LA") if mode == "LA" else image
    image = image.convert(mode)
    np.testing.assert_array_equal(load_image(image), np.asarray(image.convert("RGB")))


def test_the_callers_array_is_left_alone(rgb: np.ndarray) -> None:
    before = rgb.copy()
    load_image(rgb)
    load_image(rgb, color="rgb")
    np.testing.assert_array_equal(rgb, before)


def test_gray_is_the_brightness_that_pillow_computes(rgb: np.ndarray) -> None:
    expected = np.asarray(Image.fromarray(rgb).convert("L")).astype(int)
    found = to_gray(rgb)
    assert found.shape == (HEIGHT, WIDTH)
    assert np.abs(found.astype(int) - expected).max() <= 1


def _refused(image: object, told: str, **settings: object) -> str:
    with pytest.raises(ImageError, match=told) as caught:
        load_image(image, **settings)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((8, 8, 3), np.float32), r"float32 \[8, 8, 3\].*array \* 255"),
        (np.full((8, 8, 3), np.nan), r"float64"),
        (np.full((8, 8, 3), 65535, np.uint16), r"uint16.*array >> 8"),
        (np.full((8, 8, 3), 4000, np.uint16), r"uint16.*array >> 4"),
        (np.zeros((8, 8), bool), r"bool"),
        (np.zeros((8, 8, 3), np.int8), r"int8"),
        (np.zeros((8, 8), object), r"object"),
        (np.zeros((8,), np.uint8), r"\[8\].*must be \[H, W\]"),
        (np.zeros((3, 8, 8), np.uint8), r"transpose"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"predict_batch"),
        (np.zeros((8, 8, 2), np.uint8), r"\[8, 8, 2\]"),
        (np.array(7, np.uint8), r"\[\]"),
        (np.zeros((0, 8, 3), np.uint8), r"no pixels"),
        (np.zeros((8, 0), np.uint8), r"no pixels"),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else "",
)
def test_arrays_that_are_no_images_are_refused(array: np.ndarray, told: str) -> None:
    _refused(array, told)


@pytest.mark.parametrize("thing", [None, 7, 1.5, [[1, 2], [3, 4]], {"a": 1}, object()])
def test_other_things_are_refused_by_type(thing: object) -> None:
    _refused(thing, f"^{type(thing).__name__} is not an image")


def test_the_order_of_colors_is_one_of_two(rgb: np.ndarray) -> None:
    _refused(rgb, 'color must be "bgr" or "rgb", not \'RGB\'', color="RGB")


def test_pillow_images_without_a_range_of_brightness_are_refused(rgb: np.ndarray) -> None:
    gray = Image.fromarray(np.ascontiguousarray(rgb[..., 0]))
    for mode in ("I", "F"):
        _refused(gray.convert(mode), rf"Pillow image \({mode}, 40x29\) has no known range")
    _refused(Image.new("RGB", (0, 5)), r"Pillow image \(RGB, 0x5\) holds no pixels")


def test_a_truncated_pillow_image_is_refused(rgb: np.ndarray) -> None:
    content = _file(Image.fromarray(rgb), "PNG")
    _refused(Image.open(io.BytesIO(content[: len(content) // 2])), "Pillow cannot read it")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    assert _refused(missing, "No such file").startswith(f"{missing}: ")
    assert _refused(tmp_path, "a folder").startswith(f"{tmp_path}: ")
    _refused(tmp_path / "x" / "\0.jpg", "null")
    _refused("", "^'': a folder")
    _refused("https://example.org/face.jpg", "never uses the network")
    empty = tmp_path / "empty.png"
    empty.touch()
    assert _refused(empty, "empty").startswith(f"{empty}: ")
    _refused(b"", "picture of 0 bytes: empty")
    text = tmp_path / "text.jpg"
    text.write_text("This is not a picture.")
    assert "text.jpg: not a picture" in _refused(text, "JPEG, PNG, WebP")
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    _refused(loop, r"loop\.png: cannot be read")
    newline = tmp_path / "two\nlines.png"
    assert "\n" not in _refused(newline, "No such file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    _refused(pipe, "neither a file nor a link to one")
    _refused("/dev/null", "neither a file nor a link to one")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything"
)
def test_a_file_without_the_right_to_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    secret.chmod(0)
    _refused(secret, "Permission denied")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_files_that_are_cut_off_are_refused(rgb: np.ndarray, kind: str, share: float) -> None:
    _skip_unless_both_know(kind)
    content = _file(Image.fromarray(rgb), kind)
    _refused(content[: int(len(content) * share)], f"picture of {int(len(content) * share)} bytes")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_read_as_far_as_it_goes(
    rgb: np.ndarray, progressive: bool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    thumbnail = _file(Image.fromarray(rgb[:8, :8]), "JPEG")
    exif = b"Exif\0\0" + thumbnail
    large = cv2.resize(rgb, (4 * WIDTH, 4 * HEIGHT))
    content = _file(Image.fromarray(large), "JPEG", exif=exif, progressive=progressive)
    whole = load_image(content + b"whatever comes after")
    assert not caplog.records
    begin = content.index(b"\xff\xda", content.index(thumbnail) + len(thumbnail))
    for length in range(begin):
        _refused(content[:length], f"^picture of {length} bytes: ")
    for missing in (1, 2, 3, (len(content) - begin) // 2):
        caplog.clear()
        found = load_image(content[:-missing])
        (record,) = caplog.records
        told = f"picture of {len(content) - missing} bytes: this JPEG file is damaged or cut off"
        assert record.getMessage().startswith(told)
        assert found.shape == whole.shape
        if missing < 3:
            np.testing.assert_array_equal(found, whole)
        elif not progressive:
            np.testing.assert_array_equal(found[:32], whole[:32])
    # As Pillow reads it where it is told to take what there is.
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        expected = _by_pillow(content[:-missing])
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    (tmp_path / "cut.jpg").write_bytes(content[:-2])
    load_image(tmp_path / "cut.jpg")
    assert str(tmp_path / "cut.jpg") in caplog.text


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def _png_bomb(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + _chunk(b"IEND", b"")
    )


def _of_size(kind: str, width: int, height: int) -> bytes:
    """A small file of a kind that says it holds a picture of that size."""
    small = b"" if kind == "PNG" else _file(Image.new("RGB", (16, 16)), kind, lossless=True)
    if kind == "PNG":
        small = _png_bomb(width, height)
    elif kind == "PPM":
        small = f"P6\n# made by hand\n{width} {height}\n255\n".encode() + bytes(300)
    elif kind == "TIFF":
        for tag, size in ((256, width), (257, height)):
            places = [small.find(struct.pack("<HH", tag, form)) for form in (3, 4)]
            small = _with(small, max(places), struct.pack("<HHII", tag, 4, 1, size))
    elif kind == "JPEG":
        small = _with(small, small.find(b"\xff\xc0") + 5, struct.pack(">HH", height, width))
    elif kind == "GIF":
        small = _with(small, 6, struct.pack("<HH", width, height))
    elif kind == "BMP":
        small = _with(small, 18, struct.pack("<ii", width, -height))
    elif kind == "WEBP":
        small = _with(small, 21, struct.pack("<I", (width - 1) | (height - 1) << 14))
    elif kind == "JPEG2000":
        at = small.find(b"\xff\x4f\xff\x51") + 8
        small = _with(small, at, struct.pack(">II", width, height))
    elif kind == "AVIF":
        small = _with(small, small.find(b"ispe") + 8, struct.pack(">II", width, height))
    return small


def _with(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM", "JPEG2000", "TIFF", "AVIF"]
)
def test_a_picture_that_unpacks_to_too_much_is_refused_by_its_header(kind: str) -> None:
    _skip_unless_both_know(kind)
    side = 16_000
    content = _of_size(kind, side, side)
    assert len(content) < 20_000
    _refused(content, f"{side}x{side} is more than the 200000000 pixels")
    _refused(content, f"{side}x{side} is more than the 1000 pixels", max_pixels=1000)
    tried("small files that unpack to huge pictures")


def test_the_limits_are_the_callers(rgb: np.ndarray, tmp_path: Path) -> None:
    content = _file(Image.fromarray(rgb), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    assert load_image(path, max_pixels=WIDTH * HEIGHT, max_bytes=len(content)).size
    for form in (path, content, Image.open(path)):
        _refused(
            form, f"40x29 is more than the {WIDTH * HEIGHT - 1}", max_pixels=WIDTH * HEIGHT - 1
        )
    _refused(path, f"{len(content)} bytes are more", max_bytes=len(content) - 1)


def test_pictures_beyond_opencvs_own_limit_are_ours_to_refuse() -> None:
    _refused(_png_bomb(40_000, 40_000), "PNG", max_pixels=10**10)
    tried("small files that unpack to huge pictures")


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_fewer_bits_in_sixteen_are_scaled_by_what_there_is(suffix: str, bits: int) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    stored = ramp << (bits - 8)
    for image in (stored, np.dstack([stored] * 3)):
        content = cv2.imencode(suffix, image)[1].tobytes()
        if suffix == ".tiff" and image.ndim == 3:
            continue
        np.testing.assert_array_equal(load_image(content)[..., 0], ramp)
    np.testing.assert_array_equal(load_image(Image.fromarray(stored))[..., 0], ramp)


def test_color_tiff_of_few_bits_is_read_dark_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for top, records in ((4095, 1), (65535, 0)):
        caplog.clear()
        image = np.full((8, 8, 3), top, np.uint16)
        assert load_image(cv2.imencode(".tiff", image)[1].tobytes()).max() == top >> 8
        assert len(caplog.records) == records


def test_heic_is_read_where_pillow_heif_is_there(
    rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    into = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(rgb)).save(into, quality=95, exif=exif.tobytes())
    found = load_image(into.getvalue())
    turned = np.rot90(rgb, -1)
    assert found.shape == turned.shape
    assert np.abs(found.astype(int) - turned).mean() < 4
    _refused(into.getvalue(), "40x29 is more|29x40 is more", max_pixels=WIDTH * HEIGHT - 1)
    _refused(into.getvalue()[:200], "damaged HEIC file")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    _refused(into.getvalue(), r"HEIC pictures need pillow-heif: pip install 'fer-sdk\[heif\]'")


class _Upload:
    """As web frameworks give it: a few bytes at a time, and no name that is a path."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(min(size, 100) if size >= 0 else 100)


class _AsyncUpload:
    async def read(self, size: int = -1) -> bytes:
        return b""


def test_what_can_be_read_from_is_an_image(rgb: np.ndarray, tmp_path: Path) -> None:
    content = _file(Image.fromarray(rgb), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    for stream in (io.BytesIO(content), _Upload(content)):
        np.testing.assert_array_equal(load_image(stream), rgb)
    with path.open("rb") as stream, tempfile.SpooledTemporaryFile() as spooled:
        np.testing.assert_array_equal(load_image(stream), rgb)
        _refused(stream, r"^BufferedReader: empty, or read to its end already: seek\(0\)")
        stream.seek(0)
        _refused(stream, "more than the 10 bytes", max_bytes=10)
        spooled.write(content)
        spooled.seek(0)
        np.testing.assert_array_equal(load_image(spooled), rgb)
    _refused(stream, "^BufferedReader: cannot be read: read of closed file")
    _refused(io.BytesIO(b"no picture"), "^BytesIO of 10 bytes: not a picture")
    _refused(io.StringIO("text"), "gives str, not bytes; open it in binary mode")
    _refused(_AsyncUpload(), r"gives coroutine, not bytes; pass await upload\.read\(\)")


def test_what_holds_an_image_is_refused_with_the_way_to_it() -> None:
    tensor = pytest.importorskip("torch").zeros(3, 8, 8)
    _refused(tensor, r"^Tensor is not an image.*permute\(1, 2, 0\)")
    _refused("data:image/png;base64,iVBORw0KGgo=", r"base64\.b64decode")
    for address in ("http://a.org/x.jpg", "s3://bucket/x.jpg", "file:///x.jpg"):
        _refused(address, f"^{address}: fer-sdk never uses the network")
    _refused(["a.jpg", "b.jpg"], "predict_batch")


def test_a_video_is_refused_with_what_reads_it(tmp_path: Path) -> None:
    video = tmp_path / "talk.MP4"
    video.write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41")
    _refused(video, "it is a video: fer video and FerPipeline.stream take it")
    _refused(video, "bytes are more .* it is a video", max_bytes=4)


def test_native_libraries_say_nothing_and_stderr_works(rgb: np.ndarray) -> None:
    """In a process of its own, because what is captured here would hide the file descriptor."""
    code = """
import io, os, sys
import numpy as np
from PIL import Image
from fer_sdk.errors import ImageError
from fer_sdk.image.load import load_image

noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
def file(kind, **how):
    into = io.BytesIO()
    Image.fromarray(noise).save(into, kind, **how)
    return into.getvalue()

damaged = bytearray(file("JPEG"))
damaged[len(damaged) // 2 : len(damaged) // 2 + 40] = bytes(40)
png = bytearray(file("PNG"))
png[len(png) // 2] ^= 1
floats = Image.fromarray(noise[..., 0].astype(np.float32))
tiff = io.BytesIO()
floats.save(tiff, "TIFF")
lzw = bytearray(file("TIFF", compression="tiff_lzw"))
lzw[300:340] = bytes(range(200, 240))
odd = [bytes(damaged), bytes(png), bytes(lzw), file("PNG", icc_profile=b"x" * 200)]
for content in (*odd, tiff.getvalue()):
    try:
        load_image(content)
    except ImageError as error:
        print(error)
print("python", file=sys.stderr, flush=True)
os.write(2, b"descriptor\\n")
import ctypes
libc = ctypes.CDLL(None)
libc.perror(b"c")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stderr.splitlines()
    assert lines[:2] == ["python", "descriptor"]
    assert [line.split(":")[0] for line in lines[2:]] == ["c"]


def test_many_threads_decode_at_once(rgb: np.ndarray) -> None:
    content = _file(Image.fromarray(rgb), "PNG")
    found: list[bool] = []

    def work() -> None:
        for _ in range(20):
            found.append(bool((load_image(content) == rgb).all()))
            _refused(content[:-30], "picture of")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 160


_SEEDS = [
    _file(Image.fromarray(np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)), kind)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
] + [_of_size("PNG", 5, 5), struct.pack(">I4s4sI", 16, b"ftyp", b"avif", 0) + b"\0\0\0\x08meta"]
_few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_few
@given(seed=st.sampled_from(_SEEDS), data=st.data())
def test_no_damage_does_more_than_raise_our_error(seed: bytes, data: st.DataObject) -> None:
    content = bytearray(seed)
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(
        st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)
    ):
        content[place] = value
    end = data.draw(st.one_of(st.just(len(content)), places))
    try:
        found = load_image(bytes(content[:end]), max_pixels=10**6)
    except FerError as error:
        assert str(error).startswith("picture of ")  # noqa: PT017
    else:
        assert found.dtype == np.uint8
        assert found.ndim == 3
        assert found.shape[2] == 3


@_few
@given(st.binary(max_size=200))
@example(b"\xff\xd8\xff\xd9")
@example(b"BM" + bytes(12))
@example(b"II*\0\xff\xff\xff\xff")
@example(b"\0\0\0\x0cjP  \r\n\x87\n")
@example(b"P6 999999999 999999999 255 ")
def test_bytes_that_are_no_picture_are_refused(content: bytes) -> None:
    _refused(content, f"^picture of {len(content)} bytes: ")


@_few
@given(st.text(st.characters(max_codepoint=0x2FF), max_size=20))
def test_any_text_is_a_path_that_is_not_there(path: str) -> None:
    if not path or not Path(path.replace("\0", "")).exists():
        with pytest.raises(ImageError):
            load_image(path)


@_few
@given(
    np_st.arrays(
        st.sampled_from([np.uint8, np.int16, np.float32, np.bool_]),
        np_st.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    st.sampled_from(["bgr", "rgb"]),
)
def test_an_array_is_an_image_or_refused(array: np.ndarray, color: str) -> None:
    fits = (
        array.dtype == np.uint8
        and array.size > 0
        and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)))
    )
    if fits:
        found = load_image(array, color=color)  # type: ignore[arg-type]
        assert found.shape == (*array.shape[:2], 3)
        colored = array if array.ndim == 3 else array[..., None]
        order = [0, 0, 0] if colored.shape[2] == 1 else [2, 1, 0] if color == "bgr" else [0, 1, 2]
        np.testing.assert_array_equal(found, colored[..., order])
    else:
        _refused(array, "array of ", color=color)
