"""Faces as a pandas table, as supervision's arrays, and as files of tables."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fer_sdk import Box, Face, ImageError, Point, to_dataframe, to_supervision
from fer_sdk.errors import DataError, SettingError
from fer_sdk.output.rows import columns, face_row
from fer_sdk.output.tables import open_table

LABELS = ("angry", "happy", "neutral")
FACE = Face(
    box=Box(10.0, 20.0, 30.0, 40.5),
    detection_score=0.75,
    landmarks=(Point(11, 21), Point(12, 22), Point(13, 23), Point(14, 24.5)),
    emotion="happy",
    confidence=0.5,
    scores={"angry": 0.25, "happy": 0.5, "neutral": 0.25},
)
CROP = replace(FACE, detection_score=None, emotion="neutral", track_id=7)
COLUMNS = [
    *("face", "x", "y", "width", "height", "detection_score", "emotion", "confidence"),
    *("score_angry", "score_happy", "score_neutral"),
    *("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"),
    *("left_lip_corner_x", "left_lip_corner_y", "right_lip_corner_x", "right_lip_corner_y"),
    "track_id",
]


class Frame(NamedTuple):
    index: int
    time: float
    faces: list[Face]


def test_a_row_has_every_value_of_a_face_under_the_name_of_its_column() -> None:
    row = face_row(3, FACE)
    assert list(row) == list(columns(LABELS)) == COLUMNS
    assert [row[name] for name in COLUMNS] == [
        *(3, 10.0, 20.0, 30.0, 40.5, 0.75, "happy", 0.5),
        *(0.25, 0.5, 0.25),
        *(11, 21, 12, 22, 13, 23, 14, 24.5),
        None,
    ]


class TestDataframe:
    @pytest.fixture(autouse=True)
    def _pandas(self) -> None:
        pytest.importorskip("pandas", reason="pandas is not installed")

    def test_one_row_a_face_with_the_name_of_its_image(self) -> None:
        results = [[FACE, CROP], [], ImageError("gone"), [FACE]]
        paths = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg"), Path("d.jpg")]
        table = to_dataframe(results, images=paths)
        assert list(table.columns) == ["image", *COLUMNS]
        assert table["image"].tolist() == ["a.jpg", "a.jpg", "d.jpg"]
        assert table["face"].tolist() == [0, 1, 0]
        assert table["emotion"].tolist() == ["happy", "neutral", "happy"]
        for name in COLUMNS:
            assert table[name].iloc[0] == face_row(0, FACE)[name] or name == "track_id"
        assert table["detection_score"].isna().tolist() == [False, True, False]
        assert table["track_id"].isna().tolist() == [True, False, True]
        assert table["track_id"].iloc[1] == 7
        assert to_dataframe(results)["image"].tolist() == [0, 0, 3]

    def test_types_do_not_depend_on_what_was_found(self) -> None:
        kinds = {
            str(table.dtypes[name])
            for table in (to_dataframe([FACE]), to_dataframe([CROP]), to_dataframe([[]]))
            for name in ("x", "confidence", "detection_score", "left_eye_x")
        }
        assert kinds == {"float64"}
        for faces in ([FACE], [CROP], []):
            types = to_dataframe(faces).dtypes
            assert (str(types["face"]), str(types["track_id"])) == ("int64", "Int64")

    def test_of_one_image_and_of_a_stream(self) -> None:
        table = to_dataframe([FACE, FACE], images=["x.png"])
        assert table["image"].tolist() == ["x.png", "x.png"]
        frames = [Frame(0, 0.0, [FACE]), Frame(1, 0.04, []), Frame(2, 0.08, [FACE, CROP])]
        table = to_dataframe(iter(frames))
        assert list(table.columns) == ["frame", "time", *COLUMNS]
        assert table["frame"].tolist() == [0, 2, 2]
        assert table["time"].tolist() == [0.0, 0.08, 0.08]

    def test_what_is_not_results_is_told(self) -> None:
        with pytest.raises(SettingError, match="1 images are named, but there are 2 results"):
            to_dataframe([[FACE], [FACE]], images=["a.jpg"])
        with pytest.raises(SettingError, match="'happy' is not a face"):
            to_dataframe([["happy"]])  # type: ignore[list-item]
        with pytest.raises(SettingError, match="3 is not a list of faces"):
            to_dataframe([3])  # type: ignore[list-item]


def _alone(code: str, *missing: str) -> subprocess.CompletedProcess[str]:
    """Run code where some packages are not installed."""
    gone = "".join(f"import sys; sys.modules[{name!r}] = None\n" for name in missing)
    return subprocess.run(
        [sys.executable, "-c", gone + code], capture_output=True, text=True, check=False, timeout=60
    )


def test_without_pandas_or_pyarrow_it_says_what_to_install(tmp_path: Path) -> None:
    done = _alone("import fer_sdk\nfer_sdk.to_dataframe([])", "pandas")
    assert "DataError: to_dataframe needs pandas, which is not installed" in done.stderr
    table = str(tmp_path / "a.parquet")
    code = f"from fer_sdk.output.tables import open_table\nopen_table({table!r}, {{}})"
    done = _alone(f"{code}.__enter__()", "pyarrow")
    assert "a.parquet: Parquet needs pyarrow, which is not installed: pip install" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_supervisions_arrays() -> None:
    arrays = to_supervision([FACE, CROP])
    assert arrays["xyxy"].dtype == arrays["confidence"].dtype == np.float32
    assert arrays["xyxy"].tolist() == [[10, 20, 40, 60.5]] * 2
    assert arrays["class_id"].tolist() == [1, 2]
    assert arrays["confidence"].tolist() == [0.5, 0.5]
    assert arrays["tracker_id"].tolist() == [-1, 7]
    assert to_supervision([FACE])["tracker_id"] is None
    data = arrays["data"]
    assert data["class_name"].tolist() == ["happy", "neutral"]
    assert data["scores"].tolist() == [[0.25, 0.5, 0.25]] * 2
    assert data["landmarks"].tolist() == [[[11, 21], [12, 22], [13, 23], [14, 24.5]]] * 2
    assert data["detection_score"][0] == 0.75
    assert np.isnan(data["detection_score"][1])
    with pytest.raises(SettingError, match="is not a face"):
        to_supervision([[FACE]])  # type: ignore[list-item]


def test_supervision_takes_them() -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    detections = supervision.Detections(**to_supervision([FACE, CROP]))
    assert len(detections) == 2
    happy = detections[detections.class_id == 1]
    assert happy.data["class_name"].tolist() == ["happy"]
    assert happy.data["landmarks"].shape == (1, 4, 2)
    assert detections.area.tolist() == [30 * 40.5] * 2
    nothing = supervision.Detections(**to_supervision([]))
    assert len(nothing) == 0
    assert len(supervision.Detections.merge([detections, detections])) == 4
    drawn = supervision.LabelAnnotator().annotate(np.zeros((90, 90, 3), np.uint8), detections)
    assert drawn.any()


ROWS: list[dict[str, Any]] = [
    {"name": 'comma, "quote"\nline', "count": 3, "share": 0.1},
    {"name": "größe", "count": None, "share": None},
    {"name": "", "count": -(2**40), "share": 1e-30},
]
TYPES = {"name": str, "count": int, "share": float}


def _write(path: Path, rows: list[dict[str, Any]] = ROWS) -> None:
    with open_table(path, TYPES) as add:
        for row in rows:
            add(row)


def test_a_table_as_csv(tmp_path: Path) -> None:
    _write(tmp_path / "t.CSV")
    with (tmp_path / "t.CSV").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["name"] for row in found] == [row["name"] for row in ROWS]
    assert [row["count"] for row in found] == ["3", "", str(-(2**40))]
    assert [float(row["share"] or "nan") for row in found][::2] == [0.1, 1e-30]


def test_a_table_as_json_lines(tmp_path: Path) -> None:
    _write(tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ROWS


@pytest.mark.parametrize("groups", [1, 3])
def test_a_table_as_parquet(tmp_path: Path, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr("fer_sdk.output.tables._ROWS_A_GROUP", 3)
    _write(tmp_path / "t.parquet", ROWS * groups)
    file = parquet.ParquetFile(tmp_path / "t.parquet")
    assert file.num_row_groups == groups
    assert file.read().to_pylist() == ROWS * groups
    assert [str(field.type) for field in file.schema_arrow] == ["string", "int64", "double"]


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    _write(tmp_path / "t.parquet", [])
    assert parquet.read_table(tmp_path / "t.parquet").column_names == list(TYPES)
    _write(tmp_path / "t.csv", [])
    assert (tmp_path / "t.csv").read_text() == "name,count,share\n"


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / name
    path.write_text("before")

    def fail() -> None:
        with open_table(path, TYPES) as add:
            add(ROWS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    _write(path)
    assert path.read_bytes() != b"before"
    with pytest.raises(DataError, match="cannot be written: No such file"):
        _write(tmp_path / "not there" / name)


def test_names_that_are_no_text_do_not_break_a_table(tmp_path: Path) -> None:
    _write(tmp_path / "t.csv", [{"name": "\udcff.png", "count": 1, "share": 0.5}])
    content = (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert content.splitlines()[1] == "\\udcff.png,1,0.5"


def test_other_kinds_of_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.xlsx: tables are written as \.csv, \.jsonl, \.par"):
        _write(tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="rights of this kind are POSIX's")
def test_a_table_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    _write(tmp_path / "t.csv")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1
