"""The page of examples/web gives in Chromium what the SDK gives, and asks no other host."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest

import tiny_models
from fer_sdk import FerPipeline
from fer_sdk.detectors.blazeface import BlazeFaceDetector
from fer_sdk.detectors.combined import NEAR_MIN_SCORE, CombinedDetector
from fer_sdk.detectors.upright import upright_view
from fer_sdk.detectors.yunet import YuNetDetector
from fer_sdk.image.crop import CropGeometry, align_face, crop_around, crop_gray
from fer_sdk.image.load import load_image
from fer_sdk.models.packaged import bundled
from fer_sdk.types import Box

Pixels = npt.NDArray[np.uint8]

WEB = Path(__file__).resolve().parent.parent / "examples" / "web"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
NPM = shutil.which("npm") and shutil.which("node")

# On a busy machine the browser takes minutes for what else takes seconds.
pytestmark = [
    pytest.mark.web,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not NPM, reason="node or npm is not here: apt-get install nodejs npm"),
]
PATIENCE = 240

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="chromium or chromedriver is not here: apt-get install chromium chromium-driver",
)


@contextmanager
def served(*options: str) -> Iterator[str]:
    """Run the command of the README, with options more; gives the address that it prints."""
    install, start = commands()
    installed = WEB / "node_modules" / ".package-lock.json"
    lock = WEB / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(install, cwd=WEB, check=True, timeout=PATIENCE)
    with subprocess.Popen(
        [*start, "--", "--port", "0", *options],
        cwd=WEB,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            addresses = (re.search(r"http://\S+", line) for line in process.stdout)
            address = next(filter(None, addresses), None)
            assert address is not None, "the server said no address"
            yield address[0]
        finally:
            # npm does not hand the signal on to its children on every platform.
            os.killpg(process.pid, signal.SIGTERM)


def commands() -> tuple[list[str], list[str]]:
    """How the README says that the page is installed and started."""
    command = re.search(r"^ {4}cd examples/web && (.+)$", (WEB / "README.md").read_text(), re.M)
    assert command is not None, "README.md has no command"
    install, start = (part.split() for part in command[1].split(" && "))
    return install, start


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as url:
        yield url


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, example_photo: Path, address: str
) -> Iterator[Any]:
    """Headless Chromium on the page; its camera shows the example photo."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    film.write_bytes(example_photo.read_bytes())
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",  # it does not start as root, as which containers run
        "--disable-dev-shm-usage",
        "--window-size=1200,1000",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
        # Should the page try after all, nothing leaves this machine.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # Its path is given, so that selenium does not look for one to download.
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        driver.set_page_load_timeout(PATIENCE)
        driver.get(address)
        yield driver
    finally:
        driver.quit()


def wait(browser: Any, condition: Callable[[Any], Any]) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, PATIENCE).until(condition)


def said(browser: Any) -> tuple[str, str]:
    """What the page says, and what kind of message that is."""
    status = browser.find_element("id", "status")
    return status.text, status.get_attribute("class")


def pick(browser: Any, picture: Path) -> tuple[str, str]:
    """Pick a picture as a user does, and wait for what the page says of it."""
    browser.find_element("id", "pick").send_keys(str(picture))
    wait(browser, lambda page: picture.name in said(page)[0] and said(page)[1] != "busy")
    return said(browser)


def result(browser: Any) -> dict[str, Any]:
    """What the page shows as JSON."""
    shown = json.loads(browser.find_element("id", "json").get_attribute("textContent"))
    assert isinstance(shown, dict)
    return shown


def assert_agrees(
    page: list[dict[str, Any]], sdk: list[dict[str, Any]], *, box: float, landmark: float
) -> None:
    """Faces of the page against those of the SDK; tolerances in pixels."""
    assert len(page) == len(sdk)
    for found, expected in zip(page, sdk, strict=True):
        assert found.keys() == expected.keys()
        assert found["box"] == pytest.approx(expected["box"], abs=box)
        assert found["detection_score"] == pytest.approx(expected["detection_score"], abs=0.01)
        assert list(found["landmarks"]) == list(expected["landmarks"])
        for name, point in expected["landmarks"].items():
            assert found["landmarks"][name] == pytest.approx(point, abs=landmark), name
        assert list(found["scores"]) == list(expected["scores"])
        assert found["scores"] == pytest.approx(expected["scores"], abs=0.02)
        assert found["emotion"] == expected["emotion"]
        assert found["confidence"] == max(found["scores"].values())


