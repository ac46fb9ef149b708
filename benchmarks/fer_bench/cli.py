"""The command ``fer-bench``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import typer
from rich.console import Console
from typer.core import TyperGroup

# Nothing heavy is imported here: --help and a wrong option answer at once.

_EXAMPLES = """
**Examples**

  fer-bench                                     this machine, in a minute or two

  fer-bench --quick --threads 1,2,4 --size 640x480,1920x1080 --faces 1,4,8

  fer-bench --precision int8,fp32 --data fer2013.csv.gz --json out.json

  fer-bench --rival all --rival-python fer=venv-fer/bin/python

  fer-bench targets --rival-python fer=venv-fer/bin/python --readme speed.md

  fer-bench compare before.json after.json      exit code 1 when something got slower

  fer-bench report out.json -o page.html

  fer-bench detection fer2013.csv.gz            which faces are found, and false alarms

Exit codes: 0 done, 1 something failed or got slower, 2 wrong usage.
"""

Item = TypeVar("Item")
_FILE_COLUMNS = 120
_TOO_FEW_COUNT, _TOO_FEW_SECONDS = 20, 0.3


class _RunByDefault(TyperGroup):
    """``fer-bench --quick`` is ``fer-bench run --quick``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {"--help", "--install-completion", "--show-completion"}
        if not args or (args[0] not in self.commands and args[0] not in own):
            args = ["run", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=_RunByDefault,
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="How fast the pipeline is on this machine, and how far from what it could be.",
    epilog=_EXAMPLES,
)


class Verdict(StrEnum):
    """For which verdicts ``compare`` fails."""

    SLOWER = "slower"
    ANY = "any"
    NEVER = "never"


