"""Ray Data over a dataset of pictures: the results of ``predict_batch``, row for row."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import tiny_models
from fer_sdk import cli, dataset
from fer_sdk.dataset import DatasetSummary, predict_dataset
from fer_sdk.errors import DataError
from fer_sdk.pipeline import FerPipeline

pa = pytest.importorskip("pyarrow", reason="needs the ray extra")
ray = pytest.importorskip("ray", reason="needs the ray extra")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the ray extra")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers and a core for the reading and writing beside them."""
    # Ray gives its own processes half a minute to start, which a busy machine may not keep.
    os.environ["RAY_raylet_start_wait_time_s"] = "240"  # noqa: SIM112
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> partial[FerPipeline]:
    emotion, landmarks = tiny_models.write_models(tmp_path_factory.mktemp("models"))
    return partial(
        FerPipeline, detector=None, threads=1, emotion_model=emotion, landmarks_model=landmarks
    )


def _folder(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    for i in range(count):
        gray = np.full((48, 48), 255 * i // count, np.uint8)
        gray[:, :24] //= 1 + i % 5
        cv2.imwrite(str(folder / f"{i:04}.png"), gray)
    return sorted(str(path) for path in folder.iterdir())


def _rows(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output).to_pylist()
    return sorted(rows, key=lambda row: str(row.get("id", row.get("image"))))


def _expected(opener: partial[FerPipeline], images: list[Any]) -> list[list[dict[str, object]]]:
    with opener() as pipeline:
        found = pipeline.predict_batch(images, on_error="raise")
    return [[_without_track(face.to_dict()) for face in faces] for faces in found]


def _without_track(face: dict[str, object]) -> dict[str, object]:
    del face["track_id"]
    return face


def test_a_folder_gives_what_predict_batch_gives(
    cluster: None, opener: partial[FerPipeline], tmp_path: Path
) -> None:
    paths = _folder(tmp_path / "pictures", 30)
    # Of every kind that ``fer predict`` takes of a folder too.
    odd = tmp_path / "pictures" / "0011b.PGM"
    cv2.imwrite(str(odd), np.full((48, 48), 90, np.uint8))
    paths = sorted([*paths, str(odd)])
    broken = tmp_path / "pictures" / "0012b.png"
    broken.write_bytes(b"not a picture")
    (tmp_path / "pictures" / "notes.txt").write_text("left alone")

    summary = predict_dataset(
        tmp_path / "pictures", tmp_path / "out", open_pipeline=opener, workers=2, batch_size=4
    )

    rows = _rows(tmp_path / "out")
    assert summary == DatasetSummary(images=32, faces=31, failed=1, left_out={".txt": 1})
    assert [row["image"] for row in rows] == sorted([*paths, str(broken)])
    (failed,) = [row for row in rows if row["error"] is not None]
    assert failed["error"].startswith(str(broken))
    assert failed["faces"] is None
    assert [row["faces"] for row in rows if row["error"] is None] == _expected(opener, paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures"]
    # Not one file for each batch.
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("kind", ["struct", "paths"])
def test_parquet_of_each_kind_keeps_its_other_columns(
    cluster: None, opener: partial[FerPipeline], tmp_path: Path, kind: str
) -> None:
    paths = _folder(tmp_path / "pictures", 10)
    content = [Path(path).read_bytes() for path in paths]
    held = {
        "struct": pa.array([{"bytes": one, "path": None} for one in content]),
        "paths": pa.array(paths),
    }[kind]
    pq.write_table(pa.table({"id": range(10), "image": held}), tmp_path / "in.parquet")

    predict_dataset(
        tmp_path / "in.parquet", tmp_path / "out", open_pipeline=opener, workers=2, batch_size=3
    )

    rows = _rows(tmp_path / "out")
    assert [row["id"] for row in rows] == list(range(10))
    assert [row["faces"] for row in rows] == _expected(opener, paths)
    assert ("image" in rows[0]) == (kind == "paths")


def test_pictures_may_be_plain_binary(opener: partial[FerPipeline], tmp_path: Path) -> None:
    paths = _folder(tmp_path / "pictures", 3)
    content = pa.array([Path(path).read_bytes() for path in paths], pa.binary())
    worker = dataset.FacesWorker("image", opener)
    found = worker(pa.table({"id": [7, 8, 9], "image": content}))
    assert found.column_names == ["id", "faces", "error"]
    assert found.column("faces").to_pylist() == _expected(opener, paths)


def test_one_file_is_work_for_every_worker(cluster: None, tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": [f"{i}.png" for i in range(20)]}), tmp_path / "in.parquet")
    rows, column, left_out = dataset._read(tmp_path / "in.parquet", None, batch_size=4)
    assert (column, left_out) == ("path", {})
    # A worker takes a block at a time.
    assert rows.materialize().num_blocks() == 5


def test_a_killed_worker_loses_and_doubles_nothing(
    cluster: None, opener: partial[FerPipeline], tmp_path: Path
) -> None:
    paths = _folder(tmp_path / "pictures", 60)
    done: list[DatasetSummary] = []
    # The workers cannot import this module.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    slow = partial(_SlowPipeline, **opener.keywords)
    run = threading.Thread(
        target=lambda: done.append(
            predict_dataset(
                tmp_path / "pictures", tmp_path / "out", open_pipeline=slow, workers=2, batch_size=3
            )
        )
    )
    run.start()
    victim = _working_worker(run)
    victim.kill()
    run.join(timeout=240)

    assert done == [DatasetSummary(images=60, faces=60, failed=0)]
    assert not victim.is_running()
    rows = _rows(tmp_path / "out")
    assert [row["image"] for row in rows] == paths
    assert [row["faces"] for row in rows] == _expected(opener, paths)


class _SlowPipeline(FerPipeline):
    """Slow enough to be killed at work."""

    def predict_batch(self, images: Any, **settings: Any) -> Any:
        time.sleep(0.5)
        return super().predict_batch(images, **settings)


def _working_worker(run: threading.Thread) -> Any:
    """A process that is in the middle of a batch."""
    while run.is_alive():
        for process in psutil.process_iter(["name", "cmdline"]):
            title = " ".join(process.info["cmdline"] or [])
            if "MapWorker" in title and ".submit" in title:
                return process
        time.sleep(0.05)
    raise AssertionError("the run ended before a worker was seen at work")


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda folder: None, {}, "there is no such file or folder"),
        (lambda folder: folder.mkdir(), {}, "holds neither images nor Parquet files"),
        (
            lambda folder: pq.write_table(pa.table({"name": ["a"]}), _inside(folder)),
            {},
            "needs a column image or bytes or path, and none that is called faces or error. Its "
            "columns are name",
        ),
        (
            lambda folder: pq.write_table(
                pa.table({"image": ["a"], "error": ["b"]}), _inside(folder)
            ),
            {},
            "none that is called faces or error",
        ),
        (lambda folder: _inside(folder).write_bytes(b"PAR1"), {}, "cannot be read as Parquet"),
        (lambda folder: _folder(folder, 2), {"column": "image"}, "has no column 'image'"),
    ],
)
def test_a_source_that_is_none_is_refused_and_nothing_is_left(
    cluster: None,
    opener: partial[FerPipeline],
    tmp_path: Path,
    make: Any,
    settings: dict[str, Any],
    message: str,
) -> None:
    source = tmp_path / "source"
    make(source)
    with pytest.raises(DataError, match="source") as caught:
        predict_dataset(source, tmp_path / "out", open_pipeline=opener, **settings)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def _inside(folder: Path) -> Path:
    folder.mkdir()
    return folder / "table.parquet"


def test_an_output_that_exists_is_refused(opener: partial[FerPipeline], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="already exists"):
        predict_dataset(tmp_path, tmp_path, open_pipeline=opener)


def test_the_command_says_what_was_done(
    cluster: None, opener: partial[FerPipeline], tmp_path: Path
) -> None:
    _folder(tmp_path / "pictures", 6)
    shutil.copy(tmp_path / "pictures" / "0003.png", tmp_path / "pictures" / "0003.jpg")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"")
    (tmp_path / "pictures" / "talk.mov").write_bytes(b"")
    models = opener.keywords
    done = CliRunner().invoke(
        cli.app,
        [
            *("dataset", str(tmp_path / "pictures"), "-o", str(tmp_path / "out"), "--json"),
            *("--workers", "1", "--detector", "none"),
            *("--emotion-model", str(models["emotion_model"])),
            *("--landmarks-model", str(models["landmarks_model"])),
        ],
    )
    assert done.exit_code == 1
    told = '{"images": 8, "faces": 7, "failed": 1, "left_out": {".mov": 1}}'
    assert told in done.stdout
    assert "fer: left out: 1 .mov (use fer video)\n" in done.stderr
    assert len(_rows(tmp_path / "out")) == 8


def test_what_ray_says_does_not_get_among_the_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def talkative(*given: Any, **settings: Any) -> DatasetSummary:
        sys.stdout.write("(raylet) A worker died or was killed\n")
        return DatasetSummary(images=3, faces=2, failed=0)

    monkeypatch.setattr("fer_sdk.dataset.predict_dataset", talkative)
    done = CliRunner().invoke(
        cli.app, ["dataset", str(tmp_path), "-o", str(tmp_path / "out"), "--json"]
    )
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"images": 3, "faces": 2, "failed": 0, "left_out": {}}
    assert "(raylet)" in done.stderr