@pytest.fixture(scope="module")
def detector() -> Iterator[CombinedDetector]:
    """The SDK's where MediaPipe is not installed: the page runs the same files."""
    combined = CombinedDetector(BlazeFaceDetector(NEAR_MIN_SCORE), YuNetDetector())
    yield combined
    combined.close()


@pytest.fixture(scope="module")
def sdk(detector: CombinedDetector) -> Iterator[FerPipeline]:
    """What the page has to agree with."""
    with FerPipeline(detector=detector, precision="int8", device="cpu") as pipeline:
        yield pipeline


def as_it_is(photo: Pixels) -> Pixels:
    return photo


def crowd(photo: Pixels) -> Pixels:
    """25 faces of 170 to 27 pixels, of which only the widest look finds the smallest."""
    portrait = photo[30:230, 130:330]
    picture = np.full((1200, 1920, 3), 128, np.uint8)
    top = 20
    for row in range(5):
        sides = [round(340 * 0.93 ** (5 * row + column)) for column in range(5)]
        for column, side in enumerate(sides):
            left = 20 + 370 * column
            small = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
            picture[top : top + side, left : left + side] = small
        top += sides[0] + 40
    return picture


def turned(photo: Pixels, degrees: float) -> Pixels:
    turn = cv2.getRotationMatrix2D((230, 130), -degrees, 1)
    turn[:, 2] += (26, 126)
    return np.asarray(cv2.warpAffine(photo, turn, (512, 512), borderValue=(90, 90, 90)), np.uint8)


def tilted(photo: Pixels) -> Pixels:
    return turned(photo, 60)


def lying(photo: Pixels) -> Pixels:
    return turned(photo, 90)


def upside_down(photo: Pixels) -> Pixels:
    return turned(photo, 180)


def tilted_so_far_that_yunet_sees_nothing(photo: Pixels) -> Pixels:
    return turned(photo, 140)


def dark(photo: Pixels) -> Pixels:
    """A face that has to be confirmed."""
    return (photo * 0.05).astype(np.uint8)


def dark_and_lying(photo: Pixels) -> Pixels:
    """Only BlazeFace sees it, and takes it for an upright face."""
    return (turned(photo, 270) * 0.06).astype(np.uint8)


def tight_crop(photo: Pixels) -> Pixels:
    """So tight that a face is found only with some gray around it."""
    face = photo[106:158, 204:256]
    return np.asarray(cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)


def tighter_crop(photo: Pixels) -> Pixels:
    """Found only with much gray around it."""
    face = turned(photo, 30)[233:279, 233:279]
    return np.asarray(cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)


def tight_crop_of_a_lying_face(photo: Pixels) -> Pixels:
    """Only BlazeFace sees it, with some gray around it."""
    face = turned(photo, 90)[230:282, 230:282]
    return np.asarray(cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)


@needs_browser
@pytest.mark.parametrize(
    ("scene", "count"),
    [
        (as_it_is, 1),
        (crowd, 25),
        (tilted, 1),
        (lying, 1),
        (upside_down, 1),
        (tilted_so_far_that_yunet_sees_nothing, 1),
        (dark, 1),
        (tight_crop, 1),
        (tighter_crop, 1),
    ],
)
def test_the_page_finds_what_the_sdk_finds(
    browser: Any,
    sdk: FerPipeline,
    example_photo: Path,
    tmp_path: Path,
    scene: Callable[[Pixels], Pixels],
    count: int,
) -> None:
    path = tmp_path / f"{scene.__name__}.png"
    assert cv2.imwrite(str(path), scene(cv2.imread(str(example_photo))))
    shown = shown_as_by(sdk, browser, path)
    assert len(shown) == count
    with FerPipeline(precision="int8", device="cpu") as pipeline:
        default = [face.to_dict() for face in pipeline.predict(path)]
    # MediaPipe cuts its boxes to whole pixels, and the crop follows.
    assert_agrees(shown, default, box=3.0, landmark=5.0)


