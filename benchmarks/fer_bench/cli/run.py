"""``fer-bench run`` and ``targets``: measuring speed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from fer_bench.cli import options
from fer_bench.cli.app import EXAMPLES, app

_QUICK_COUNT, _QUICK_SECONDS = 20, 0.3


@app.command(epilog=EXAMPLES)
def run(
    device: Annotated[
        str, typer.Option(help="auto (CPU, and CUDA where it is), cpu, cuda")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, int8, fp32, fp16")] = "auto",
    detector: options.Detector = "auto",
    threads: Annotated[
        str | None, typer.Option(help="of one model run; one and all cores by default")
    ] = None,
    batch: Annotated[str, typer.Option(help="images per batch, faces per model run")] = "1,8",
    size: Annotated[str, typer.Option(help="of the picture")] = "640x480",
    faces: Annotated[str, typer.Option(help="in the picture")] = "1",
    workers: Annotated[
        str | None, typer.Option(help="threads on one pipeline; all cores by default")
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(
            help="all, or some of single-stream, inference, stages, multi-thread, multi-process, "
            "offline, camera, model, dynamic-batch"
        ),
    ] = "all",
    emotion_model: options.EmotionModel = None,
    landmarks_model: options.LandmarksModel = None,
    image: Annotated[
        Path | None,
        typer.Option(
            help="photo whose largest face fills the pictures, for the bundled portrait",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    data: options.Data = None,
    baseline: Annotated[
        str, typer.Option(help="all, none, or names: see 'fer-bench baselines'")
    ] = "none",
    baseline_python: options.BaselinePython = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="the emotion model's .safetensors of fer-train, for PyTorch as a baseline",
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
    quick: options.Quick = False,
    json_file: options.JsonFile = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="one row a line")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="tables for a README")
    ] = None,
) -> None:
    """Measure the pipeline on this machine. This is what fer-bench does without a command.

    Options that take several values take them with commas; every combination is measured.
    """
    from fer_bench.baselines.catalogue import BASELINES
    from fer_bench.measure.plan import SCENARIOS, Plan
    from fer_bench.measure.series import StopRule
    from fer_sdk.cpu_count import usable_cores
    from fer_sdk.models.metadata import Precision

    if quick:
        min_time, min_count = min(min_time, _QUICK_SECONDS), min(min_count, _QUICK_COUNT)
        cold_starts, rounds = min(cold_starts, 2), min(rounds, 2)
    cores = usable_cores()
    positive = options.whole(1)
    precisions = options.one_of(("auto", *get_args(Precision)))
    names = {"all": tuple(BASELINES), "none": ()}
    plan = Plan(
        devices=options.items(device, options.one_of(("auto", "cpu", "cuda")), "--device"),
        precisions=options.items(precision, precisions, "--precision"),
        detectors=options.detectors(detector),
        threads=options.items(threads or f"1,{cores}", positive, "--threads"),
        batches=options.items(batch, positive, "--batch"),
        sizes=options.items(size, options.size, "--size"),
        faces=options.items(faces, options.whole(0), "--faces"),
        workers=options.items(workers or str(cores), positive, "--workers"),
        scenarios=SCENARIOS
        if scenario == "all"
        else options.items(scenario, options.one_of(SCENARIOS), "--scenario"),
        emotion_model=emotion_model,
        landmarks_model=landmarks_model,
        rule=StopRule(min_time, min_count, max(time_limit, min_time)),
        rounds=rounds,
        cold_starts=cold_starts,
        roofline=roofline,
        baselines=names[baseline]
        if baseline in names
        else options.items(baseline, options.one_of(tuple(BASELINES)), "--baseline"),
        baseline_pythons=options.interpreters(baseline_python),
        checkpoint=checkpoint,
        photo=image,
        data=data,
    )
    options.check_writable(json_file, csv_file, markdown_file)
    result = _measured(plan)
    from fer_bench.report import render
    from fer_bench.results.files import write_result

    with options.failures():
        if json_file is not None:
            write_result(result, json_file)
        if csv_file is not None:
            csv_file.write_text(render.to_csv(result), encoding="utf-8")
        if markdown_file is not None:
            markdown_file.write_text(render.to_markdown(result), encoding="utf-8")
    render.show_result(result, options.console())
    if not result.rows:
        options.fail("nothing was measured")


def _measured(plan: Any) -> Any:
    """The result of a plan; progress goes to standard error."""
    from fer_bench.measure.run import run as run_plan
    from fer_bench.measure.series import SystemClock

    with options.progress() as progress, options.failures():
        return run_plan(plan, SystemClock(), _without_folders(sys.argv[1:]), progress)


def _without_folders(arguments: list[str]) -> list[str]:
    """Arguments with the last part of each path: where it lies is nobody else's business."""
    found = []
    for argument in arguments:
        before, equals, path = argument.rpartition("=")
        found.append(before + equals + path.replace("\\", "/").rstrip("/").rpartition("/")[2])
    return found


@app.command()
def targets(
    detector: options.Detector = "auto",
    emotion_model: options.EmotionModel = None,
    landmarks_model: options.LandmarksModel = None,
    baseline_python: options.BaselinePython = None,
    data: options.Data = None,
    quick: options.Quick = False,
    json_file: options.JsonFile = None,
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
    from msgspec.structs import replace

    from fer_bench.measure.series import StopRule
    from fer_bench.report import readme, render
    from fer_bench.results.files import write_result
    from fer_bench.results.targets import judge, targets_plan

    options.check_writable(json_file, readme_file)
    if readme_file is not None:
        with options.failures(2):
            readme.check(readme_file)
    brief: dict[str, Any] = {}
    if quick:
        brief = {"rule": StopRule(_QUICK_SECONDS, _QUICK_COUNT, 5.0), "cold_starts": 2}
    plan = targets_plan(
        detector=options.detectors(detector)[0],
        emotion_model=emotion_model,
        landmarks_model=landmarks_model,
        baseline_pythons=options.interpreters(baseline_python),
        data=data,
        **brief,
    )
    result = _measured(plan)
    result = replace(result, targets=judge(result))
    with options.failures():
        if json_file is not None:
            write_result(result, json_file)
        if readme_file is not None:
            readme.place(render.to_readme(result), readme_file)
    render.show_result(result, options.console())
    if any(target.met is False for target in result.targets):
        raise typer.Exit(1)


@app.command()
def baselines() -> None:
    """List the other runtimes and packages that can be measured beside the pipeline."""
    from fer_bench.baselines.catalogue import BASELINES

    for name, entry in BASELINES.items():
        print(f"{name:16} {entry.subject}: {entry.kind}, {entry.stage}")
