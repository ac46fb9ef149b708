"""``fer`` and the examples, as a user starts them."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from importlib import metadata
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

import fer_sdk
import fer_sdk.dataset  # before a test puts something in the pipeline's place
import tiny_models
import videos
from fer_sdk import cli
from fer_sdk import diagnostics as conflicts
from fer_sdk.cli import options
from fer_sdk.detectors import DetectorName, mediapipe
from fer_sdk.errors import ImageError, SettingError
from fer_sdk.models import packaged as bundle
from fer_sdk.models import session as runtime
from fer_sdk.models.metadata import Precision
from fer_sdk.output.atomic import SUFFIXES, save_image
from fer_sdk.pipeline import FerPipeline

ROOT = Path(__file__).resolve().parents[2]


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
    models: tuple[Path, Path],
    *arguments: object,
    command: str = "predict",
    stdin: bytes | None = None,
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    # The last of two options of one name counts, so the test's own come last.
    given = [command, "--detector", "none", "--threads", "1", *map(str, arguments)]
    given += ["--emotion-model", str(models[0]), "--landmarks-model", str(models[1])]
    done = CliRunner().invoke(cli.app, given, input=stdin)
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


@pytest.mark.parametrize("columns", [200, 100, 80])
def test_the_table_fits_the_terminal_and_keeps_whole_paths(
    models: tuple[Path, Path], photos: list[Path], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    status, output, _ = _fer(models, *photos)
    assert status == 0
    lines = output.splitlines()
    assert max(map(len, lines)) <= columns
    rows = [line.split("│") for line in lines if line.startswith("│")]
    assert "".join(row[1].strip() for row in rows) == "".join(map(str, photos))
    assert {row[2].split()[0] for row in rows if row[2].strip()} == {"angry", "neutral"}


def test_a_table_that_goes_to_a_file_leaves_nothing_out(
    models: tuple[Path, Path], photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    _, output, _ = _fer(models, *photos)
    assert all(str(photo) in output for photo in photos)
    assert "x, y" in output


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


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """Two photos, two more in the folder below, and what is none."""
    made = tmp_path / "holiday"
    (made / "day 2").mkdir(parents=True)
    (made / ".hidden").mkdir()
    for place in ("b.png", "A.PNG", "day 2/c.png", "day 2/d.png", ".hidden/e.png", ".f.png"):
        shutil.copy(photos[0], made / place)
    (made / "notes.txt").write_text("no picture")
    return made


def _images(output: str, folder: Path) -> list[str]:
    return [Path(row["image"]).relative_to(folder).as_posix() for row in _rows(output)]


def test_the_photos_of_a_folder(models: tuple[Path, Path], folder: Path) -> None:
    status, output, errors = _fer(models, folder, "--json")
    assert (status, errors) == (0, "fer: left out: 1 .txt\n")
    assert _images(output, folder) == ["A.PNG", "b.png"]
    status, output, _ = _fer(models, folder, "-r", "--json")
    assert status == 0
    assert _images(output, folder) == ["A.PNG", "b.png", "day 2/c.png", "day 2/d.png"]


def test_what_is_left_out_of_a_folder_is_told(
    models: tuple[Path, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1.HEIC", "2.heic", "talk.mov", "Thumbs.db", "day 2/3.mpo"):
        (folder / name).write_bytes(b"")
    monkeypatch.setattr("fer_sdk.image.folder.find_spec", lambda _: None)
    status, output, errors = _fer(models, folder, "--json")
    # A video was never meant; a picture was.
    told = "2 .heic (pip install 'fer-sdk[heif]'), 1 .mov (use fer video), 1 .txt"
    assert (status, errors) == (1, f"fer: left out: {told}\n")
    assert _images(output, folder) == ["A.PNG", "b.png"]
    monkeypatch.setattr("fer_sdk.image.folder.find_spec", lambda _: object())
    status, output, errors = _fer(models, folder, "-r", "--json")
    images = ["1.HEIC", "2.heic", "A.PNG", "b.png", "day 2/3.mpo", "day 2/c.png", "day 2/d.png"]
    assert (status, _images(output, folder)) == (1, images)
    assert errors.startswith("fer: left out: 1 .mov (use fer video), 1 .txt\n")


def test_a_photo_that_is_cut_off_is_read_with_a_warning(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.jpg"
    cv2.imwrite(str(cut), cv2.imread(str(photos[0])))
    cut.write_bytes(cut.read_bytes()[:-10])
    status, output, errors = _fer(models, cut, "--json")
    assert (status, len(_rows(output))) == (0, 1)
    told = "this JPEG file is damaged or cut off; what is missing is gray"
    assert errors == f"fer: {cut}: {told}\n"


def test_a_pattern_in_quotes(models: tuple[Path, Path], folder: Path) -> None:
    status, output, errors = _fer(models, folder / "*" / "*.png", folder / "[ab].png", "--json")
    assert (status, errors) == (0, "")
    assert _images(output, folder) == ["day 2/c.png", "day 2/d.png", "b.png"]
    assert _images(_fer(models, folder / "**" / "*.png", "--json")[1], folder) == [
        "b.png",
        "day 2/c.png",
        "day 2/d.png",
    ]
    # What is there is meant, even where its name looks like a pattern.
    odd = folder / "b[1].png"
    shutil.copy(folder / "b.png", odd)
    assert _images(_fer(models, odd, "--json")[1], folder) == ["b[1].png"]


def test_what_stands_for_no_photo_is_told_and_the_others_go_on(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    empty, nothing = tmp_path / "empty", tmp_path / "nothing*.jpg"
    empty.mkdir()
    status, output, errors = _fer(models, empty, nothing, photos[0], "--json")
    assert status == 1
    first, second, third = _rows(output)
    assert first["error"].startswith(f"{empty}: no pictures in this folder; --recursive looks")
    assert second["error"] == f"{nothing}: no file has a name like that"
    assert len(third["faces"]) == 1
    assert errors == f"fer: {first['error']}\nfer: {second['error']}\n"


def test_a_picture_on_standard_input(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    status, output, _ = _fer(
        models, "-", "--json", "--save", f"{tmp_path / 'out'}{os.sep}", stdin=photos[1].read_bytes()
    )
    assert status == 0
    (row,) = _rows(output)
    assert (row["image"], row["width"], row["faces"][0]["emotion"]) == ("-", 60, "neutral")
    assert row["saved"] == str(tmp_path / "out" / "stdin-faces.png")
    for stdin, reason in ((b"", "nothing came on it"), (b"no picture", "not a picture")):
        status, output, errors = _fer(models, "-", photos[0], "--json", stdin=stdin)
        assert status == 1
        assert reason in errors
        assert [row["error"] is None for row in _rows(output)] == [False, True]


def test_a_list_of_photos(models: tuple[Path, Path], photos: list[Path], tmp_path: Path) -> None:
    lines = "\n".join(map(str, [*photos, "", tmp_path / "gone.png"])) + "\r\n"
    (tmp_path / "list.txt").write_text(lines)
    for given, stdin in ((tmp_path / "list.txt", None), ("-", lines.encode())):
        status, output, errors = _fer(models, "--from-file", given, "--json", stdin=stdin)
        assert status == 1
        assert "gone.png: cannot be read" in errors
        assert [row["image"] for row in _rows(output)] == [
            *map(str, photos),
            str(tmp_path / "gone.png"),
        ]
    assert _fer(models, "--from-file", tmp_path / "gone.txt")[0] == 2
    assert _fer(models, "-", "--from-file", "-", stdin=b"x")[0] == 2


def test_many_photos_come_out_in_their_order(models: tuple[Path, Path], tmp_path: Path) -> None:
    # Large ones are slow to read, so that those after them are done first.
    levels = np.random.default_rng(0).integers(0, 256, 60)
    for number, level in enumerate(levels):
        side = 1500 if number % 10 == 0 else 20
        Image.new("RGB", (side, side), (int(level),) * 3).save(tmp_path / f"{number:03}.png")
    status, output, _ = _fer(models, tmp_path, "--json")
    assert status == 0
    faces = np.broadcast_to(
        levels.astype(np.uint8)[:, None, None], (60, tiny_models.SIZE, tiny_models.SIZE)
    )
    expected = tiny_models.expected_scores(faces).argmax(axis=1)
    assert [row["faces"][0]["emotion"] for row in _rows(output)] == [
        tiny_models.EMOTIONS[label] for label in expected
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_with_a_row_a_face(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path, kind: str
) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    goal = tmp_path / f"faces.{kind}"
    missing = tmp_path / "missing.jpg"
    status, output, errors = _fer(models, photos[0], missing, photos[1], "-o", goal)
    assert status == 1
    assert output == f"{goal}: 2 faces of 2 photos, 1 failed\n"
    assert "missing.jpg: cannot be read" in errors
    table = pandas.read_csv(goal) if kind == "csv" else pandas.read_parquet(goal)
    with FerPipeline(
        detector=None, emotion_model=models[0], landmarks_model=models[1], threads=1
    ) as pipeline:
        expected = fer_sdk.to_dataframe(pipeline.predict_batch(photos), images=photos)
    assert list(table.columns) == list(expected.columns)
    # A column with nothing in it has no type that a file could keep.
    assert table.pop("track_id").isna().all()
    assert expected.pop("track_id").isna().all()
    pandas.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-12)


def test_a_table_of_json_lines_is_what_json_prints(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    goal = tmp_path / "faces.jsonl"
    status, output, _ = _fer(models, *photos, tmp_path / "gone.jpg", "--json", "--output", goal)
    assert status == 1
    assert goal.read_text() == output
    assert len(_rows(output)) == 3


def test_a_table_that_cannot_be_written_is_told_first(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text(str(photos[0]))
    for goal, reason, more in (
        (tmp_path / "faces.xlsx", ".csv, .jsonl, .parquet", ()),
        (tmp_path / "not" / "there.csv", "there is no folder", ()),
        (tmp_path / "list.csv", "that is one of the inputs", ("--from-file", "list.csv")),
    ):
        here = [tmp_path / one if one.endswith(".csv") else one for one in more]
        status, output, errors = _fer(models, photos[0], "--output", goal, *here)
        assert (status, output) == (2, "")
        assert reason in " ".join(errors.replace("│", " ").split())
    assert (tmp_path / "list.csv").read_text() == str(photos[0])
    assert not (tmp_path / "faces.xlsx").exists()


def test_a_table_is_not_left_half_written(
    models: tuple[Path, Path],
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goal = tmp_path / "faces.csv"
    goal.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    status, _, errors = _fer(models, *photos, "--output", goal)
    assert status == 1
    assert errors == f"fer: {goal}: cannot be written: No space left on device\n"
    assert goal.read_text() == "before"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interrupt_says_what_was_done_and_what_was_not_written(
    models: tuple[Path, Path],
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    goal = tmp_path / "faces.csv"
    goal.write_text("before")
    monkeypatch.setattr("fer_sdk.cli.predict.json.dumps", interrupted)
    status, output, errors = _fer(models, *photos, "--json", "--output", goal)
    assert (status, output) == (130, "")
    assert errors == f"fer: interrupted after 0 of 2 photos; not written: {goal}\n"
    assert goal.read_text() == "before"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of POSIX")
def test_a_bar_on_the_terminal_and_the_result_in_the_file(
    models: tuple[Path, Path], photos: list[Path], tmp_path: Path
) -> None:
    import pty

    mine, terminal = pty.openpty()
    given = ["predict", "--detector", "none", "--json", *map(str, photos * 3)]
    given += ["--emotion-model", str(models[0]), "--landmarks-model", str(models[1])]
    with (tmp_path / "out.jsonl").open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "fer_sdk", *given],
            stdout=file,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
            timeout=120,
            check=False,
        )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):
        # Linux ends the other side of a terminal with an error.
        while more := os.read(mine, 4096):
            shown += more
    os.close(mine)
    assert done.returncode == 0
    assert b"6/6" in shown
    assert len(_rows((tmp_path / "out.jsonl").read_text())) == 6


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
        [photos[0], "--provider-option", "device_type"],
        [photos[0], "--provider-option", "device_type=GPU"],
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
    assert report["devices"] == runtime.devices()
    assert (report["pipeline"]["device"], report["pipeline"]["provider"]) == (
        "cpu",
        "CPUExecutionProvider",
    )
    manifest = json.loads((bundle.bundled() / bundle.MANIFEST).read_text())["files"]
    assert {file["name"]: file["sha256"] for file in report["bundled"]} == {
        name: file["sha256"] for name, file in manifest.items()
    }
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


def test_info_tells_a_bundled_file_that_is_damaged(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_models.write_models(tmp_path)
    bundle.write_manifest(tmp_path)
    (tmp_path / "emotion.onnx").write_bytes(b"")
    monkeypatch.setattr(bundle, "bundled", lambda: tmp_path)
    status, output, errors = _fer(models, "--json", command="info")
    assert status == 1
    assert "emotion.onnx: not the file that was shipped" in errors
    (report,) = _rows(output)
    assert report["problem"] is None
    assert [file["problem"] is None for file in report["bundled"]] == [False, True]


def test_packages_that_overwrite_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        metadata,
        "packages_distributions",
        lambda: {
            "onnxruntime": ["onnxruntime", "onnxruntime-gpu", "onnxruntime"],
            "cv2": ["opencv-python-headless"],
        },
    )
    monkeypatch.setattr(mediapipe, "installed_version", lambda: "0.10.35")
    first, second = conflicts.conflicts()
    assert first.startswith("onnxruntime, onnxruntime-gpu all install onnxruntime")
    assert "mediapipe 0.10.35 contacts Google's logging host" in second
    monkeypatch.setattr(mediapipe, "installed_version", lambda: None)
    monkeypatch.setattr(metadata, "packages_distributions", dict)
    assert conflicts.conflicts() == []


# What Python makes of the folder that pip leaves of one of two builds.
_WITHOUT_CODE = """
import sys
from importlib.machinery import ModuleSpec
class Shell:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = []
            return spec
