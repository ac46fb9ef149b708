from __future__ import annotations

import gzip
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_sdk.errors import DataError
from fer_training.data.faces import EMOTIONS, FaceSet, read_faces

HEADER = "emotion,pixels,Usage\n"
RAMP = " ".join(str(i % 256) for i in range(48 * 48))


def _row(emotion: object = 3, pixels: str = RAMP, usage: str = "Training") -> str:
    return f"{emotion},{pixels},{usage}\n"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_and_its_compressed_form_are_read_row_for_row(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fer2013{suffix}"
    content = (HEADER + _row(0) + _row(6, usage="PublicTest")).encode()
    path.write_bytes(gzip.compress(content) if suffix == ".csv.gz" else content)

    faces = read_faces(path)

    assert faces.label_names == EMOTIONS
    assert faces.labels.tolist() == [0, 6]
    assert faces.splits.tolist() == ["Training", "PublicTest"]
    expected = (np.arange(48 * 48) % 256).astype(np.uint8).reshape(48, 48)
    assert (faces.images == expected).all()
    assert len(faces.split("PublicTest")) == 1
    assert len(faces.split("PrivateTest")) == 0


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (_row(7), "emotion '7'"),
        (_row("happy"), "emotion 'happy'"),
        (_row(pixels="1 2 3"), "3 pixels"),
        (_row(pixels=RAMP.replace("255", "256", 1)), "outside"),
        (_row(pixels=RAMP.replace("1", "x", 1)), "whole numbers"),
        (_row(usage="Test"), "Usage 'Test'"),
        ("3\n", "pixels"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, bad: str, says: str) -> None:
    path = tmp_path / "faces.csv"
    path.write_text(HEADER + _row() + bad)
    with pytest.raises(DataError, match=says) as caught:
        read_faces(path)
    assert f"{path}, line 3" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "missing"),
        (b"a,b\n1,2\n", "missing"),
        (HEADER.encode(), "no rows"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_not_fer2013_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "faces.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_faces(path)
    assert str(path) in str(caught.value)


def test_a_cut_gzip_file_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress((HEADER + _row() * 50).encode())[:-20])
    with pytest.raises(DataError, match=r"cut\.csv\.gz"):
        read_faces(cut)
    with pytest.raises(DataError, match="no such"):
        read_faces(tmp_path / "none.csv")


def _picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((60, 60), level, np.uint8))


def test_a_folder_per_label_is_read_in_fer2013s_order(tmp_path: Path) -> None:
    for level, label in enumerate(("surprise", "Happiness", "angry")):
        _picture(tmp_path / "train" / label / "1.png", 10 * level)
    _picture(tmp_path / "test" / "angry" / "1.png", 99)

    faces = read_faces(tmp_path)

    assert faces.label_names == EMOTIONS
    by_label = {
        EMOTIONS[k]: int(i[0, 0])
        for k, i in zip(faces.labels, faces.images, strict=True)
        if i[0, 0] < 99
    }
    assert by_label == {"surprise": 0, "happy": 10, "angry": 20}
    assert faces.images.shape == (4, 48, 48)
    assert faces.splits.tolist().count("PrivateTest") == 1


def test_own_labels_are_sorted_by_name(tmp_path: Path) -> None:
    for label in ("wink", "frown", "laugh"):
        _picture(tmp_path / "train" / label / "a.jpg", 50)
    assert read_faces(tmp_path, side=32).label_names == ("frown", "laugh", "wink")
    assert read_faces(tmp_path, side=32).images.shape == (3, 32, 32)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train"):
        read_faces(tmp_path)
    (tmp_path / "train" / "happy").mkdir(parents=True)
    with pytest.raises(DataError, match="no pictures"):
        read_faces(tmp_path)


def test_what_systems_and_editors_leave_in_folders_is_passed_over(tmp_path: Path) -> None:
    for label in ("frown", "laugh"):
        _picture(tmp_path / "train" / label / "a.jpg", 50)
        (tmp_path / "train" / label / "._a.jpg").write_bytes(b"\0\5\x16\7")
        (tmp_path / "train" / label / "Thumbs.db").write_bytes(b"\xd0\xcf")
    for junk in (".ipynb_checkpoints", "__MACOSX", ".git"):
        _picture(tmp_path / "train" / junk / "a-checkpoint.jpg", 50)
    faces = read_faces(tmp_path)
    assert faces.label_names == ("frown", "laugh")
    assert len(faces) == 2


def test_all_pictures_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    for label in ("frown", "laugh"):
        _picture(tmp_path / "train" / label / "good.png", 50)
        (tmp_path / "train" / label / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="2 of 4 pictures") as caught:
        read_faces(tmp_path)
    assert all(str(Path(label) / "bad.png") in str(caught.value) for label in ("frown", "laugh"))


def test_splits_of_a_folder_keep_their_own_names(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label in ("frown", "laugh"):
            _picture(tmp_path / split / label / "a.png", 50)
    faces = read_faces(tmp_path)
    assert faces.name == tmp_path.name
    assert faces.split_names["PublicTest"] == "validation"
    assert len(faces.split("validation")) == len(faces.split("PublicTest")) == 2
    with pytest.raises(DataError, match="unknown split"):
        faces.split("holdout")


@pytest.mark.data
def test_fer2013_is_what_it_is_said_to_be(fer2013: FaceSet) -> None:
    public = fer2013.split("PublicTest")
    assert np.bincount(public.labels).tolist() == [467, 56, 496, 895, 653, 415, 607]
    assert fer2013.images.dtype == np.uint8