@needs_browser
@pytest.mark.parametrize("scene", [dark_and_lying, tight_crop_of_a_lying_face])
def test_the_page_finds_what_only_blazeface_and_a_turn_find(
    browser: Any,
    sdk: FerPipeline,
    example_photo: Path,
    tmp_path: Path,
    scene: Callable[[Pixels], Pixels],
) -> None:
    """So hard that MediaPipe's whole pixels make a difference, and the roll one of two pixels."""
    path = tmp_path / f"{scene.__name__}.png"
    assert cv2.imwrite(str(path), scene(cv2.imread(str(example_photo))))
    assert len(shown_as_by(sdk, browser, path, landmark=2.0)) == 1


def shown_as_by(
    sdk: FerPipeline, browser: Any, path: Path, *, landmark: float = 0.5
) -> list[dict[str, Any]]:
    """The faces that the page shows of a picture, which are those of the SDK."""
    expected = [face.to_dict() for face in sdk.predict(path)]
    faces = "1 face" if len(expected) == 1 else f"{len(expected)} faces"
    assert pick(browser, path) == (f"{faces} in {path.name}", "")
    shown = result(browser)
    height, width = cv2.imread(str(path)).shape[:2]
    assert (shown["image"], shown["height"], shown["width"]) == (path.name, height, width)
    assert_agrees(shown["faces"], expected, box=0.1, landmark=landmark)
    found: list[dict[str, Any]] = shown["faces"]
    return found


@pytest.fixture
def group(example_photo: Path, tmp_path: Path) -> Path:
    """Three faces of different sizes in a wide picture, one at its edge."""
    photo = cv2.imread(str(example_photo))
    face = photo[30:230, 130:330]
    picture = np.full((360, 777, 3), 90, np.uint8)
    picture[10:350, 40:380] = cv2.resize(face, (340, 340), interpolation=cv2.INTER_CUBIC)
    picture[20:220, 400:600] = face[:, ::-1]
    picture[60:340, 627:] = cv2.resize(face, (280, 280), interpolation=cv2.INTER_CUBIC)[:, 30:180]
    path = tmp_path / "group.png"
    assert cv2.imwrite(str(path), picture)
    return path


def overlap(one: dict[str, float], other: dict[str, float]) -> float:
    """Area that two rectangles of the page share."""
    sides = [
        min(one[at] + one[side], other[at] + other[side]) - max(one[at], other[at])
        for at, side in (("x", "width"), ("y", "height"))
    ]
    return max(sides[0], 0) * max(sides[1], 0)


@needs_browser
def test_several_faces_agree_and_are_all_drawn(browser: Any, sdk: FerPipeline, group: Path) -> None:
    expected = [face.to_dict() for face in sdk.predict(group)]
    assert len(expected) == 3

    assert pick(browser, group)[0] == f"{len(expected)} faces in group.png"

    assert_agrees(result(browser)["faces"], expected, box=0.1, landmark=0.5)
    canvas = browser.find_element("id", "canvas").rect
    boxes = browser.find_elements("class name", "box")
    points = browser.find_elements("class name", "landmark")
    assert (len(boxes), len(points)) == (len(expected), 4 * len(expected))
    scale = canvas["width"] / 777
    for drawn, face in zip(boxes, expected, strict=True):
        rect = drawn.rect
        assert rect["x"] - canvas["x"] == pytest.approx(scale * face["box"]["x"], abs=1.5)
        assert rect["y"] - canvas["y"] == pytest.approx(scale * face["box"]["y"], abs=1.5)
        assert rect["width"] == pytest.approx(scale * face["box"]["width"], abs=1.5)
    titles = [title.rect for title in browser.find_elements("class name", "title")]
    assert len(titles) == len(expected)
    for place, title in enumerate(titles):
        assert overlap(title, canvas) == pytest.approx(title["width"] * title["height"], rel=0.01)
        others = [drawn.rect for index, drawn in enumerate(boxes) if index != place]
        assert all(overlap(title, other) == 0 for other in others + titles[:place])
    cards = browser.find_elements("class name", "card")
    assert [card.find_element("css selector", ".top dt").text for card in cards] == [
        face["emotion"] for face in expected
    ]


