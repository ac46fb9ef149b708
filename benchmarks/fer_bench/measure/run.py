"""One run: open, check, warm up, measure in rounds, and say what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import cv2
from msgspec.structs import replace

from fer_bench.baselines.adapter import UnavailableError
from fer_bench.baselines.catalogue import BASELINES
from fer_bench.machine import provenance, roofline
from fer_bench.machine.load import LoadWatch, busy
from fer_bench.measure.build import THREE_CALLS, baseline_jobs, pipeline_jobs
from fer_bench.measure.cold_start import ColdStartError, measure_cold_start
from fer_bench.measure.jobs import Job
from fer_bench.measure.models import describe
from fer_bench.measure.plan import Plan
from fer_bench.measure.series import Clock, StopRule
from fer_bench.measure.subjects import NAME, Subject, open_subjects
from fer_bench.quality import accuracy
from fer_bench.quality.labelled import LABELS, LabelledFaces, read_labelled
from fer_bench.quality.scenes import (
    BUNDLED,
    BUNDLED_PHOTOGRAPH,
    Picture,
    bundled_photograph,
    bundled_portrait,
    compose,
    photograph,
    portrait_of,
)
from fer_bench.results.result import (
    FORMAT,
    Accuracy,
    ColdStart,
    Conditions,
    Limit,
    Model,
    Operations,
    Peak,
    Provenance,
    Result,
    Row,
    Scene,
    Skipped,
)
from fer_bench.results.words import number, plural
from fer_sdk.errors import DataError, FerError
from fer_sdk.image.load import load_image
from fer_sdk.models import session as runtime

_PEAK_RULE = StopRule(0.15, 3)
_PEAK_DRIFT = 1.1
_FEW, _SHORT = 100, 1.0
"""Samples and seconds of a series, below which it says little."""
_LEAST_FLOOR_MS = 0.01
"""Below this a call's own overhead is all that is left to measure."""

Progress = Callable[[str, float], None]
"""What is being done, and which share of the run is behind."""


def run(plan: Plan, clock: Clock, command: Sequence[str], progress: Progress) -> Result:
    """Measure everything that the plan asks for and this machine has.

    Raises:
        FerError: the plan cannot be begun: no pipeline opens, the photo has no face, or the
            labelled data cannot be read.
    """
    started, began = datetime.now(UTC), time.monotonic()
    labelled = None if plan.data is None else read_labelled(plan.data, plan.split)
    watch = LoadWatch()
    machine = provenance.machine()
    progress("opening the pipelines", 0.0)
    subjects, skipped = open_subjects(plan)
    if not subjects:
        reasons = "; ".join(f"{skip.what}: {skip.reason}" for skip in skipped)
        raise DataError(f"no pipeline could be opened: {reasons}")
    threads = cv2.getNumThreads()
    with ExitStack() as stack:
        for subject in subjects:
            stack.callback(subject.pipeline.close)
        pictures = _pictures(plan, subjects[0])
        scenes, counts, notes = _check_scenes(pictures, subjects)
        models = describe(subjects)
        before = _peaks(plan, subjects, clock, progress)
        jobs, left_out = pipeline_jobs(plan, subjects, pictures, counts, clock)
        stack.callback(cv2.setNumThreads, threads)
        for job in jobs:
            stack.callback(job.close)
        progress("opening the baselines", 0.05)
        beside, not_here = baseline_jobs(plan, subjects, pictures, clock)
        for job in beside:
            stack.callback(job.close)
        skipped += left_out + not_here
        done = _measure(jobs + beside, plan, skipped, progress)
        progress("accuracy", 0.92)
        figures = _accuracies(subjects, labelled, done, skipped)
        rows = [_with_accuracy(row, figures) for job in done for row in job.rows()]
        cold = _cold_starts(plan, subjects, pictures[0], skipped, progress)
        peaks, moved = _again(before, clock, progress)
        rows = [_limited(row, models, peaks) for row in rows]
        load = watch.finish()
    on_gpu = any(subject.device != "cpu" for subject in subjects)
    return Result(
        format=FORMAT,
        provenance=Provenance(
            started=started.isoformat(timespec="seconds"),
            seconds=time.monotonic() - began,
            command=list(command),
            machine=machine,
            software=provenance.software(runtime.SPINNING),
            load=load,
        ),
        scenes=scenes,
        models=models,
        peaks=peaks,
        cold_starts=cold,
        rows=rows,
        skipped=skipped,
        notes=[*_short(plan), *busy(load, machine, on_gpu=on_gpu), *moved, *notes],
    )


