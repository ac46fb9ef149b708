"""Odd pictures through the whole pipeline: the right answer, or an error that names the input.

``test_image.py`` looks at the reading of single pictures; here it is what comes out at the end, and
what only shows in large numbers.
"""

from __future__ import annotations

import io
import math
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from PIL import Image, ImageOps

import tiny_models
from checks import tried
from fer_sdk import Face, FerPipeline, ImageError, SettingError, load_image
from fer_sdk.detectors.mediapipe import installed_version, refusal

_CASES = Path(__file__).resolve().parents[1] / "fuzz" / "cases" / "decode"
_few = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_models.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=["blazeface", "mediapipe", None], ids=str)
def pipeline(request: pytest.FixtureRequest, models: tuple[Path, Path]) -> Iterator[FerPipeline]:
    if request.param == "mediapipe" and (reason := refusal(installed_version())):
        pytest.skip(reason)
    with FerPipeline(
        detector=request.param, emotion_model=models[0], landmarks_model=models[1], threads=1
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain(models: tuple[Path, Path]) -> Iterator[FerPipeline]:
    with FerPipeline(
        detector=None, emotion_model=models[0], landmarks_model=models[1], threads=1
    ) as opened:
        yield opened


def _sound(faces: list[Face], width: int, height: int) -> None:
    for face in faces:
        x, y, across, down = face.box
        assert x >= 0
        assert y >= 0
        assert 0 < across <= width - x + 1e-3
        assert 0 < down <= height - y + 1e-3
        assert sum(face.scores.values()) == pytest.approx(1, abs=1e-4)
        assert all(math.isfinite(number) for point in face.landmarks for number in point)


_SIDES = [(1, 1), (1, 2), (3, 1), (1, 129), (2, 32_766), (32_767, 1), (1, 70_000), (70_000, 2)]


@pytest.mark.parametrize("size", [*_SIDES, (6000, 8000)], ids=str)
def test_every_size_gets_an_answer(pipeline: FerPipeline, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    faces = pipeline.predict(image)
    _sound(faces, size[1], size[0])
    if pipeline.info.detector is None:
        assert len(faces) == 1
    tried("pictures of extreme sizes, with each detector")


@_few
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([0, 1, 3, 4]), st.randoms())
def test_small_pictures_get_an_answer(
    pipeline: FerPipeline, height: int, width: int, channels: int, random: object
) -> None:
    shape = (height, width, channels) if channels else (height, width)
    seed = random.getrandbits(32)  # type: ignore[attr-defined]
    _sound(
        pipeline.predict(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)),
        width,
        height,
    )
    tried("small pictures of any size, with each detector")


@_few
@given(st.data())
def test_the_layout_of_an_array_does_not_matter(plain: FerPipeline, data: st.DataObject) -> None:
    shape = data.draw(np_st.array_shapes(min_dims=2, max_dims=2, max_side=12))
    shape = (*shape, data.draw(st.sampled_from([1, 3, 4])))
    array = np.random.default_rng(0).integers(0, 256, tuple(4 * side for side in shape), np.uint8)
    array = array if data.draw(st.booleans()) else np.asfortranarray(array)
    steps = [data.draw(st.sampled_from([-4, -1, 1, 2, 4])) for _ in shape]
    view = array[tuple(slice(None, None, step) for step in steps)][tuple(slice(s) for s in shape)]
    if data.draw(st.booleans()):
        view = view.transpose(1, 0, 2)
    if data.draw(st.booleans()):
        view = np.broadcast_to(view[:1], view.shape)
    view.flags.writeable = False
    before = view.copy()
    color = data.draw(st.sampled_from(["bgr", "rgb"]))
    np.testing.assert_array_equal(
        load_image(view, color=color), load_image(np.ascontiguousarray(before), color=color)
    )
    assert plain.predict(view, color=color) == plain.predict(before, color=color)
    np.testing.assert_array_equal(view, before)
    tried("arrays with any strides, read-only")