def _items(
    text: str, convert: Callable[[str], Item], option: str, example: str
) -> tuple[Item, ...]:
    try:
        found = tuple(convert(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{error}; use for example {option} {example}") from error
    if not found:
        raise typer.BadParameter(f"{option} is empty; use for example {option} {example}")
    return tuple(dict.fromkeys(found))


def _whole(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise ValueError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return convert


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 10_000:
        raise ValueError(f"{text!r} is not a frame rate above 0")
    return value


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    whole = _whole(16)
    return whole(width), whole(height)


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return convert


@app.command(epilog=_EXAMPLES)
def run(
    device: Annotated[
        str, typer.Option(help="auto (CPU, and CUDA where it is), cpu, cuda")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, int8, fp32, fp16")] = "auto",
    detector: Annotated[str, typer.Option(help="auto, mediapipe, blazeface")] = "auto",
    threads: Annotated[
        str | None, typer.Option(help="of one model run; one and all cores by default")
    ] = None,
    batch: Annotated[str, typer.Option(help="images per batch, faces per model run")] = "1,8",
    size: Annotated[str, typer.Option(help="of the picture")] = "640x480",
    faces: Annotated[str, typer.Option(help="in the picture")] = "1",
    workers: Annotated[
        str | None, typer.Option(help="threads on one pipeline; all cores by default")
    ] = None,
    fps: Annotated[str, typer.Option(help="frames a second of the camera")] = "30",
    scenario: Annotated[
        str,
        typer.Option(
            help="all, or some of single-stream, inference, stages, multi-thread, multi-process, "
            "offline, camera, model, dynamic-batch"
        ),
    ] = "all",
    emotion_model: Annotated[
        Path | None, typer.Option(help="your own export", exists=True, dir_okay=False)
    ] = None,
    landmarks_model: Annotated[
        Path | None, typer.Option(help="your own export", exists=True, dir_okay=False)
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            help="photo whose largest face fills the pictures, for the bundled portrait",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="fer2013.csv, to measure accuracy", exists=True, dir_okay=False),
    ] = None,
    split: Annotated[str, typer.Option(help="which faces of --data")] = "PublicTest",
    rival: Annotated[
        str, typer.Option(help="all, none, or names: see 'fer-bench rivals'")
    ] = "none",
    rival_python: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="interpreter that has this rival; repeatable"),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="the emotion model's .safetensors of fer-train, for PyTorch as a rival",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    min_time: Annotated[float, typer.Option(help="seconds of each series, at least", min=0)] = 3.0,
    min_count: Annotated[int, typer.Option(help="samples of each series, at least", min=1)] = 320,
    time_limit: Annotated[
        float, typer.Option(help="seconds of each series, whatever its count", min=0.1)
    ] = 60.0,
    rounds: Annotated[int, typer.Option(help="turns that the series take", min=1)] = 3,
    cold_starts: Annotated[int, typer.Option(help="fresh processes", min=0)] = 5,
    roofline: Annotated[bool, typer.Option(help="measure this machine's peaks")] = True,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="a fraction of a second each: to try it, not to publish"),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="everything, with all samples")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="one row a line")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="tables for a README")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="pictures", file_okay=False)
    ] = None,
) -> None:
    """Measure the pipeline on this machine. This is what fer-bench does without a command.

    Options that take several values take them with commas; every combination is measured.
    """
    from fer_bench.measure.plan import SCENARIOS, Plan
    from fer_bench.measure.series import StopRule
    from fer_sdk.cpu_count import usable_cores
    from fer_sdk.models.metadata import Precision

    if quick:
        min_time, min_count = min(min_time, _TOO_FEW_SECONDS), min(min_count, _TOO_FEW_COUNT)
        cold_starts, rounds = min(cold_starts, 2), min(rounds, 2)
    all_cores = usable_cores()
    precisions = _one_of(("auto", *get_args(Precision)))
    plan = Plan(
        devices=cast(Any, _items(device, _one_of(("auto", "cpu", "cuda")), "--device", "cpu")),
        precisions=cast(Any, _items(precision, precisions, "--precision", "int8,fp32")),
        detectors=cast(
            Any,
            _items(
                detector, _one_of(("auto", "mediapipe", "blazeface")), "--detector", "mediapipe"
            ),
        ),
        threads=_items(threads or f"1,{all_cores}", _whole(1), "--threads", "1,2"),
        batches=_items(batch, _whole(1), "--batch", "1,8"),
        sizes=_items(size, _size, "--size", "640x480,1920x1080"),
        faces=_items(faces, _whole(0), "--faces", "1,4"),
        workers=_items(workers or str(all_cores), _whole(1), "--workers", "2,8"),
        fps=_items(fps, _rate, "--fps", "30"),
        scenarios=SCENARIOS
        if scenario == "all"
        else _items(scenario, _one_of(SCENARIOS), "--scenario", "single-stream,stages"),
        emotion_model=emotion_model,
        landmarks_model=landmarks_model,
        rule=StopRule(min_time, min_count, max(time_limit, min_time)),
        rounds=rounds,
        cold_starts=cold_starts,
        roofline=roofline,
        rivals=_rivals(rival),
        rival_pythons=_pythons(rival_python or []),
        checkpoint=checkpoint,
        photo=image,
        data=data,
        split=split,
    )
    for path in (json_file, csv_file, markdown_file):
        _writable(path)
    result = _measured(plan)
    from fer_bench.report.terminal import show_result

    _write(result, json_file, csv_file, markdown_file, plots)
    show_result(result, _console())
    if not result.rows:
        _fail("nothing was measured")


def _measured(plan: Any) -> Any:
    """The result of a plan; progress goes to standard error."""
    from fer_bench.measure.clock import SystemClock
    from fer_bench.measure.run import run as run_plan
    from fer_sdk.errors import FerError

    with Console(stderr=True).status("starting") as status:

        def progress(what: str, share: float) -> None:
            status.update(f"{100 * share:3.0f} %  {what}")

        try:
            return run_plan(plan, SystemClock(), _without_folders(sys.argv[1:]), progress)
        except FerError as error:
            return _fail(str(error))


def _without_folders(arguments: list[str]) -> list[str]:
    """Arguments with the last part of each path: where it lies is nobody else's business."""
    found = []
    for one in arguments:
        before, equals, path = one.rpartition("=")
        found.append(before + equals + path.replace("\\", "/").rstrip("/").rpartition("/")[2])
    return found