def _short(plan: Plan) -> list[str]:
    if plan.rule.min_count >= _FEW and plan.rule.min_seconds >= _SHORT:
        return []
    return [
        f"THE SERIES ARE SHORT: {plan.rule.min_count} samples and {plan.rule.min_seconds:g} s were "
        "asked for, which is to try it and not to publish"
    ]


def _pictures(plan: Plan, subject: Subject) -> list[Picture]:
    detector = subject.found_by
    if plan.photo is None:
        whole, portrait = bundled_photograph(), bundled_portrait()
        source, source_of_whole = BUNDLED, BUNDLED_PHOTOGRAPH
    else:
        whole = load_image(plan.photo)
        source = source_of_whole = plan.photo.name
        portrait = portrait_of(whole, detector, source)
    # On a plain ground other packages' detectors have next to nothing to do.
    beside_packages = any(BASELINES[name].kind == "package" for name in plan.baselines)
    return [
        photograph(whole, *size, detector, source_of_whole)
        if faces == 1 and beside_packages
        else compose(portrait, *size, faces, source)
        for size in plan.sizes
        for faces in plan.faces
    ]


def _check_scenes(
    pictures: Sequence[Picture], subjects: Sequence[Subject]
) -> tuple[list[Scene], dict[tuple[str, str], int], list[str]]:
    """Count the faces that each detector finds, and say where it is not what was drawn."""
    detectors = {subject.detector: subject.found_by for subject in subjects}
    scenes, counts, notes = [], {}, []
    for picture in pictures:
        height, width = picture.rgb.shape[:2]
        found = {name: len(detector.detect(picture.rgb)) for name, detector in detectors.items()}
        scenes.append(Scene(picture.source, width, height, picture.faces, found, picture.sha256))
        for name, count in found.items():
            counts[name, picture.sha256] = count
            if count != picture.faces:
                notes.append(
                    f"{name} finds {count} of the {picture.faces} faces in the {width}x{height} "
                    "picture: its rows are about the faces found"
                )
    return scenes, counts, notes


def _peaks(plan: Plan, subjects: Sequence[Subject], clock: Clock, progress: Progress) -> list[Peak]:
    peaks = []
    if plan.roofline:
        for threads in sorted({subject.threads for subject in subjects if subject.device == "cpu"}):
            progress(f"measuring this machine's peaks with {threads} threads", 0.02)
            peaks.append(roofline.measure_peak(threads, clock, _PEAK_RULE))
    return peaks


def _again(peaks: Sequence[Peak], clock: Clock, progress: Progress) -> tuple[list[Peak], list[str]]:
    """The best of the peaks before and after the rows, and whether they tell of another speed."""
    bests, notes = [], []
    for before in peaks:
        progress(f"measuring this machine's peaks with {before.threads} threads again", 0.98)
        after = roofline.measure_products(before.threads, clock, _PEAK_RULE)
        fp32, int8 = before.fp32_gmacs or after.fp32, before.int8_gmacs or after.int8
        for kind, old, new in (("fp32", fp32, after.fp32), ("int8", int8, after.int8)):
            if max(old, new) > _PEAK_DRIFT * min(old, new):
                notes.append(
                    f"THE MACHINE CHANGED ITS SPEED: its {kind} peak with "
                    f"{plural(before.threads, 'thread')} was {number(old)} before and "
                    f"{number(new)} after the rows, in 10^9 multiply-adds/s"
                )
        best = replace(before, fp32_gmacs=max(fp32, after.fp32), int8_gmacs=max(int8, after.int8))
        bests.append(best)
    return bests, notes


def _measure(
    jobs: Sequence[Job], plan: Plan, skipped: list[Skipped], progress: Progress
) -> list[Job]:
    """Warm up each job and measure it in rounds; one that fails is left out with its reason."""
    rule = plan.rule.split(plan.rounds)
    alive = list(jobs)
    for turn in range(plan.rounds):
        for at, job in enumerate(list(alive)):
            conditions = job.conditions
            what = f"{conditions.subject}, {conditions.scenario}"
            share = (turn + at / len(alive)) / plan.rounds
            progress(
                f"round {turn + 1} of {plan.rounds}: {what}, {conditions.stage}",
                0.1 + 0.8 * share,
            )
            try:
                if turn == 0:
                    job.warm_up()
                job.take_round(rule)
            except (FerError, UnavailableError) as error:
                alive.remove(job)
                skipped.append(Skipped(what, str(error)))
    return alive


_Accuracies = dict[tuple[str, str, str], Accuracy | None]
"""By subject, device and precision."""


