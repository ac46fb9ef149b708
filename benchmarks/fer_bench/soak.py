"""Whether memory, file descriptors and threads stay flat in a pipeline that runs for long.

The first calls fill caches and the allocator's pools; what counts is what comes after this warm-up.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_bench.machine import provenance
from fer_bench.quality.scenes import Image, Picture, all_of, bundled_portrait
from fer_sdk.errors import DataError, FerError
from fer_sdk.pipeline import FerPipeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = ((160, 120), (320, 240), (640, 480), (1280, 720), (721, 1283), (1920, 1080))
FACES = (0, 1, 2, 5, 9)
VIDEO_SIZE = 320, 240
_SAMPLES = 200
_WARM_UP = 0.25
"""Share of the calls that may still change what is held: every size and form came often by then."""
_MOST_GROWTH = 20_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process held after so many calls.

    Attributes:
        calls: predicts or frames done.
        rss_bytes: resident memory.
        descriptors: open file descriptors, on Windows handles.
        threads: of the process.
    """

    calls: int
    rss_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Part:
    """One way to use the pipeline for long.

    Attributes:
        name: of it.
        calls: how many in all.
        faces: that were found in all.
        warm_up: calls before those that count.
        samples: over all calls, the warm-up too.
        growth_bytes: peak of the resident memory after warm-up over that in it.
        descriptors_growth: the same of file descriptors.
        threads_growth: the same of threads.
        flat: growth is at most 20 MB, and no descriptor or thread came to stay.
    """

    name: str
    calls: int
    faces: int
    warm_up: int
    samples: tuple[Sample, ...]
    growth_bytes: int
    descriptors_growth: int
    threads_growth: int
    flat: bool


@dataclass(frozen=True, slots=True)
class Soak:
    """The result, with what it was measured on."""

    parts: tuple[Part, ...]
    detector: str | None
    machine: dict[str, Any]
    software: dict[str, Any]

    @property
    def flat(self) -> bool:
        """Whether every part was."""
        return all(part.flat for part in self.parts)


def soak(
    predicts: int,
    frames: int,
    *,
    detect_every: int,
    open_pipeline: Callable[[], FerPipeline],
    progress: Callable[[str, float], None],
) -> Soak:
    """Use one pipeline for long.

    Args:
        predicts: single pictures of mixed sizes and numbers of faces, as arrays and as JPEG files
            in turn, every hundredth of them damaged.
        frames: of a video with two faces that move.
        detect_every: as of ``FerPipeline.stream``.
        open_pipeline: makes the pipeline.
        progress: is told what goes on, and the share that is done.

    Raises:
        DataError: there is no psutil to measure with.
        FerError: the pipeline cannot be opened or fails.
    """
    look = _probe()
    portrait = bundled_portrait()
    parts = []
    with open_pipeline() as pipeline:
        detector = pipeline.info.detector
        if predicts:
            pictures = all_of(portrait, SIZES, FACES, "bundled portrait")
            found = _predicts(pipeline, pictures)
            parts.append(_watched("predicts", predicts, found, look, progress))
        if frames:
            stream = pipeline.stream(_video(portrait), detect_every=detect_every)
            found = (len(frame.faces) for frame in stream)
            parts.append(_watched("frames", frames, found, look, progress))
    return Soak(
        tuple(parts),
        detector,
        asdict(provenance.machine()),
        asdict(provenance.software(None)),
    )