@app.command()
def targets(
    detector: Annotated[str, typer.Option(help="auto, mediapipe, blazeface")] = "auto",
    emotion_model: Annotated[
        Path | None, typer.Option(help="your own export", exists=True, dir_okay=False)
    ] = None,
    landmarks_model: Annotated[
        Path | None, typer.Option(help="your own export", exists=True, dir_okay=False)
    ] = None,
    rival_python: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="interpreter that has fer or fer-mtcnn; repeatable"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="fer2013.csv, to measure accuracy", exists=True, dir_okay=False),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="a fraction of a second each: to try it, not to publish"),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="everything, with all samples")
    ] = None,
    readme_file: Annotated[
        Path | None,
        typer.Option(
            "--readme",
            metavar="FILE",
            help="tables for a README: into a new file, or between marks",
        ),
    ] = None,
) -> None:
    """Measure the speed that the pipeline is held to: each figure beside its limit.

    Takes some minutes and says the truth only on a machine that does nothing else. The exit code
    is 1 when a target is missed; what was not measured is not missed.
    """
    from dataclasses import replace

    from fer_bench.measure.series import StopRule
    from fer_bench.report import readme
    from fer_bench.report.tables import to_readme
    from fer_bench.report.terminal import show_result
    from fer_bench.results.targets import judge, targets_plan
    from fer_sdk.errors import DataError

    for path in (json_file, readme_file):
        _writable(path)
    if readme_file is not None:
        try:
            readme.check(readme_file)
        except DataError as error:
            raise typer.BadParameter(str(error)) from error
    (chosen,) = _items(detector, _one_of(("auto", "mediapipe", "blazeface")), "--detector", "auto")
    brief: dict[str, Any] = {}
    if quick:
        brief = {"rule": StopRule(_TOO_FEW_SECONDS, _TOO_FEW_COUNT, 5.0), "cold_starts": 2}
    plan = targets_plan(
        detector=cast(Any, chosen),
        emotion_model=emotion_model,
        landmarks_model=landmarks_model,
        rival_pythons=_pythons(rival_python or []),
        data=data,
        **brief,
    )
    result = _measured(plan)
    result = replace(result, targets=judge(result))
    _write(result, json_file, None, None, None)
    if readme_file is not None:
        try:
            readme.place(to_readme(result), readme_file)
        except DataError as error:
            _fail(str(error))
    show_result(result, _console())
    if any(one.met is False for one in result.targets):
        raise typer.Exit(1)


def _rivals(text: str) -> tuple[str, ...]:
    from fer_bench.baselines.catalogue import RIVALS

    if text == "none":
        return ()
    names = tuple(RIVALS)
    return names if text == "all" else _items(text, _one_of(names), "--rival", "openvino,fer")


def _pythons(given: list[str]) -> dict[str, Path]:
    from fer_bench.baselines.catalogue import RIVALS

    found = {}
    for one in given:
        name, _, path = one.partition("=")
        if name not in RIVALS or not path:
            raise typer.BadParameter(
                f"{one!r} is not NAME=PATH with a name out of {', '.join(RIVALS)}"
            )
        found[name] = Path(path)
    return found


def _writable(path: Path | None) -> None:
    # Better now than after the measurement.
    if path is not None and not path.resolve().parent.is_dir():
        raise typer.BadParameter(f"{path}: its folder does not exist")


def _write(
    result: Any,
    json_file: Path | None,
    csv_file: Path | None,
    markdown_file: Path | None,
    plots: Path | None,
) -> None:
    from fer_bench.report import tables
    from fer_bench.results import files
    from fer_sdk.errors import FerError

    try:
        if json_file is not None:
            files.write_result(result, json_file)
        if csv_file is not None:
            csv_file.write_text(tables.to_csv(result), encoding="utf-8")
        if markdown_file is not None:
            markdown_file.write_text(tables.to_markdown(result), encoding="utf-8")
        if plots is not None:
            from fer_bench.report.plots import draw, save

            save(draw(result), plots)
    except FerError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: cannot be written: {error.strerror}")


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="first result", exists=True, dir_okay=False)],
    after: Annotated[Path, typer.Argument(help="second result", exists=True, dir_okay=False)],
    min_effect: Annotated[
        float, typer.Option(help="least relevant change of p50, as a share", min=0, max=10)
    ] = 0.05,
    confidence: Annotated[
        float, typer.Option(help="of each row's interval", min=0.5, max=0.9999)
    ] = 0.99,
    fail_on: Annotated[Verdict, typer.Option(help="when the exit code is 1")] = Verdict.SLOWER,
) -> None:
    """Say which differences between two results exceed the noise.

    A row is slower or faster when the bootstrap interval of its ratio excludes 1 and the ratio is
    at least --min-effect away from it; the same when the whole interval lies within; else unclear.
    """
    from fer_bench.report.terminal import show_comparison
    from fer_bench.results.compare import compare as compare_results
    from fer_bench.results.files import read_result
    from fer_sdk.errors import DataError

    try:
        comparison = compare_results(
            read_result(before),
            read_result(after),
            min_effect=min_effect,
            confidence=confidence,
        )
    except DataError as error:
        _fail(str(error), 2)
    show_comparison(comparison, _console())
    changed = any(one.verdict in {"slower", "faster"} for one in comparison.differences)
    if (fail_on is Verdict.SLOWER and comparison.slower) or (fail_on is Verdict.ANY and changed):
        raise typer.Exit(1)


