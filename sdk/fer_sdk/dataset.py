"""The pipeline over a whole dataset of images, on many cores or machines, with Ray Data."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_sdk.errors import DataError, FerError
from fer_sdk.image.folder import describe_left_out, split_pictures
from fer_sdk.pipeline import FerPipeline
from fer_sdk.types import LANDMARKS

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGE_COLUMNS = ("image", "bytes", "path")
_ONE_THREAD = partial(FerPipeline, threads=1)


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """How many images there were, faces in them, and images that could not be read.

    ``left_out`` counts the files of a folder that are no images, by what their names end in.
    """

    images: int
    faces: int
    failed: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, int]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


class FacesWorker:
    """For ``ray.data.Dataset.map_batches`` with ``batch_format="pyarrow"``.

    Adds the columns ``faces`` (a list of what ``Face.to_dict`` gives; null if the image failed) and
    ``error`` (null if it did not), and drops the column of images unless it holds paths.

    Args:
        column: holds the content of images as binary or as structs with the field ``bytes``, or
            paths.
        open_pipeline: called once in each worker. Give settings with ``functools.partial``.
    """

    def __init__(self, column: str, open_pipeline: Callable[[], FerPipeline] = _ONE_THREAD) -> None:
        self._pipeline = open_pipeline()
        self._column = column

    def __call__(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        images = [
            image["bytes"] if isinstance(image, dict) else image
            for image in rows.column(self._column).to_pylist()
        ]
        results = self._pipeline.predict_batch(
            ["" if image is None else image for image in images], on_error="return"
        )
        faces = [
            [face.to_dict() for face in result] if isinstance(result, list) else None
            for result in results
        ]
        # The index within the batch, with which the message starts, means nothing to the caller.
        errors = [
            None if isinstance(result, list) else str(result).removeprefix(f"images[{index}]: ")
            for index, result in enumerate(results)
        ]
        if not pa.types.is_string(rows.schema.field(self._column).type):
            rows = rows.drop_columns([self._column])
        rows = rows.append_column("faces", pa.array(faces, self._faces_type()))
        return rows.append_column("error", pa.array(errors, pa.string()))

    def _faces_type(self) -> pa.DataType:
        """``list[Face.to_dict()]`` in Arrow, without ``track_id``, which only streams have."""
        import pyarrow as pa

        def struct(*names: str) -> pa.DataType:
            return pa.struct([(name, pa.float64()) for name in names])

        point = struct("x", "y")
        face = {
            "box": struct("x", "y", "width", "height"),
            "detection_score": pa.float64(),
            "landmarks": pa.struct([(name, point) for name in LANDMARKS]),
            "emotion": pa.string(),
            "confidence": pa.float64(),
            "scores": struct(*self._pipeline.info.labels),
        }
        return pa.list_(pa.struct(list(face.items())))


def predict_dataset(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    column: str | None = None,
    open_pipeline: Callable[[], FerPipeline] = _ONE_THREAD,
    workers: int | None = None,
    gpus_per_worker: float = 0,
    batch_size: int = 64,
) -> DatasetSummary:
    """Find the faces in a folder of images or in Parquet files, and write them as Parquet.

    Each row of the source becomes one row of the output, in no particular order. Ray replaces a
    worker that dies and repeats its batch. A Ray cluster you are connected to, or that
    ``RAY_ADDRESS`` names, is used; all its machines must see ``source`` and ``output``. Otherwise a
    local cluster is started and stopped, with Ray's usage reports and dashboard off.

    Args:
        source: a folder of images with its subfolders, a Parquet file, or a folder of them.
        output: a new folder for the Parquet files: the other columns of the source, then those of
            ``FacesWorker``. For a folder of images, ``image`` is the path.
        column: as for ``FacesWorker``. None takes the first of ``image``, ``bytes`` and ``path``.
        open_pipeline: as for ``FacesWorker``.
        workers: how many processes; None means one for each core of the cluster.
        gpus_per_worker: GPUs for each worker; with 0.5, two workers share one.
        batch_size: how many images go through the models together.

    Raises:
        DataError: Ray is not installed, the source cannot be read or holds no images, or the output
            exists or cannot be written.
        FerError: the pipeline does not open.
    """
    goal = Path(output)
    if goal.exists():
        raise DataError(f"{goal} already exists. Name a new folder")
    # Settings that do not work are found here, not in every worker.
    open_pipeline().close()
    ray = _import_ray()
    started = not ray.is_initialized()
    if started:
        from fer_sdk.cpu_count import usable_cores

        # One core more than workers, for reading and writing.
        local = {"num_cpus": (workers or usable_cores()) + 1, "include_dashboard": False}
        settings = {} if "RAY_ADDRESS" in os.environ else local
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
    try:
        rows, column, left_out = _read(Path(source), column, batch_size)
        cores = int(ray.cluster_resources().get("CPU", 1)) - 1
        found = rows.map_batches(
            FacesWorker,
            fn_constructor_args=(column, open_pipeline),
            batch_size=batch_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers or max(1, cores)),
            num_cpus=1,
            num_gpus=gpus_per_worker or None,
        )
        return _write(found, goal, left_out)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        reason = cause if isinstance(cause, FerError) else DataError(f"Ray failed: {error}")
        raise reason from error
    finally:
        if started:
            ray.shutdown()


def _import_ray() -> Any:
    # Ray reports its usage over the network unless told not to before its import.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import pyarrow.parquet  # noqa: F401
        import ray.data
    except ImportError as error:
        raise DataError(
            f"datasets need Ray Data, and {error.name} is not installed: pip install 'fer-sdk[ray]'"
        ) from error
    return ray


def _read(source: Path, column: str | None, batch_size: int) -> tuple[Any, str, dict[str, int]]:
    """The rows as a Ray dataset, the column that holds images, and the files that are left out.

    A block is a batch, so that every worker gets work and little is repeated when one dies.
    """
    import pyarrow as pa
    from ray.data import from_arrow, read_parquet

    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder")
    inside = source.rglob("*") if source.is_dir() else [source]
    files = sorted(str(path) for path in inside if path.is_file())
    tables = [file for file in files if file.lower().endswith((".parquet", ".pq"))]
    if not tables:
        pictures, left_out = split_pictures(files)
        if not pictures or not source.is_dir():
            others = f"; {describe_left_out(left_out)}" if left_out else ""
            raise DataError(f"{source}: holds neither images nor Parquet files{others}")
        if column:
            raise DataError(f"{source}: a folder of images has no column {column!r}")
        starts = range(0, len(pictures), batch_size)
        blocks = [pa.table({"image": pictures[start : start + batch_size]}) for start in starts]
        return from_arrow(blocks), "image", dict(left_out)
    try:
        names = pa.parquet.read_schema(tables[0]).names
        rows = read_parquet(tables).repartition(target_num_rows_per_block=batch_size)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source}: cannot be read as Parquet: {error}") from error
    wanted = [column] if column else [name for name in _IMAGE_COLUMNS if name in names]
    if not wanted or wanted[0] not in names or {"faces", "error"} & set(names):
        raise DataError(
            f"{source}: needs a column {column or ' or '.join(_IMAGE_COLUMNS)}, and none that is "
            f"called faces or error. Its columns are {', '.join(names)}"
        )
    return rows, wanted[0], {}


def _write(found: Any, goal: Path, left_out: dict[str, int]) -> DatasetSummary:
    """Write into a folder beside the goal, which gets its name when it is complete."""
    import pyarrow.compute as pc
    from pyarrow.dataset import dataset

    folder = None
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{goal.name}.", dir=goal.parent))
        found.write_parquet(str(folder), min_rows_per_file=10_000)
        images = faces = failed = 0
        for batch in dataset(folder, format="parquet").to_batches(columns=["faces", "error"]):
            images += len(batch)
            faces += pc.sum(pc.list_value_length(batch.column("faces"))).as_py() or 0
            failed += len(batch) - batch.column("error").null_count
        folder.chmod(0o755)
        folder.replace(goal)
    except OSError as error:
        raise DataError(f"{goal}: cannot be written: {error.strerror or error}") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return DatasetSummary(images, faces, failed, left_out)