def _predicts(pipeline: FerPipeline, pictures: Sequence[Picture]) -> Iterator[int]:
    """Number of faces, call after call."""
    order = np.random.default_rng(0)
    for turn in itertools.count():
        picture = pictures[int(order.integers(len(pictures)))]
        if turn % 100 == 99:
            try:
                pipeline.predict(picture.jpeg[: len(picture.jpeg) // 2])
            except FerError:
                yield 0
                continue
            raise DataError("half a JPEG file was taken for a picture")
        yield len(pipeline.predict(picture.bgr if turn % 2 else picture.jpeg))


def _video(portrait: Image) -> Iterator[Image]:
    """Frames without end, BGR: two faces that go round."""
    width, height = VIDEO_SIZE
    (scene,) = all_of(portrait, [VIDEO_SIZE], [2], "bundled portrait")
    for turn in itertools.count():
        across = round(width / 12 * np.sin(turn / 15))
        down = round(height / 12 * np.cos(turn / 20))
        yield np.roll(scene.bgr, (down, across), axis=(0, 1))


def _watched(
    name: str,
    calls: int,
    work: Iterator[int],
    look: Callable[[int], Sample],
    progress: Callable[[str, float], None],
) -> Part:
    every = max(calls // _SAMPLES, 1)
    faces = 0
    samples = []
    for done, found in enumerate(itertools.islice(work, calls), 1):
        faces += found
        if done % every == 0 or done == calls:
            gc.collect()
            samples.append(look(done))
            progress(f"{done:,} of {calls:,} {name}", done / calls)
    return judge(name, calls, faces, samples)


def judge(name: str, calls: int, faces: int, samples: Sequence[Sample]) -> Part:
    """Compare what is held after warm-up with what was held in it.

    Raises:
        DataError: there are too few samples for that.
    """
    warm_up = int(calls * _WARM_UP)
    before = [sample for sample in samples if sample.calls <= warm_up]
    after = [sample for sample in samples if sample.calls > warm_up]
    if not before or not after:
        raise DataError(f"{calls} {name} are too few to tell: use more")
    # A large picture comes and goes: peaks are what can be compared.
    growth, descriptors, threads = (
        max(getattr(sample, held) for sample in after)
        - max(getattr(sample, held) for sample in before)
        for held in ("rss_bytes", "descriptors", "threads")
    )
    return Part(
        name=name,
        calls=calls,
        faces=faces,
        warm_up=warm_up,
        samples=tuple(samples),
        growth_bytes=growth,
        descriptors_growth=descriptors,
        threads_growth=threads,
        flat=growth <= _MOST_GROWTH and descriptors <= 0 and threads <= 0,
    )


def write(result: Soak, folder: Path) -> list[Path]:
    """Write ``soak.json`` and the curve, ``soak.png``; makes the folder.

    Raises:
        DataError: they cannot be written.
        PlotsUnavailableError: matplotlib is not installed.
    """
    paths = [folder / "soak.json", folder / "soak.png"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(result) | {"flat": result.flat}, indent=1)
        paths[0].write_text(text + "\n", encoding="utf-8")
        _curve(result).savefig(paths[1], dpi=150)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return paths


def _curve(result: Soak) -> Figure:
    from fer_bench.report.plots import PlotsUnavailableError

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotsUnavailableError(
            "pictures need matplotlib: pip install 'fer-sdk[bench]'"
        ) from error
    figure = Figure(figsize=(8, 3.6 * len(result.parts)), layout="constrained")
    heights = [3, 1] * len(result.parts)
    panels = figure.subplots(len(heights), 1, height_ratios=heights)
    for part, memory, others in zip(result.parts, panels[::2], panels[1::2], strict=True):
        _draw_memory(memory, part)
        _draw_others(others, part)
    return figure


def _draw_memory(axes: Any, part: Part) -> None:
    calls = [sample.calls for sample in part.samples]
    held = [sample.rss_bytes / 1e6 for sample in part.samples]
    most = max(mb for call, mb in zip(calls, held, strict=True) if call <= part.warm_up)
    axes.plot(calls, held, color="#1f5fa8", linewidth=1.2)
    limit = most + _MOST_GROWTH / 1e6
    axes.axhline(limit, color="#b03a2e", linestyle="--", linewidth=1)
    axes.annotate(
        f"limit: {_MOST_GROWTH / 1e6:.0f} MB over the peak of the warm-up",
        (calls[-1], limit),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color="#b03a2e",
        fontsize=8,
    )
    axes.set_ylim(0, 1.15 * max(limit, *held))
    axes.set_ylabel("memory, MB")
    axes.tick_params(labelbottom=False)
    axes.set_title(
        f"{part.calls:,} {part.name}, {part.faces:,} faces: peak of memory "
        f"{part.growth_bytes / 1e6:+.1f} MB after warm-up",
        loc="left",
        fontsize=10,
    )
    _mark_warm_up(axes, part)


def _draw_others(axes: Any, part: Part) -> None:
    calls = [sample.calls for sample in part.samples]
    threads = [sample.threads for sample in part.samples]
    descriptors = [sample.descriptors for sample in part.samples]
    for name, color, held in (
        ("threads", "#7d3c98", threads),
        ("descriptors", "#1e8449", descriptors),
    ):
        axes.plot(calls, held, color=color, linewidth=1.2, label=f"{name}: {held[-1]}")
    axes.set_ylim(0, 2.2 * max(*threads, *descriptors))
    axes.set_xlabel(f"{part.name} (gray: warm-up)")
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _mark_warm_up(axes, part)


def _mark_warm_up(axes: Any, part: Part) -> None:
    axes.axvspan(0, part.warm_up, color="#eeeeee", zorder=0)
    axes.set_xlim(0, part.calls)


def _probe() -> Callable[[int], Sample]:
    try:
        psutil = importlib.import_module("psutil")
    except ImportError as error:
        raise DataError("there is no psutil: pip install 'fer-sdk[bench]'") from error
    process = psutil.Process()
    descriptors = process.num_fds if hasattr(process, "num_fds") else process.num_handles

    def look(calls: int) -> Sample:
        return Sample(calls, process.memory_info().rss, descriptors(), process.num_threads())

    return look
