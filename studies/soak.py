"""Whether memory, file descriptors and threads stay flat in a pipeline that runs for long.

    python studies/soak.py soak
    python studies/soak.py soak --predicts 0        the hour of video alone

writes ``soak.json`` and ``soak.png`` into the folder ``soak``. One pipeline takes pictures of mixed
sizes and numbers of faces, as arrays and as JPEG files in turn, every hundredth of them damaged;
then an hour of video with two faces that move. The first quarter of the calls fills caches and the
allocator's pools; after it memory may grow by at most 20 MB, and no descriptor or thread may come
to stay. Else the exit code is 1.
"""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import psutil
import typer
from matplotlib.figure import Figure
from rich.progress import track

from fer_bench.machine import provenance
from fer_bench.quality.scenes import Image, bundled_portrait, compose
from fer_sdk.errors import FerError
from fer_sdk.pipeline import FerPipeline

SIZES = ((160, 120), (320, 240), (640, 480), (1280, 720), (721, 1283), (1920, 1080))
FACES = (0, 1, 2, 5, 9)
VIDEO_SIZE = 320, 240
_SAMPLES = 200
_WARM_UP = 0.25
_MOST_GROWTH = 20_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process held after so many calls: bytes, file descriptors (or handles), threads."""

    calls: int
    rss_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Part:
    """One way to use the pipeline for long; growth is of the peak after warm-up over that in it."""

    name: str
    calls: int
    faces: int
    warm_up: int
    samples: Sequence[Sample]
    growth_bytes: int
    descriptors_growth: int
    threads_growth: int
    flat: bool


def judge(name: str, calls: int, faces: int, samples: Sequence[Sample]) -> Part:
    """Compare what is held after warm-up with what was held in it."""
    warm_up = int(calls * _WARM_UP)
    before = [sample for sample in samples if sample.calls <= warm_up]
    after = [sample for sample in samples if sample.calls > warm_up]
    if not before or not after:
        raise typer.BadParameter(f"{calls} {name} are too few to tell: use more")
    # A large picture comes and goes: peaks are what can be compared.
    growth, descriptors, threads = (
        max(getattr(sample, held) for sample in after)
        - max(getattr(sample, held) for sample in before)
        for held in ("rss_bytes", "descriptors", "threads")
    )
    flat = growth <= _MOST_GROWTH and descriptors <= 0 and threads <= 0
    return Part(name, calls, faces, warm_up, samples, growth, descriptors, threads, flat)


def predicts(pipeline: FerPipeline) -> Iterator[int]:
    """Number of faces, call after call."""
    portrait = bundled_portrait()
    pictures = [
        compose(portrait, *size, faces, "bundled portrait") for size in SIZES for faces in FACES
    ]
    order = np.random.default_rng(0)
    for turn in itertools.count():
        picture = pictures[int(order.integers(len(pictures)))]
        if turn % 100 < 99:
            yield len(pipeline.predict(picture.bgr if turn % 2 else picture.jpeg))
            continue
        try:
            pipeline.predict(picture.jpeg[: len(picture.jpeg) // 2])
        except FerError:
            yield 0
        else:
            raise RuntimeError("half a JPEG file was taken for a picture")


def frames(pipeline: FerPipeline, detect_every: int) -> Iterator[int]:
    """Number of faces, frame after frame."""
    stream = pipeline.stream(video(), detect_every=detect_every)
    return (len(frame.faces) for frame in stream)


def video() -> Iterator[Image]:
    """Frames without end, BGR: two faces that go round."""
    scene = compose(bundled_portrait(), *VIDEO_SIZE, 2, "bundled portrait").bgr
    for turn in itertools.count():
        across = round(VIDEO_SIZE[0] / 12 * np.sin(turn / 15))
        down = round(VIDEO_SIZE[1] / 12 * np.cos(turn / 20))
        yield np.roll(scene, (down, across), axis=(0, 1))


def watched(name: str, calls: int, work: Iterator[int]) -> Part:
    """Make so many calls and look now and then at what the process holds."""
    process = psutil.Process()
    descriptors = process.num_fds if hasattr(process, "num_fds") else process.num_handles
    every = max(calls // _SAMPLES, 1)
    faces, samples = 0, []
    for done in track(range(1, calls + 1), f"{calls:,} {name}"):
        faces += next(work)
        if done % every == 0 or done == calls:
            gc.collect()
            held = process.memory_info().rss
            samples.append(Sample(done, held, descriptors(), process.num_threads()))
    return judge(name, calls, faces, samples)


def curve(parts: Sequence[Part]) -> Figure:
    """What was held over the calls, two panels for each part."""
    figure = Figure(figsize=(8, 3.6 * len(parts)), layout="constrained")
    heights = [3, 1] * len(parts)
    panels = figure.subplots(len(heights), 1, height_ratios=heights)
    for part, memory, others in zip(parts, panels[::2], panels[1::2], strict=True):
        calls = [sample.calls for sample in part.samples]
        held = [sample.rss_bytes / 1e6 for sample in part.samples]
        most = max(mb for call, mb in zip(calls, held, strict=True) if call <= part.warm_up)
        limit = most + _MOST_GROWTH / 1e6
        memory.plot(calls, held, color="#1f5fa8", linewidth=1.2)
        memory.axhline(
            limit,
            color="#b03a2e",
            linestyle="--",
            linewidth=1,
            label=f"limit: {_MOST_GROWTH / 1e6:.0f} MB over the peak of the warm-up",
        )
        memory.set_ylim(0, 1.15 * max(limit, *held))
        memory.set_ylabel("memory, MB")
        memory.tick_params(labelbottom=False)
        memory.set_title(
            f"{part.calls:,} {part.name}, {part.faces:,} faces: peak of memory "
            f"{part.growth_bytes / 1e6:+.1f} MB after warm-up",
            loc="left",
            fontsize=10,
        )
        most = 0
        for name, color in (("threads", "#7d3c98"), ("descriptors", "#1e8449")):
            counts = [getattr(sample, name) for sample in part.samples]
            others.plot(calls, counts, color=color, linewidth=1.2, label=f"{name}: {counts[-1]}")
            most = max(most, *counts)
        others.set_ylim(0, 2.2 * most)
        others.set_xlabel(f"{part.name} (gray: warm-up)")
        others.xaxis.set_major_formatter("{x:,.0f}")
        for axes in (memory, others):
            axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
            axes.axvspan(0, part.warm_up, color="#eeeeee", zorder=0)
            axes.set_xlim(0, part.calls)
    return figure


def main(
    folder: Annotated[Path, typer.Argument(help="for the curve and the numbers")],
    predicts_count: Annotated[
        int, typer.Option("--predicts", help="single pictures", min=0)
    ] = 20_000,
    frames_count: Annotated[
        int, typer.Option("--frames", help="of a video; an hour by default", min=0)
    ] = 108_000,
    detect_every: Annotated[int, typer.Option(help="from detection to detection", min=1)] = 5,
    detector: Annotated[str, typer.Option(help="as of FerPipeline")] = "auto",
    threads: Annotated[int | None, typer.Option(help="of one model run", min=1)] = None,
) -> None:
    """Run one pipeline for long and see that what it holds stays flat."""
    chosen: Any = detector
    parts = []
    with FerPipeline(detector=chosen, threads=threads) as pipeline:
        if predicts_count:
            parts.append(watched("predicts", predicts_count, predicts(pipeline)))
        if frames_count:
            parts.append(watched("frames", frames_count, frames(pipeline, detect_every)))
        used = pipeline.info.detector
    if not parts:
        raise typer.BadParameter("--predicts or --frames must be above 0")
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        "parts": [asdict(part) for part in parts],
        "detector": used,
        "machine": msgspec.to_builtins(provenance.machine()),
        "software": msgspec.to_builtins(provenance.software(None)),
        "flat": all(part.flat for part in parts),
    }
    (folder / "soak.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    curve(parts).savefig(folder / "soak.png", dpi=150)
    for part in parts:
        typer.echo(
            f"{part.calls:,} {part.name}: {'flat' if part.flat else 'NOT FLAT'}, memory "
            f"{part.growth_bytes / 1e6:+.1f} MB, descriptors {part.descriptors_growth:+d}, "
            f"threads {part.threads_growth:+d} after {part.warm_up:,} for warm-up"
        )
    if not report["flat"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