@_few
@given(
    np_st.arrays(
        st.one_of(
            np_st.boolean_dtypes(),
            np_st.integer_dtypes(),
            np_st.unsigned_integer_dtypes(sizes=(16, 32, 64)),
            np_st.floating_dtypes(),
            np_st.complex_number_dtypes(),
            np_st.byte_string_dtypes(max_len=3),
            np_st.datetime64_dtypes(),
            np_st.array_dtypes(),
        ),
        st.sampled_from([(4, 5), (4, 5, 3), (0, 5), (4, 5, 4), (1, 1), ()]),
    )
)
@example(np.full((4, 5, 3), np.nan))
@example(np.full((4, 5, 3), np.inf, np.float32))
@example(np.zeros((4, 5, 3), ">u2"))
def test_numbers_that_are_no_brightness_are_refused(plain: FerPipeline, array: np.ndarray) -> None:
    if array.dtype == np.uint8:
        return
    with pytest.raises(ImageError, match=r"^array of ") as caught:
        plain.predict(array)
    assert str(array.dtype) in str(caught.value)
    (entry,) = plain.predict_batch([array])
    assert isinstance(entry, ImageError)
    assert str(entry).startswith("images[0]: array of ")
    tried("arrays of other types, NaN and infinity among them")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_face_is_found_upright_whatever_the_orientation(
    models: tuple[Path, Path], example_photo: Path, tmp_path: Path, kind: str, orientation: int
) -> None:
    if kind in ("PNG", "WEBP") and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV 4 reads the orientation of JPEG and TIFF files only")
    if kind == "AVIF" and not cv2.haveImageWriter("x.avif"):
        pytest.skip("this OpenCV has no AVIF")
    upright = Image.open(example_photo).convert("RGB")
    # How the camera was held: the pixels are turned, and the tag says how to turn them back.
    back = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = back
    tagged = io.BytesIO()
    upright.save(tagged, "PNG", exif=exif)
    stored = ImageOps.exif_transpose(Image.open(tagged))
    exif[0x0112] = orientation
    path = tmp_path / "photo"
    stored.save(path, kind, exif=exif, quality=90)
    with FerPipeline(
        detector="blazeface", emotion_model=models[0], landmarks_model=models[1], threads=1
    ) as pipeline:
        (expected,) = pipeline.predict(example_photo)
        for form in (path, path.read_bytes(), Image.open(path)):
            (face,) = pipeline.predict(form)
            assert face.box == pytest.approx(expected.box, abs=4)
            tried("turned photos, in which the face is where it is upright")