sys.meta_path.insert(0, Shell())
"""


@pytest.mark.parametrize(
    "code",
    [
        "from fer_sdk import FerError\nimport fer_sdk\ntry:\n    fer_sdk.FerPipeline\n"
        "except FerError as error:\n    sys.exit(str(error))",
        "from fer_sdk.cli import main\nsys.argv = ['fer', 'info']\nmain()",
        "from fer_sdk.cli import main\nsys.argv = ['fer', 'predict', 'x.jpg']\nmain()",
    ],
    ids=["FerPipeline", "info", "predict"],
)
def test_a_package_without_its_files_is_told_with_what_to_do(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{_WITHOUT_CODE}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "onnxruntime is installed without its files" in done.stderr
    assert "pip install --force-reinstall --no-deps onnxruntime" in done.stderr


def test_a_device_that_does_not_open_is_not_among_those_here(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # onnxruntime opens a session on the CPU when a provider does not open, and only warns.
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    with warnings.catch_warnings(action="ignore"):
        status, output, _ = _fer(models, "--json", "--device", "cpu", command="info")
    assert status == 0
    (report,) = _rows(output)
    assert report["devices"] == ["cpu"]
    assert "nvidia-smi" in report["devices_that_do_not_open"]["cuda"]


def test_the_choices_are_those_of_the_pipeline() -> None:
    assert {one.value for one in options.PrecisionChoice} == {"auto", *get_args(Precision)}
    assert {one.value for one in options.DetectorChoice} == {"none", *get_args(DetectorName)}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command wants to open a pipeline with, before it is refused."""
    seen: dict[str, Any] = {}

    def refused(**given: Any) -> FerPipeline:
        seen.update(given)
        raise SettingError("no pipeline")

    monkeypatch.setattr("fer_sdk.pipeline.FerPipeline", refused)
    return seen


