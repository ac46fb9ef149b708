"""``fer`` and the examples, as a user starts them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fer_sdk
import tiny_models
from fer_sdk import bundle, cli, conflicts, runtime
from fer_sdk.cli import options
from fer_sdk.contract import Precision
from fer_sdk.detectors import DetectorName
from fer_sdk.errors import ImageError
from fer_sdk.pipeline import FerPipeline
from fer_sdk.runtime import Device
from fer_sdk.save import SUFFIXES, save_image

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_models.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Face crops of known brightness."""
    made = []
    for name, level in (("dark.png", 2), ("light.jpg", 253)):
        path = tmp_path / name
        Image.new("RGB", (60, 48), (level,) * 3).save(path)
        made.append(path)
    return made


def _fer(
    models: tuple[Path, Path], *arguments: object, command: str = "predict"
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    # The last of two options of one name counts, so the test's own come last.
    given = [command, "--detector", "none", "--threads", "1", *map(str, arguments)]
    given += ["--emotion-model", str(models[0]), "--landmarks-model", str(models[1])]
    done = CliRunner().invoke(cli.app, given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def _rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_table_for_people(models: tuple[Path, Path], photos: list[Path]) -> None:
    status, output, errors = _fer(models, *photos)
    assert (status, errors) == (0, "")
    told = " ".join(output.split())
    assert "angry" in told
    assert "neutral" in told
    assert "60x48" in told


def test_a_line_of_json_a_photo_for_programs(models: tuple[Path, Path], photos: list[Path]) -> None:
    status, output, errors = _fer(models, *photos, "--json")
    assert (status, errors) == (0, "")
    rows = _rows(output)
    with FerPipeline(
        detector=None, emotion_model=models[0], landmarks_model=models[1], threads=1
    ) as pipeline:
        for row, photo in zip(rows, photos, strict=True):
            assert row == {
                "image": str(photo),
                "width": 60,
                "height": 48,
                "faces": [face.to_dict() for face in pipeline.predict(photo)],
                "saved": None,
                "error": None,
            }
    assert [row["faces"][0]["emotion"] for row in rows] == ["angry", "neutral"]


def test_a_bad_photo_is_reported_and_the_others_go_on(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    missing = tmp_path / "missing.jpg"
    status, output, errors = _fer(models, photos[0], missing, photos[1], "--json")
    assert status == 1
    assert errors == f"fer: {missing}: cannot be read: No such file or directory\n"
    rows = _rows(output)
    assert [row["image"] for row in rows] == [str(photos[0]), str(missing), str(photos[1])]
    assert rows[1]["faces"] is None
    assert rows[1]["error"] == errors.removeprefix("fer: ").strip()
    assert len(rows[0]["faces"]) == len(rows[2]["faces"]) == 1
    status, output, errors = _fer(models, missing)
    assert (status, output) == (1, "")
    assert str(missing) in errors


def test_saving_one_photo(models: tuple[Path, Path], photos: list[Path], tmp_path: Path) -> None:
    goal = tmp_path / "annotated.png"
    goal.write_text("what was there before")
    status, output, _ = _fer(models, photos[0], "--save", goal)
    assert status == 0
    assert "saved" in output
    drawn = cv2.imread(str(goal))
    assert drawn.shape == (48, 60, 3)
    assert (drawn != 2).any()
    (row,) = _rows(_fer(models, photos[0], "--json", "--save", tmp_path / "x.webp")[1])
    assert row["saved"] == str(tmp_path / "x.webp")


def test_saving_into_a_folder(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    twin = other / "dark.png"
    shutil.copy(photos[0], twin)
    gif = tmp_path / "moving.pgm"
    cv2.imwrite(str(gif), np.full((30, 30), 9, np.uint8))
    before = {path: path.read_bytes() for path in (*photos, twin, gif)}
    goal = tmp_path / "new" / "annotated"
    status, output, _ = _fer(models, *photos, twin, gif, "--save", goal, "--json")
    assert status == 0
    names = ["dark-faces.png", "light-faces.jpg", "dark-faces-2.png", "moving-faces.png"]
    assert [row["saved"] for row in _rows(output)] == [str(goal / name) for name in names]
    assert sorted(path.name for path in goal.iterdir()) == sorted(names)
    assert before == {path: path.read_bytes() for path in before}
    # One photo into a folder: one that is there, or a name that ends as one.
    for folder in (goal, f"{tmp_path / 'fresh.folder'}{os.sep}"):
        (row,) = _rows(_fer(models, photos[0], "--save", folder, "--json")[1])
        assert row["saved"] == str(Path(folder) / "dark-faces.png")


def test_a_photo_is_never_overwritten(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    status, _, errors = _fer(models, photos[0], "--save", tmp_path / "." / "dark.png")
    assert status == 2
    assert "that is the photo itself" in errors
    mine = tmp_path / "dark-faces.png"
    shutil.copy(photos[0], mine)
    before = mine.read_bytes()
    status, output, _ = _fer(models, photos[0], mine, "--save", tmp_path, "--json")
    assert status == 0
    assert mine.read_bytes() == before
    assert len({row["saved"] for row in _rows(output)}) == 2


def test_what_cannot_be_saved_is_told(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    status, _, errors = _fer(models, photos[0], "--save", tmp_path / "x.gif")
    assert status == 2
    assert ".jpg" in errors
    status, output, errors = _fer(
        models, photos[0], "--save", tmp_path / "not" / "there.png", "--json"
    )
    assert status == 1
    assert "there.png: cannot be written" in errors
    (row,) = _rows(output)
    assert row["saved"] is None
    assert len(row["faces"]) == 1
    file = tmp_path / "file"
    file.touch()
    assert _fer(models, *photos, "--save", file)[0] == 2


def test_wrong_usage_is_two(models: tuple[Path, Path], photos: list[Path]) -> None:
    for arguments in (
        [],
        [photos[0], "--device", "gpu"],
        [photos[0], "--threads", "0"],
        [photos[0], "--max-faces", "0"],
        [photos[0], "--min-score", "2"],
        [photos[0], "--precision", "int8"],
    ):
        status, output, errors = _fer(models, *arguments)
        assert (status, output) == (2, "")
        assert errors


@pytest.mark.skipif(runtime.has_cuda(), reason="this onnxruntime is built for CUDA")
def test_a_device_that_is_not_there_is_told(models: tuple[Path, Path], photos: list[Path]) -> None:
    status, output, errors = _fer(models, photos[0], "--device", "cuda")
    assert (status, output) == (2, "")
    assert errors.startswith('fer: device="cuda" was asked for')


def test_names_that_are_no_text_do_no_harm(models: tuple[Path, Path], tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("file names are text here")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/[bold]\xff\xfe.png")
    with Path(odd).open("wb") as file:
        Image.new("RGB", (20, 20)).save(file, "PNG")
    status, output, _ = _fer(models, odd)
    assert status == 0
    assert "".join(output.split()).count("[bold]") == 1
    (row,) = _rows(_fer(models, odd, "--json")[1])
    assert row["image"] == odd
    Path(odd).write_bytes(b"no picture")
    assert _fer(models, odd)[0] == 1


def test_info_for_people_and_programs(models: tuple[Path, Path]) -> None:
    status, output, _ = _fer(models, command="info")
    assert status == 0
    assert runtime.version() in output
    status, output, _ = _fer(models, "--json", command="info")
    assert status == 0
    (report,) = _rows(output)
    assert report["versions"]["fer_sdk"] == fer_sdk.__version__
    assert report["versions"]["onnxruntime"] == runtime.version()
    assert report["versions"]["opencv"] == cv2.__version__
    assert report["problem"] is None
    assert report["cores"] >= 1
    assert "CPUExecutionProvider" in report["providers"]
    assert [model["source"] for model in report["pipeline"]["models"]] == [
        str(path) for path in models
    ]


def test_info_tells_what_is_wrong(models: tuple[Path, Path], tmp_path: Path) -> None:
    broken = models[0], tmp_path / "missing.onnx"
    status, output, errors = _fer(broken, "--json", command="info")
    assert status == 1
    (report,) = _rows(output)
    assert report["pipeline"] is None
    assert "missing.onnx: cannot be read" in report["problem"]
    assert "missing.onnx" in errors
    status, output, errors = _fer(broken, command="info")
    assert status == 1
    assert runtime.version() in output


def test_packages_that_overwrite_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        metadata,
        "packages_distributions",
        lambda: {
            "onnxruntime": ["onnxruntime", "onnxruntime-gpu", "onnxruntime"],
            "cv2": ["opencv-python-headless"],
        },
    )
    monkeypatch.setattr(conflicts, "installed_version", lambda: "0.10.35")
    first, second = conflicts.conflicts()
    assert first.startswith("onnxruntime, onnxruntime-gpu all install onnxruntime")
    assert "mediapipe 0.10.35 contacts Google's logging host" in second
    monkeypatch.setattr(conflicts, "installed_version", lambda: None)
    monkeypatch.setattr(metadata, "packages_distributions", dict)
    assert conflicts.conflicts() == []


def test_the_choices_are_those_of_the_pipeline() -> None:
    assert {one.value for one in options.DeviceChoice} == set(get_args(Device))
    assert {one.value for one in options.PrecisionChoice} == {"auto", *get_args(Precision)}
    assert {one.value for one in options.DetectorChoice} == {"none", *get_args(DetectorName)}


def _run(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        **settings,
    )


def test_help_reads_well_and_carries_examples() -> None:
    wide = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    for command in ([], ["predict"], ["info"]):
        done = _run("-m", "fer_sdk", *command, "--help", env=wide)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Examples:" in done.stdout
        assert f"fer {' '.join(command)}".strip() in done.stdout
        assert all(len(line) <= 100 for line in done.stdout.splitlines())
    done = _run("-m", "fer_sdk", "--version")
    assert done.stdout == f"fer-sdk {fer_sdk.__version__}\n"


def test_the_command_end_to_end_with_the_default_detector(
    models: tuple[Path, Path], example_photo: Path, tmp_path: Path
) -> None:
    goal = tmp_path / "annotated.jpg"
    done = _run(
        *("-m", "fer_sdk", "predict", example_photo, "--json", "--save", goal),
        *("--emotion-model", models[0], "--landmarks-model", models[1]),
    )
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = _rows(done.stdout)
    (face,) = row["faces"]
    assert face["detection_score"] > 0.5
    assert sum(face["scores"].values()) == pytest.approx(1, abs=1e-4)
    assert cv2.imread(str(goal)).shape == cv2.imread(str(example_photo)).shape


def test_pictures_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (40, 50, 3), np.uint8), (0, 0), 3)
    for suffix in SUFFIXES:
        path = tmp_path / f"größe{suffix.upper()}"
        save_image(image, path)
        found = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert np.abs(found - image).max() <= (6 if suffix in (".jpg", ".jpeg", ".webp") else 0)
    target = tmp_path / "target.png"
    target.write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ImageError, match=r"target\.png: cannot be written: No space left"):
        save_image(image, target)
    assert target.read_bytes() == b"before"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(os.name != "posix", reason="rights of this kind are POSIX's")
def test_a_picture_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    plain, picture = tmp_path / "plain", tmp_path / "picture.png"
    plain.touch()
    save_image(np.zeros((4, 4, 3), np.uint8), picture)
    assert picture.stat().st_mode == plain.stat().st_mode
    picture.chmod(0o600)
    save_image(np.zeros((4, 4, 3), np.uint8), picture)
    assert picture.stat().st_mode & 0o777 == 0o600


def test_a_picture_too_large_for_its_kind_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ImageError, match=r"wide\.jpg: OpenCV cannot encode"):
        save_image(np.zeros((1, 70_000, 3), np.uint8), tmp_path / "wide.jpg")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


_bundled = pytest.mark.skipif(
    not bundle.is_bundled("emotion.int8.onnx"), reason="the models are not bundled yet"
)


@_bundled
def test_the_photo_example(example_photo: Path, tmp_path: Path) -> None:
    done = _run(ROOT / "examples" / "photo.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("happy (")
    done = _run(ROOT / "examples" / "photo.py", tmp_path / "missing.jpg")
    assert done.returncode == 1
    assert "missing.jpg: cannot be read" in done.stderr


@_bundled
def test_the_folder_example(example_photo: Path, tmp_path: Path) -> None:
    shutil.copy(example_photo, tmp_path / "a.jpg")
    (tmp_path / "b.png").write_bytes(b"no picture")
    table = tmp_path / "out.csv"
    done = _run(ROOT / "examples" / "folder_to_csv.py", tmp_path, table)
    assert done.returncode == 1
    assert "b.png: not a picture" in done.stderr
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["photo"] == str(tmp_path / "a.jpg")
    assert row["emotion"] == "happy"
    assert sum(float(row[emotion]) for emotion in tiny_models.EMOTIONS) == pytest.approx(
        1, abs=0.01
    )


def test_the_webcam_example_tells_that_there_is_no_camera() -> None:
    done = _run(ROOT / "examples" / "webcam.py", "--camera", "97")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("camera 97 does not open: ")
    assert len(done.stderr.splitlines()) == 1