@needs_browser
def test_labels_size_geometry_and_convention_come_from_the_model_file(
    browser: Any,
    address: str,
    detector: CombinedDetector,
    example_photo: Path,
    tmp_path: Path,
) -> None:
    about = tiny_models.metadata(
        "emotion",
        labels=("dark", "between", "bright"),
        input_size=24,
        crop=CropGeometry(scale=0.8, shift_x=0.1, shift_y=0.2),
        conventions={"plain": (0.0, 0.0, 0.0), "shady": (20.0, -6.0, 0.0)},
        convention="shady",
    )
    emotion, landmarks = tiny_models.write_models(tmp_path)
    emotion.write_bytes(tiny_models.emotion_model(about))
    with FerPipeline(
        detector=detector, emotion_model=emotion, landmarks_model=landmarks
    ) as pipeline:
        expected = [face.to_dict() for face in pipeline.predict(example_photo)]
    assert [face["emotion"] for face in expected] == ["dark"]  # by the convention only
    options = "--emotion-model", str(emotion), "--landmarks-model", str(landmarks)
    try:
        with served(*options) as url:
            browser.get(url)
            pick(browser, example_photo)
            assert_agrees(result(browser)["faces"], expected, box=0.5, landmark=1.0)
    finally:
        browser.get(address)


@needs_browser
def test_a_model_of_another_format_is_refused_by_name(
    browser: Any, address: str, tmp_path: Path
) -> None:
    model = onnx.load_from_string(tiny_models.emotion_model())
    for entry in model.metadata_props:
        if entry.key == "fer_sdk.format":
            entry.value = "2"
    path = tmp_path / "emotion.onnx"
    onnx.save(model, path)
    try:
        with served("--emotion-model", str(path)) as url:
            browser.get(url)
            wait(browser, lambda page: said(page)[1] == "error")
            assert said(browser)[0] == "emotion.onnx: its format is 2, this page reads 1"
    finally:
        browser.get(address)


@needs_browser
def test_the_camera_shows_faces_until_it_is_stopped(
    browser: Any, sdk: FerPipeline, example_photo: Path
) -> None:
    """The picture of the camera is mirrored, and so it is here."""
    mirrored = np.ascontiguousarray(cv2.imread(str(example_photo))[:, ::-1])
    (expected,) = (face.to_dict() for face in sdk.predict(mirrored))
    allow_camera(browser, "granted")
    camera = browser.find_element("id", "camera")

    camera.click()
    wait(browser, lambda page: "in the camera" in said(page)[0])
    shown = result(browser)
    assert camera.text == "Stop the camera"
    camera.click()
    assert camera.text == "Use the camera"
    assert not browser.find_element("id", "stage").is_displayed()

    (face,) = shown["faces"]
    assert face["emotion"] == expected["emotion"]
    # The camera's frames are not those of the file to the last bit, and may be scaled.
    scale = shown["width"] / 512
    box: Any = expected["box"]
    for name, value in box.items():
        assert face["box"][name] == pytest.approx(value * scale, abs=4 * scale), name


def allow_camera(browser: Any, setting: str) -> None:
    browser.execute_cdp_cmd(
        "Browser.setPermission", {"permission": {"name": "camera"}, "setting": setting}
    )


@needs_browser
def test_a_camera_that_is_not_allowed_is_explained(browser: Any) -> None:
    allow_camera(browser, "denied")
    browser.find_element("id", "camera").click()
    wait(browser, lambda page: said(page)[1] == "error")
    assert "allow it for this page" in said(browser)[0]


@needs_browser
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotFoundError", "No camera was found: connect one, or pick a picture."),
        ("NotReadableError", "is another program using it?"),
    ],
)
def test_a_camera_that_fails_is_explained(browser: Any, name: str, words: str) -> None:
    browser.execute_script(
        "const [name] = arguments; navigator.mediaDevices.getUserMedia ="
        " () => Promise.reject(new DOMException('', name));",
        name,
    )
    try:
        browser.find_element("id", "camera").click()
        wait(browser, lambda page: said(page)[1] == "error")
        assert words in said(browser)[0]
    finally:
        browser.execute_script("delete navigator.mediaDevices.getUserMedia;")