@app.command()
def report(
    result: Annotated[Path, typer.Argument(help="of --json", exists=True, dir_okay=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PAGE.html")],
) -> None:
    """Write one self-contained HTML page with tables and pictures."""
    from fer_bench.report.page import to_html
    from fer_bench.results.files import read_result
    from fer_sdk.errors import DataError

    _writable(output)
    try:
        output.write_text(to_html(read_result(result)), encoding="utf-8")
    except DataError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{output}: cannot be written: {error.strerror}")
    _console().print(f"{output}: written", soft_wrap=True)


@app.command()
def show(
    result: Annotated[Path, typer.Argument(help="of --json", exists=True, dir_okay=False)],
) -> None:
    """Print a result that was saved with --json."""
    from fer_bench.report.terminal import show_result
    from fer_bench.results.files import read_result
    from fer_sdk.errors import DataError

    try:
        show_result(read_result(result), _console())
    except DataError as error:
        _fail(str(error), 2)


@app.command()
def tracking(
    scenes: Annotated[
        int, typer.Option(help="of each kind and frame rate, as a detector's boxes", min=1)
    ] = 20,
    pictures: Annotated[int, typer.Option(help="of each kind, as pictures; 0: none", min=0)] = 2,
    detect_every: Annotated[
        str, typer.Option(help="of the pictures: the detector on every Nth frame")
    ] = "1,3,5",
    detector: Annotated[str, typer.Option(help="auto, mediapipe, blazeface")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="the figures, for programs")
    ] = None,
) -> None:
    """Count how often people lose their number, on scenes whose truth is known.

    People cross, turn back before each other, walk behind a pillar, come and go, and wander about
    in a crowd: as boxes with a detector's noise for the tracker alone, and as portraits before the
    whole pipeline. A switch is somebody with another number than before; mixed is a number that
    went over to somebody else; away is a second or longer without being found, after which another
    number is right. No scene was used to tune the tracker.
    """
    import json

    from fer_bench.quality.scenes import bundled_portrait
    from fer_bench.quality.tracking import measure
    from fer_bench.report.terminal import show_tracking
    from fer_sdk.errors import FerError
    from fer_sdk.pipeline import FerPipeline

    every = _items(detect_every, _whole(1), "--detect-every", "1,3")
    kind = _items(detector, _one_of(("auto", "mediapipe", "blazeface")), "--detector", "auto")[0]
    _writable(json_file)
    with Console(stderr=True).status("starting") as status:
        try:
            with FerPipeline(detector=cast(Any, kind)) as pipeline:
                results = measure(
                    scenes=scenes,
                    pictures=pictures,
                    every=every,
                    pipeline=pipeline if pictures else None,
                    portrait=bundled_portrait(),
                    progress=status.update,
                )
                used = pipeline.info
        except FerError as error:
            _fail(str(error))
    show_tracking(results, _console())
    if json_file is not None:
        report = {"pipeline": used.to_dict(), "results": [one.to_dict() for one in results]}
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


_DETECTION_EXAMPLES = """
**Examples**

  fer-bench detection                           false alarms, and faces of all sizes and tilts

  fer-bench detection fer2013.csv.gz            also FER2013's faces, as they are and on a canvas

  fer-bench detection --no-faces holidays --json detection.json
"""


@app.command(epilog=_DETECTION_EXAMPLES)
def detection(
    data: Annotated[
        Path | None,
        typer.Argument(help="fer2013.csv or fer2013.csv.gz", exists=True, dir_okay=False),
    ] = None,
    split: Annotated[str, typer.Option(help="which faces of it")] = "PublicTest",
    limit: Annotated[int | None, typer.Option(help="only this many of them", min=1)] = None,
    detector: Annotated[str, typer.Option(help="auto, mediapipe, blazeface")] = "auto",
    tiles: Annotated[str, typer.Option(help="of the scenes; 1 is the whole picture")] = "1,2,4",
    no_faces: Annotated[
        Path | None,
        typer.Option(
            help="folder of pictures without faces, for those of scikit-image and scikit-learn",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="of what is drawn at random", min=0)] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="everything")
    ] = None,
) -> None:
    """Measure which faces are found, and what is found where there is none.

    Small pictures, false alarms, and how small, how tilted and how many faces may be. Needs
    scikit-image and scikit-learn for their pictures.
    """
    import json

    from fer_bench.quality.detection import measure
    from fer_bench.quality.detection_tables import show
    from fer_sdk.errors import FerError

    (name,) = _items(
        detector, _one_of(("auto", "mediapipe", "blazeface")), "--detector", "mediapipe"
    )[:1]
    counts = _items(tiles, _whole(1), "--tiles", "1,4")
    _writable(json_file)
    with Console(stderr=True).status("starting") as status:

        def progress(what: str, share: float) -> None:
            status.update(f"{100 * share:3.0f} %  {what}")

        try:
            result = measure(
                data,
                split=split,
                limit=limit,
                detector=cast(Any, name),
                tiles=counts,
                folder=no_faces,
                seed=seed,
                progress=progress,
            )
        except FerError as error:
            _fail(str(error))
    show(result, _console())
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            _fail(f"{json_file}: cannot be written: {error.strerror}")