_COMMANDS = {
    "predict": ["light.jpg"],
    "video": ["film.mp4"],
    "webcam": ["--view", "lines"],
    "dataset": [".", "--output", "out"],
    "info": [],
}


def _opened_by(command: str, *arguments: str) -> None:
    done = CliRunner().invoke(cli.app, [command, *_COMMANDS[command], *arguments])
    assert done.exit_code == (1 if command == "info" else 2)
    assert "no pipeline" in done.stderr


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_opens_the_pipeline_that_it_is_told_to(
    command: str, photos: list[Path], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos[0].parent)
    videos.write(Path("film.mp4"), videos.plain(2))
    # Of its own options a command leaves what the pipeline does by itself.
    _opened_by(command)
    own = {name: one.default for name, one in signature(FerPipeline.__init__).parameters.items()}
    threads = 1 if command == "dataset" else None
    assert settings == {**{name: own[name] for name in settings},
                        "threads": threads, "provider_options": {}}  # fmt: skip
    _opened_by(
        command, "--labels", "fer2013", "--detector", "blazeface", "--min-score", "0.6",
        "--device", "openvino", "--provider-option", "device_type=GPU", "--provider-option", "a=b=",
        "--precision", "fp32", "--threads", "2", "--emotion-model", "e.onnx",
        "--landmarks-model", "l.onnx",
    )  # fmt: skip
    assert settings == {
        "labels": "fer2013",
        "detector": "blazeface",
        "min_detection_score": 0.6,
        "device": "openvino",
        "provider_options": {"device_type": "GPU", "a": "b="},
        "precision": "fp32",
        "threads": 2,
        "emotion_model": Path("e.onnx"),
        "landmarks_model": Path("l.onnx"),
    }


def test_options_of_a_pipeline_go_to_other_processes(models: tuple[Path, Path]) -> None:
    given = options.PipelineOptions(
        detector=options.DetectorChoice.none, emotion_model=models[0], landmarks_model=models[1]
    )
    with pickle.loads(pickle.dumps(given.open))() as pipeline:
        assert pipeline.info.detector is None


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
    for command in ([], ["predict"], ["video"], ["webcam"], ["dataset"], ["info"]):
        done = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": "80"})
        assert (done.exit_code, done.stderr) == (0, "")
        before, _, examples = done.stdout.partition("Examples:")
        # Not one of them is broken over two lines.
        for line in examples.split("\n"):
            assert " ".join(["fer", *command]) in line or not line.strip()
        assert all(len(line) <= 80 for line in before.splitlines())
        if command == ["dataset"]:
            assert "pip install 'fer-sdk[ray]'" in before
    done = _run("-m", "fer_sdk", "--help", env={**os.environ, "COLUMNS": "100", "TERM": "dumb"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "Examples:" in done.stdout
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
