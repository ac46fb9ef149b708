"""The pipeline over a whole dataset of pictures, on many cores or machines, by Ray Data."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_sdk.errors import DataError, FerError, SettingError
from fer_sdk.image.folder import PICTURES, describe_left_out, split_pictures
from fer_sdk.pipeline import FerPipeline
from fer_sdk.types import LANDMARKS

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

_IMAGE_COLUMNS = ("image", "bytes", "path")
_ADDED = ("faces", "error")
# Of a batch each file would be too small to read well, and there would be too many.
_ROWS_A_FILE = 10_000
_ONE_THREAD = partial(FerPipeline, threads=1)


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What became of a dataset.

    Attributes:
        images: rows read, and rows written.
        faces: found in all of them.
        failed: images that could not be read; the column ``error`` says why.
        left_out: how many files of the folder were not taken for pictures, by what their names
            end in; hidden files are not counted.
    """

    images: int
    faces: int
    failed: int
    left_out: Mapping[str, int] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


def predict_dataset(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    column: str | None = None,
    open_pipeline: Callable[[], FerPipeline] = _ONE_THREAD,
    workers: int | None = None,
    gpus_per_worker: float = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> DatasetSummary:
    """Find the faces of all pictures of a folder or of Parquet files, and write them as Parquet.

    Each worker is a process with a pipeline of its own. A worker that dies is replaced and its
    batch done again: every row of the source is one row of the output, none lost, none twice, but
    in no particular order. A Ray cluster that is connected to, or that ``RAY_ADDRESS`` names, is
    used, with ``source`` and ``output`` on storage that all its machines see; otherwise a local one
    is started and stopped, with Ray's usage reports and dashboard off. Ray keeps its own logs in
    its folder for temporary files.

    Args:
        source: a folder of pictures, searched with its subfolders, or a Parquet file or a folder
            of them.
        output: folder to write, which must not exist. Its Parquet files have the columns of the
            source without the content of the pictures, then ``faces`` (a list of what
            ``Face.to_dict`` gives, largest first; null where the image failed) and ``error`` (null
            where it did not). Of a folder of pictures the source's only column is ``image``, the
            path.
        column: of a Parquet source, the column that holds the pictures: their content as binary,
            a struct with the field ``bytes``, or paths as text. None takes the first there is of
            ``image``, ``bytes`` and ``path``.
        open_pipeline: called once in each worker. Settings are given with ``functools.partial``.
        workers: how many; None takes one for each core of the cluster.
        gpus_per_worker: GPUs that each worker is given; 0.5 lets two share one.
        batch_size: images that go through the models together.
        progress: whether Ray shows its progress bars.

    Raises:
        DataError: Ray or pyarrow is not installed, the source cannot be read or holds no
            pictures, or the output exists or cannot be written.
        SettingError: ``workers`` or ``batch_size`` is below 1.
        FerError: the pipeline does not open.
    """
    for name, value in (("workers", workers), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise SettingError(f"{name} must be at least 1, not {value}")
    goal = Path(output)
    if goal.exists():
        raise DataError(f"{goal}: exists; name a folder that does not")
    with open_pipeline() as pipeline:
        # Settings that do not work are found out here, not once in every worker.
        labels = pipeline.info.labels
    with _cluster(workers) as cores:
        images = _read(Path(source), column, batch_size)
        found = images.rows.map_batches(
            _Worker,
            batch_size=batch_size,
            batch_format="pyarrow",
            fn_constructor_kwargs={
                "open_pipeline": open_pipeline,
                "column": images.column,
                "labels": labels,
            },
            compute=_ray().data.ActorPoolStrategy(size=workers or cores),
            num_cpus=1,
            num_gpus=gpus_per_worker or None,
        )
        return replace(_write(found, goal, progress), left_out=dict(images.left_out))


class _Worker:
    """A pipeline in a process of its own, from a batch of images to a batch of faces."""

    def __init__(
        self, open_pipeline: Callable[[], FerPipeline], column: str, labels: tuple[str, ...]
    ) -> None:
        self._pipeline = open_pipeline()
        self._column = column
        self._type = _faces_type(labels)

    def __call__(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        images = rows.column(self._column).to_pylist()
        content = [one["bytes"] if isinstance(one, dict) else one for one in images]
        results = self._pipeline.predict_batch(
            ["" if one is None else one for one in content], on_error="return"
        )
        faces = [
            [face.to_dict() for face in one] if isinstance(one, list) else None for one in results
        ]
        # The place in a batch, which the message begins with, means nothing to the caller.
        errors = [
            None if isinstance(one, list) else str(one).removeprefix(f"images[{place}]: ")
            for place, one in enumerate(results)
        ]
        if not pa.types.is_string(rows.schema.field(self._column).type):
            rows = rows.drop_columns([self._column])
        for name, values in zip(
            _ADDED, (pa.array(faces, self._type), pa.array(errors, pa.string())), strict=True
        ):
            rows = rows.append_column(name, values)
        return rows


@dataclass(frozen=True, slots=True)
class _Images:
    rows: ray.data.Dataset
    column: str
    left_out: Mapping[str, int] = field(default_factory=dict)


def _ray() -> Any:
    # Ray reports how it is used over the network unless told not to before its import. Whoever set
    # the variable themselves keeps their choice.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ImportError as error:
        raise DataError(
            f"datasets need Ray Data, and {error.name} is not installed: pip install 'fer-sdk[ray]'"
        ) from error
    return ray


@contextmanager
def _cluster(workers: int | None) -> Iterator[int]:
    """The cluster that there is, or a local one for as long as it is needed; gives its cores."""
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        settings: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if "RAY_ADDRESS" not in os.environ:
            from fer_sdk.cpu_count import usable_cores

            # One more than there are workers, for reading and writing beside them.
            settings |= {"num_cpus": (workers or usable_cores()) + 1, "include_dashboard": False}
        ray.init(**settings)
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
    finally:
        if ours:
            ray.shutdown()


def _read(source: Path, column: str | None, batch_size: int) -> _Images:
    import pyarrow as pa

    if not source.exists():
        raise DataError(f"{source}: there is no such folder or file")
    files = (
        sorted(path for path in source.rglob("*") if path.is_file())
        if source.is_dir()
        else [source]
    )
    tables = [path for path in files if path.suffix.lower() in (".parquet", ".pq")]
    if tables:
        images = _read_parquet(source, tables, column)
        # A block a batch, as below: Ray reads a file, however long, as one block or a few.
        rows = images.rows.repartition(target_num_rows_per_block=batch_size)
        return _Images(rows, images.column)
    pictures, left_out = split_pictures(map(str, files))
    if not pictures or not source.is_dir():
        raise DataError(
            f"{source}: neither a folder that holds pictures ({', '.join(PICTURES)}) nor Parquet"
            + (f"; {describe_left_out(left_out)}" if left_out else "")
        )
    if column is not None:
        raise DataError(f"{source}: a folder of pictures has no column {column!r}")
    # A block a batch, so that every worker gets work and little is done again when one dies.
    blocks = [
        pa.table({"image": pictures[start : start + batch_size]})
        for start in range(0, len(pictures), batch_size)
    ]
    return _Images(_ray().data.from_arrow(blocks), "image", left_out)


def _read_parquet(source: Path, tables: list[Path], column: str | None) -> _Images:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(tables[0])
        rows = _ray().data.read_parquet([str(path) for path in tables])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source}: cannot be read as Parquet: {error}") from error
    names = [column] if column else [one for one in _IMAGE_COLUMNS if one in schema.names]
    if not names or names[0] not in schema.names:
        raise DataError(
            f"{source}: has no column {column or ' or '.join(_IMAGE_COLUMNS)}; its columns are "
            f"{', '.join(schema.names)}"
        )
    held = schema.field(names[0]).type
    is_struct = pa.types.is_struct(held) and any(field.name == "bytes" for field in held)
    if not (is_struct or held in (pa.string(), pa.binary(), pa.large_binary())):
        raise DataError(
            f"{source}: column {names[0]} must hold pictures as binary, as a struct with the field "
            f"bytes, or as paths, not {held}"
        )
    taken = sorted(set(_ADDED) & set(schema.names))
    if taken:
        raise DataError(
            f"{source}: has a column {taken[0]} already, which is where the result goes; rename it"
        )
    return _Images(rows, names[0])


def _write(found: ray.data.Dataset, goal: Path, progress: bool) -> DatasetSummary:
    """Into a folder beside the goal, which takes its name when it is whole."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset

    ray = _ray()
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        partial_goal = Path(tempfile.mkdtemp(prefix=f".{goal.name}.", dir=goal.parent))
    except OSError as error:
        raise DataError(f"{goal}: cannot be written: {error.strerror or error}") from error
    try:
        with _quiet_but_for(progress):
            found.write_parquet(str(partial_goal), min_rows_per_file=_ROWS_A_FILE)
        written = pa.dataset.dataset(partial_goal, format="parquet")
        images = faces = failed = 0
        for batch in written.to_batches(columns=list(_ADDED)):
            images += len(batch)
            faces += pc.sum(pc.list_value_length(batch.column("faces"))).as_py() or 0
            failed += len(batch) - batch.column("error").null_count
        partial_goal.chmod(0o755)
        partial_goal.replace(goal)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, FerError):
            raise cause from error
        raise DataError(f"{goal}: not written, Ray failed: {error}") from error
    except OSError as error:
        raise DataError(f"{goal}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial_goal, ignore_errors=True)
    return DatasetSummary(images, faces, failed)


@contextmanager
def _quiet_but_for(progress: bool) -> Iterator[None]:
    """Let Ray show nothing but the progress that was asked for."""
    context, log = _ray().data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = progress
    if not progress:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        log.setLevel(before[1])


def _faces_type(labels: tuple[str, ...]) -> pa.DataType:
    """``list[Face.to_dict()]`` as Arrow has it; without ``track_id``, which a picture has not."""
    import pyarrow as pa

    number = pa.float64()
    point = pa.struct([("x", number), ("y", number)])
    return pa.list_(
        pa.struct(
            [
                ("box", pa.struct([(side, number) for side in ("x", "y", "width", "height")])),
                ("detection_score", number),
                ("landmarks", pa.struct([(name, point) for name in LANDMARKS])),
                ("emotion", pa.string()),
                ("confidence", number),
                ("scores", pa.struct([(label, number) for label in labels])),
            ]
        )
    )