@needs_browser
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xe0 cut off"])
def test_a_bad_file_is_named_and_the_last_picture_goes(
    browser: Any, example_photo: Path, tmp_path: Path, content: bytes
) -> None:
    pick(browser, example_photo)
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)

    text, kind = pick(browser, path)

    assert text.startswith("bad.jpg is not a picture that this browser can read")
    assert kind == "error"
    assert not browser.find_element("id", "stage").is_displayed()
    assert not browser.find_elements("class name", "card")


@needs_browser
def test_no_face_is_said(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    assert cv2.imwrite(str(path), np.full((200, 300, 3), 127, np.uint8))

    text, kind = pick(browser, path)

    assert text.startswith("No face found in wall.png")
    assert kind == "warning"
    assert result(browser)["faces"] == []


@needs_browser
def test_nothing_sticks_out_on_a_phone(browser: Any, group: Path) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        pick(browser, group)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        (card, *_) = browser.find_elements("class name", "card")
        assert card.rect["width"] > 300
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_browser
def test_the_page_asks_no_other_host_and_could_not(
    browser: Any, address: str, example_photo: Path
) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(address)
    pick(browser, example_photo)
    browser.find_element("id", "example").click()
    wait(browser, lambda page: said(page)[0] == "1 face in the example")

    requests = [urlsplit(url) for url in requested(browser)]
    host = urlsplit(address).netloc
    models = ("yunet", "blazeface", "emotion", "landmarks")
    assert {f"/models/{name}.onnx" for name in models} < {request.path for request in requests}
    assert {request.netloc for request in requests} == {host}
    assert browser.get_log("browser") == []  # no error, and nothing that the policy had to refuse

    refused = browser.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation',"
        " (event) => done(event.effectiveDirective + ' ' + event.blockedURI));"
        "fetch('https://example.org/').catch(() => {});"
    )
    assert refused == "connect-src https://example.org/"