@pytest.mark.parametrize("name", ["photo.png", "photo.tar.gz", "photo", "photo.exe", ".photo"])
@pytest.mark.parametrize("case", ["plain.jpg", "lossless.webp", "plain.tif", "plain.gif"])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, case: str, name: str) -> None:
    content = (_CASES / case).read_bytes()
    (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(load_image(tmp_path / name), load_image(content))
    tried("wrongly named files")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_picture_of_several_is_read(kind: str) -> None:
    if kind == "AVIF" and not cv2.haveImageWriter("x.avif"):
        pytest.skip("this OpenCV has no AVIF")
    # Big areas of one color, so that lossy files keep them apart.
    frames = [Image.new("RGB", (32, 24), color) for color in ("red", "lime", "blue")]
    into = io.BytesIO()
    how = {} if kind == "AVIF" else {"lossless": True}
    frames[0].save(into, kind, save_all=True, append_images=frames[1:], **how)
    found = load_image(into.getvalue())
    assert found.shape == (24, 32, 3)
    assert np.abs(found.astype(int) - (255, 0, 0)).max() <= 8
    tried("animated files, of which the first picture is read")


_NOT_PICTURES = {
    "film.mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "page.html": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "text.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "paper.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "sheet.zip": b"PK\3\4\x14\0\0\0",
    "raw.dng.gz": b"\x1f\x8b\x08\0",
    "face.heic": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
    "face.jxl": b"\xff\x0a\0\0",
    "none.exr": b"\x76\x2f\x31\x01",
    "scene.hdr": b"#?RADIANCE\n",
    "zeros.png": bytes(5000),
    "ones.jpg": b"\xff" * 5000,
}


@pytest.mark.parametrize("name", _NOT_PICTURES)
def test_files_of_other_kinds_are_refused_by_name(
    plain: FerPipeline, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(_NOT_PICTURES[name])
    with pytest.raises(ImageError) as caught:
        plain.predict(path)
    assert str(caught.value).startswith(f"{path}: ")
    tried("files of other kinds")


def _tiff(tags: dict[int, int], pixels: bytes) -> bytes:
    """Of 4x4 pixels; tags of 16 bits, beside those that every file has."""
    given = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1, 278: 4, 279: len(pixels)} | tags
    start = 8 + 2 + 12 * (len(given) + 1) + 4
    entries = sorted({**given, 273: start}.items())
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + directory + bytes(4) + pixels


def _bmp(*masks: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 32, 3, 16, 0, 0, 0, 0)
    file = struct.pack("<2sIHHI", b"BM", 82, 0, 0, 66)
    return file + header + struct.pack("<III", *masks) + b"\x10\x80\xf0\0" * 4


def _tiff_of(array: np.ndarray) -> bytes:
    return cv2.imencode(".tif", array)[1].tobytes()


_OTHER_MEANINGS = {
    "numbers with a sign": (_tiff({339: 2}, bytes(range(16))), "with a sign"),
    "numbers with a sign, three": (_tiff_of(np.ones((4, 4, 3), np.int16)), "unknown pixel mode"),
    "fractions": (_tiff_of(np.full((4, 4), 0.5, np.float32)), "a fraction"),
    "L*a*b*": (_tiff({262: 8, 277: 3}, bytes(48)), r"L\*a\*b\*"),
    "odd order": (_bmp(0xFF, 0xFF0000, 0xFF00), "Unsupported BMP bitfields layout"),
}


@pytest.mark.parametrize("what", _OTHER_MEANINGS)
def test_numbers_that_mean_other_colors_are_refused(what: str) -> None:
    content, told = _OTHER_MEANINGS[what]
    # A decoder takes each for a picture, which is dark or has blue faces.
    with pytest.raises(ImageError, match=f"^picture of {len(content)} bytes.*{told}"):
        load_image(content)
    tried("files whose numbers mean other colors")


def test_numbers_of_known_meaning_are_read() -> None:
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4)
    for content, factor in (
        (_tiff({}, gray.tobytes()), 1),
        (_tiff({339: 1}, gray.tobytes()), 1),
        (b"P5 4 4 255\n" + gray.tobytes(), 1),
        (b"P5 4 4 65535\n" + (gray.astype(">u2") * 257).tobytes(), 1),
        (b"P5 4 4 15\n" + gray.tobytes(), 17),
        (b"P6\n# dim\n4 4\n# x\n15\n" + np.repeat(gray, 3).tobytes(), 17),
        (b"P5 4 4 1000\n" + gray.astype(">u2").tobytes(), 255 / 1000),
        (b"P2 4 4 15\n" + " ".join(map(str, gray.flat)).encode() + b"\n", 17),
    ):
        found = load_image(content)[..., 0].astype(float)
        assert np.abs(found - gray * factor).max() <= 1
    assert load_image(_bmp(0xFF0000, 0xFF00, 0xFF))[0, 0].tolist() == [0xF0, 0x80, 0x10]


def _scans(count: int, after: bytes = b"") -> bytes:
    """A JPEG file that goes over the picture so many times more, then what is after its end."""
    into = io.BytesIO()
    Image.new("L", (16, 16), 90).save(into, "JPEG", progressive=True)
    content = into.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * count + b"\xff\xd9" + after


def test_a_jpeg_that_is_never_done_is_refused() -> None:
    # Of 200 million pixels, each of these scans of a dozen bytes takes a twentieth of a second.
    with pytest.raises(ImageError, match="more than 100 times"):
        load_image(_scans(100_000))
    # A film that a phone puts behind the picture is not part of it, whatever it holds.
    expected = load_image(_scans(1))
    np.testing.assert_array_equal(load_image(_scans(50)), expected)
    film = b"\xff\xda\xff\xd9" * 1000
    np.testing.assert_array_equal(load_image(_scans(50, film)), expected)
    tried("small files that would take hours")