def _accuracies(
    subjects: Sequence[Subject],
    labelled: LabelledFaces | None,
    jobs: Sequence[Job],
    skipped: list[Skipped],
) -> _Accuracies:
    """What stands beside the speed of each row."""
    found: _Accuracies = {}
    for subject in subjects:
        key = (NAME, subject.device, subject.precision)
        if key not in found:
            found[key] = _of_subject(subject, labelled)
    for job in jobs:
        # A runtime may have run several files, each with an accuracy of its own.
        conditions = job.conditions
        key = (conditions.subject, conditions.device, conditions.precision or "")
        if labelled is None or job.baseline is None or key in found:
            continue
        # OpenVINO and PyTorch take faces of the model's size, packages of any.
        faces = labelled.images
        if conditions.scenario == "model":
            faces = accuracy.resized(faces, subjects[0].emotion.metadata.input_size)
        try:
            found[key] = accuracy.of_answers(job.baseline.classify(faces), labelled)
        except UnavailableError as error:
            skipped.append(Skipped(f"accuracy of {conditions.subject}", str(error)))
    return found


def _with_accuracy(row: Row, figures: _Accuracies) -> Row:
    """The row with its accuracy, if its code gives emotions."""
    conditions = row.conditions
    if conditions.stage not in {"end to end", "emotion", "emotion, end to end", "given boxes"}:
        return row
    return replace(
        row,
        accuracy=figures.get((conditions.subject, conditions.device, conditions.precision or "")),
    )


def _of_subject(subject: Subject, labelled: LabelledFaces | None) -> Accuracy | None:
    model = subject.emotion
    if labelled is None or not set(model.metadata.labels) <= set(LABELS):
        return accuracy.of_metadata(model.metadata.metrics)
    return accuracy.of_scores(
        model.scores, model.metadata.labels, model.metadata.input_size, labelled
    )


def _cold_starts(
    plan: Plan,
    subjects: Sequence[Subject],
    picture: Picture,
    skipped: list[Skipped],
    progress: Progress,
) -> list[ColdStart]:
    """Fresh processes, the pipelines in turn; one that fails is left out with its reason."""
    taken = []
    alive = list(subjects)
    for at in range(plan.cold_starts):
        for subject in list(alive):
            progress(f"cold start {at + 1} of {plan.cold_starts}", 0.95)
            try:
                taken.append(measure_cold_start(picture.bgr, subject.arguments))
            except ColdStartError as error:
                skipped.append(Skipped("cold start", str(error)))
                alive.remove(subject)
    return taken


def _limited(row: Row, models: Sequence[Model], peaks: Sequence[Peak]) -> Row:
    """The row with its distance from the machine's limit, where both are known."""
    conditions = row.conditions
    peak = next((peak for peak in peaks if peak.threads == conditions.threads), None)
    parts = _work_of(row, models)
    if peak is None or parts is None or conditions.device != "cpu":
        return row
    least = roofline.floor(parts, peak)
    if least is None or least.milliseconds < _LEAST_FLOOR_MS:
        return row
    times = row.latency.p50 / least.milliseconds
    return replace(row, limit=Limit(least.milliseconds, least.bound_by, times))


_WHOLE = frozenset({"single-stream", "inference", "stages", "offline"})
"""Scenarios in which one call is all three models, one after the other."""


def _work_of(row: Row, models: Sequence[Model]) -> list[tuple[Operations, int]] | None:
    """Which operations a row is about, each with how often; None where none, or unclear."""
    conditions = row.conditions
    if conditions.scenario == "dynamic-batch":
        return None
    of_picture = conditions.scenario != "model"
    faces = conditions.batch * (row.faces_found or 0) if of_picture else conditions.batch
    if conditions.stage in {"detect", "landmarks", "emotion"}:
        names = [conditions.stage]
    elif (
        conditions.subject == NAME
        and conditions.scenario in _WHOLE
        and conditions.stage in {"end to end", THREE_CALLS}
    ):
        names = ["detect", "landmarks", "emotion"]
    else:
        return None
    parts = []
    # Where there is no face only the detector has run.
    for name in names if faces else names[:1]:
        operations = _operations(name, conditions, models)
        if operations is None:
            return None
        parts.append((operations, conditions.batch if name == "detect" else faces))
    return parts


def _operations(stage: str, conditions: Conditions, models: Sequence[Model]) -> Operations | None:
    name = stage
    if stage == "detect":
        # YuNet has no fixed work: it looks closer where it finds something.
        name = "blazeface" if conditions.detector in {"mediapipe", "blazeface"} else ""
    named = [model for model in models if model.name == name]
    exact = [model for model in named if model.precision == conditions.precision]
    # A pipeline's precision is its emotion model's; the others may have one of their own.
    chosen = exact or (named if conditions.subject == NAME else [])
    return chosen[0].operations if len(chosen) == 1 else None