@app.command()
def rivals() -> None:
    """List the other runtimes and packages that can be measured beside the pipeline."""
    from fer_bench.baselines.catalogue import RIVALS

    for name, entry in RIVALS.items():
        print(f"{name:16} {entry.subject}: {entry.kind}, {entry.stage}")


@app.command()
def soak(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="for the curve and the numbers")
    ],
    predicts: Annotated[int, typer.Option(help="single pictures", min=0)] = 20_000,
    frames: Annotated[int, typer.Option(help="of a video; an hour by default", min=0)] = 108_000,
    detect_every: Annotated[
        int, typer.Option(help="frames from detection to detection", min=1)
    ] = 5,
    detector: Annotated[str, typer.Option(help="auto, mediapipe, blazeface")] = "auto",
    threads: Annotated[int | None, typer.Option(help="of one model run", min=1)] = None,
) -> None:
    """Run one pipeline for long and see that memory, file descriptors and threads stay flat.

    Exit code 1 when, after a quarter of the calls, memory grows by more than 20 MB, or a file
    descriptor or a thread comes to stay.
    """
    from fer_bench.soak import soak as run_soak
    from fer_bench.soak import write
    from fer_sdk.errors import FerError
    from fer_sdk.pipeline import FerPipeline

    name = _one_of(("auto", "mediapipe", "blazeface"))
    try:
        chosen = cast(Any, name(detector))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if predicts + frames == 0:
        raise typer.BadParameter("--predicts or --frames must be above 0")
    with Console(stderr=True).status("starting") as status:
        try:
            result = run_soak(
                predicts,
                frames,
                detect_every=detect_every,
                open_pipeline=lambda: FerPipeline(detector=chosen, threads=threads),
                progress=lambda what, share: status.update(f"{100 * share:3.0f} %  {what}"),
            )
            written = write(result, output)
        except FerError as error:
            _fail(str(error))
    for part in result.parts:
        print(
            f"{part.calls:,} {part.name}: {'flat' if part.flat else 'NOT FLAT'}, memory "
            f"{part.growth_bytes / 1e6:+.1f} MB, descriptors {part.descriptors_growth:+d}, "
            f"threads {part.threads_growth:+d} after {part.warm_up:,} for warm-up"
        )
    print(", ".join(str(path) for path in written))
    if not result.flat:
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON schema of a result."""
    import json

    from fer_bench.results.schema import schema as of_result

    print(json.dumps(of_result(), indent=2))


def _console() -> Console:
    """Standard output; where that is a file there is no reason to wrap at 80 columns."""
    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=_FILE_COLUMNS)


def _fail(message: str, code: int = 1) -> Any:
    Console(stderr=True).print(f"fer-bench: {message}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def main() -> None:
    """Entry point."""
    app()