def requested(browser: Any) -> list[str]:
    """Addresses of all requests since this was last asked for."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize(
    "path", ["/../server.js", "/../../README.md", "/%2e%2e/server.js", "/page/", "/models/", "//"]
)
def test_only_what_the_page_needs_is_served(address: str, path: str) -> None:
    connection = HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE)
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


def in_node(script: str, *arguments: str) -> Any:
    """Run a module that prints JSON."""
    run = subprocess.run(
        ["node", "--input-type=module", "--eval", script, "--", *arguments],
        cwd=WEB / "page",
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    "name", ["emotion.int8.onnx", "landmarks.int8.onnx", "face_detection_short_range.onnx"]
)
def test_metadata_are_read_as_onnx_reads_them(name: str) -> None:
    path = str(bundled() / name)
    expected = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert len(expected) >= 3
    read = in_node(
        """
        import { readFileSync } from "node:fs";
        import { metadataOf } from "./metadata.js";
        console.log(JSON.stringify(Object.fromEntries(metadataOf(readFileSync(process.argv[1])))));
        """,
        path,
    )
    assert read == expected


@pytest.mark.parametrize(
    ("width", "height"),
    [(320, 188), (256, 150), (128, 75), (171, 100), (64, 30), (512, 300), (640, 375), (700, 300)],
)
def test_pictures_are_resized_as_opencv_does(
    example_photo: Path, tmp_path: Path, width: int, height: int
) -> None:
    """By parts of pixels and by whole ones, and enlarged."""
    picture = load_image(example_photo)[100:400]
    path = tmp_path / "picture.rgba"
    path.write_bytes(cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).tobytes())
    made = in_node(
        """
        import { readFileSync } from "node:fs";
        import { resized } from "./pixels.js";
        const data = readFileSync(process.argv[1]);
        const [width, height] = process.argv.slice(2).map(Number);
        const picture = resized({ data, width: 512, height: 300 }, width, height);
        console.log(JSON.stringify([...picture.data]));
        """,
        str(path),
        str(width),
        str(height),
    )
    method = cv2.INTER_AREA if width < 512 else cv2.INTER_LINEAR
    expected = cv2.resize(picture, (width, height), interpolation=method)
    off = np.abs(expected - np.reshape(made, (height, width, 4))[..., :3].astype(int))
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.002


def test_upright_views_are_those_of_the_sdk(example_photo: Path, tmp_path: Path) -> None:
    """Inside and beyond the picture, of every size and tilt."""
    random = np.random.default_rng(5)
    picture = load_image(example_photo)
    path = tmp_path / "picture.rgba"
    path.write_bytes(cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).tobytes())
    corners = random.uniform((-20, -20, 10, 10), (440, 440, 300, 300), (30, 4))
    rolls = random.uniform(-180, 360, 30)
    made = in_node(
        """
        import { readFileSync } from "node:fs";
        import { uprightView } from "./upright.js";
        const [path, width, height, boxes, rolls] = process.argv.slice(1);
        const data = readFileSync(path);
        const picture = { data, width: Number(width), height: Number(height) };
        const views = JSON.parse(boxes).map((box, at) =>
          [...uprightView(picture, box, JSON.parse(rolls)[at]).data]);
        console.log(JSON.stringify(views));
        """,
        str(path),
        str(picture.shape[1]),
        str(picture.shape[0]),
        json.dumps([Box(*numbers)._asdict() for numbers in corners]),
        json.dumps(rolls.tolist()),
    )
    for box, roll, view in zip(corners, rolls, made, strict=True):
        expected = upright_view(picture, box.tolist(), roll)
        off = np.abs(expected - np.reshape(view, (128, 128, 4))[..., :3].astype(int))
        # A difference of one step is stretched with the contrast.
        assert off.max() <= 8, (box, roll)
        assert off.mean() <= 0.01, (box, roll)


def test_crops_are_those_of_the_sdk(tmp_path: Path) -> None:
    """Inside and beyond the picture, shrunken and enlarged."""
    random = np.random.default_rng(5)
    height, width, size = 90, 120, 40
    picture = random.integers(0, 256, (height, width, 4), np.uint8)
    picture[..., 3] = 255
    path = tmp_path / "picture.rgba"
    path.write_bytes(picture.tobytes())
    corners = random.uniform((-60, -60, 1, 1), (130, 110, 90, 90), (40, 4))
    boxes = [Box(*numbers) for numbers in corners]
    geometry = CropGeometry(scale=1.17, shift_x=-0.02, shift_y=-0.1)
    made = in_node(
        """
        import { readFileSync } from "node:fs";
        import { cropGray, cropUpright, squareOf } from "./crop.js";
        const [path, width, height, boxes, geometry, size] = process.argv.slice(1);
        const data = readFileSync(path);
        const picture = { data, width: Number(width), height: Number(height) };
        const crops = JSON.parse(boxes).map((box, place) => {
          const square = squareOf(box, JSON.parse(geometry));
          const turned = cropUpright(picture, square, 9 * place - 180, Number(size));
          return [square, [...cropGray(picture, square, Number(size))], [...turned]];
        });
        console.log(JSON.stringify(crops));
        """,
        str(path),
        str(width),
        str(height),
        json.dumps([box._asdict() for box in boxes]),
        json.dumps({"scale": geometry.scale, "shift_x": -0.02, "shift_y": -0.1}),
        str(size),
    )
    rgb = np.ascontiguousarray(picture[..., :3])
    sides = set()
    for place, (box, (square, pixels, turned)) in enumerate(zip(boxes, made, strict=True)):
        expected = geometry.square(box)
        assert square == expected._asdict()
        gray = crop_gray(rgb, expected, size)
        assert np.abs(gray.ravel().astype(int) - pixels).max() <= 1, expected
        off = align_face(
            crop_around(rgb, expected, size), 9 * place - 180, size
        ).ravel() - np.array(turned)
        # OpenCV knows places between pixels to a 32nd.
        assert np.abs(off).max() <= 12, expected
        assert np.abs(off).mean() <= 2, expected
        sides.add(expected.side > size)
    assert sides == {True, False}