def _tiff_of_one_part(entries: int, size: int) -> bytes:
    """Each of its entries is the whole rest of the file."""
    start = 8 + 2 + 12 * entries + 4
    directory = (struct.pack("<HHII", 1000 + entry, 1, size, start) for entry in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + b"".join(directory) + bytes(4 + size)


_MONOTONOUS = {
    "JPEG, filling": b"\xff\xd8\xff" + b"\xff" * 4_000_000,
    "JPEG, nothing": b"\xff\xd8\xff" + bytes(4_000_000),
    "JPEG, parts": b"\xff\xd8" + b"\xff\xe1\0\2" * 2_000_000,
    "PNG, parts": (_CASES / "plain.png").read_bytes()[:33] + b"\0\0\0\0tEXt\0\0\0\0" * 2_000_000,
    "GIF, notes": b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\1a\0" * 2_000_000,
    "JPEG 2000, parts": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * 2_000_000,
    "TIFF, one part": _tiff_of_one_part(20_000, 1_000_000),
    "AVIF, parts": b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * 2_000_000,
    "PNM, spaces": b"P6\n" + b" " * 4_000_000,
    "PNM, notes": b"P6\n" + b"#\n" * 2_000_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", _MONOTONOUS)
def test_a_file_of_one_thing_alone_is_refused_in_time(what: str) -> None:
    before = time.process_time()
    with pytest.raises(ImageError, match=f"damaged {what.split(',', maxsplit=1)[0]} file"):
        load_image(_MONOTONOUS[what])
    # One that takes time with the square of its length would take hours.
    assert time.process_time() - before < 10
    tried("small files that would take hours")


# What is left of a JPEG file is read, with a warning.
@pytest.mark.parametrize(
    "case", sorted(path.name for path in _CASES.iterdir() if path.suffix != ".jpg")
)
def test_a_file_cut_off_anywhere_gives_no_half_picture(case: str) -> None:
    content = (_CASES / case).read_bytes()
    try:
        whole = load_image(content)
    except ImageError:
        return
    for length in range(len(content)):
        try:
            found = load_image(content[:length])
        except ImageError as error:
            assert str(error).startswith(f"picture of {length} bytes: ")  # noqa: PT017
        else:
            # What is missing was not part of the picture.
            np.testing.assert_array_equal(found, whole)
        tried("files that were cut off")


_MEMORY = """
import resource, sys
from pathlib import Path
from fer_sdk import ImageError, load_image

cases = sorted(Path(sys.argv[1]).iterdir())

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

for path in cases:
    try:
        load_image(path)
    except ImageError:
        pass
before = peak()
count = 0
for path in cases:
    content = path.read_bytes()
    for at in range(0, len(content) - 4, 2):
        for claim in (b"\\x3f\\xff\\xff\\xff", b"\\xff\\xff\\xff\\x3f"):
            try:
                load_image(content[:at] + claim + content[at + 4 :], max_pixels=2**20)
            except ImageError:
                pass
            count += 1
print(count, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in another unit")
def test_a_small_file_cannot_take_much_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(_CASES)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    count, megabytes = map(int, done.stdout.split())
    assert megabytes < 100
    tried("files with a huge number in any place", count)


def _linux_only(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(sys.platform != "linux", reason=reason)


@_linux_only("other systems have other limits of names")
def test_names_in_any_language_and_of_any_length(tmp_path: Path, plain: FerPipeline) -> None:
    content = (_CASES / "plain.png").read_bytes()
    expected = plain.predict(content)
    deep = tmp_path
    while len(str(deep)) < 3900 - 120:
        deep = deep / ("d" * 100)
    os.makedirs(deep)  # noqa: PTH103
    names = [
        tmp_path / "Gesicht ğörüntü 顔 صورة 😀.png",
        tmp_path / "two\nlines\t\x1b[31m.png",
        tmp_path / os.fsdecode(b"latin-\xe9.png"),
        deep / ("x" * (3990 - len(str(deep)))),
        tmp_path / ("n" * 255),
    ]
    for path in names:
        path.write_bytes(content)
        assert plain.predict(path) == expected
        assert plain.predict(str(path)) == expected
        path.unlink()
        with pytest.raises(ImageError, match="cannot be read: No such file") as caught:
            plain.predict(path)
        assert str(caught.value).isprintable()
        assert caught.value.args[0].encode("utf-8")
        tried("names in any language and of any length", 3)
    for path in (tmp_path / ("n" * 256), Path("/" + "x/" * 2500), Path("x" * 100_000)):
        with pytest.raises(ImageError, match="cannot be read: File name too long"):
            plain.predict(path)
        tried("names in any language and of any length")


@_linux_only("named pipes, sockets and devices")
@pytest.mark.timeout(60)
def test_what_is_no_file_is_refused_and_not_waited_for(
    tmp_path: Path, plain: FerPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
    Path("gone.png").symlink_to("nowhere")
    Path("loop.png").symlink_to("loop.png")
    Path("folder.png").mkdir()
    Path("file.png").write_bytes((_CASES / "plain.png").read_bytes())
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        for name, told in {
            "pipe.png": "neither a file",
            "socket.png": "neither a file",
            "/dev/zero": "neither a file",
            "/dev/tty": "neither a file",
            "folder.png": "a folder",
            "gone.png": "No such file",
            "loop.png": "cannot be read",
            "file.png/x": "cannot be read",
            "/proc/self/mem": "empty",
            "/proc/version": "empty",
            "/proc/kmsg": "empty",
            "": "a folder",
        }.items():
            with pytest.raises(ImageError, match=told) as caught:
                plain.predict(name)
            assert str(caught.value).startswith(f"{name or repr(name)}: ")
            tried("paths that lead to no file")


@_linux_only("the device that is always full")
def test_a_full_disk_behind_the_output_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fer_sdk", "info"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    told = "fer: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)
    tried("disks that are full while results are printed")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users as on Unix here")
def test_a_file_without_the_right_to_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes((_CASES / "plain.png").read_bytes())
    secret.chmod(0)
    code = f"""
import os
from fer_sdk import ImageError, load_image
import fer_sdk.image.load
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)  # whom root becomes may not read it either
try:
    load_image({str(secret)!r})
except ImageError as error:
    print(error)
"""
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path(folder.anchor) and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == f"{secret}: cannot be read: Permission denied\n", done.stderr
    tried("files without the right to read them")


class _NamedInBytes:
    def __fspath__(self) -> bytes:
        return b"/nowhere/photo.png"


def _released() -> memoryview:
    view = memoryview(b"\x89PNG")
    view.release()
    return view


def _closed() -> Image.Image:
    image = Image.open(_CASES / "plain.png")
    image.close()
    return image


@pytest.mark.parametrize(
    "thing",
    [
        _NamedInBytes(),
        _released(),
        _closed(),
        memoryview(np.zeros((4, 5, 3), np.uint8))[::2],
        Path,
        "photo.png" * 10_000,
        np.ma.masked_all((2, 3), np.uint8)[0, 0],
        np.recarray(3, "u1,u1"),
        range(10),
        b"",
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_other_odd_things_are_refused(plain: FerPipeline, thing: object) -> None:
    with pytest.raises(ImageError):
        plain.predict(thing)  # type: ignore[arg-type]
    tried("other things that are no pictures")


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV",
     "I", "F", "I;16", "I;16B", "I;16L"],
)  # fmt: skip
def test_every_mode_of_pillow_gets_an_answer(plain: FerPipeline, mode: str) -> None:
    try:
        faces = plain.predict(Image.new(mode, (20, 10)))
    except ImageError as error:
        assert str(error).startswith(f"Pillow image ({mode}, 20x10)")  # noqa: PT017
        assert mode in {"I", "F", "LAB", "La", "RGBa"}
    else:
        assert len(faces) == 1
    tried("modes of Pillow images")


def test_the_limits_are_parameters_of_the_pipeline(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    Image.fromarray(noise).save(path)
    size = path.stat().st_size

    def opened(**limits: int) -> FerPipeline:
        return FerPipeline(
            detector=None, emotion_model=models[0], landmarks_model=models[1], **limits
        )

    with opened(max_bytes=size, max_pixels=3000) as pipeline:
        assert len(pipeline.predict(path)) == 1
    with opened(max_bytes=size - 1) as pipeline:
        with pytest.raises(ImageError, match=f"{size} bytes are more than the {size - 1}"):
            pipeline.predict(path)
        (entry,) = pipeline.predict_batch([path])
        assert isinstance(entry, ImageError)
    with opened(max_pixels=2999) as pipeline, pytest.raises(ImageError, match="60x50 is more"):
        pipeline.predict(path)
    for wrong in ({"max_bytes": 0}, {"max_pixels": -1}):
        with pytest.raises(SettingError, match=f"{next(iter(wrong))} must be at least 1"):
            opened(**wrong)
