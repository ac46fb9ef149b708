"""One run: open, check, warm up, measure in rounds, and say what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from fer_bench import accuracy, provenance
from fer_bench.build import pipeline_jobs, rival_jobs
from fer_bench.clock import Clock
from fer_bench.cold_start import ColdStartError, measure_cold_start
from fer_bench.jobs import Job, RivalJob
from fer_bench.labelled import LABELS, LabelledFaces, read_labelled
from fer_bench.load import LoadWatch, busy
from fer_bench.measure import StopRule
from fer_bench.models import describe
from fer_bench.plan import Plan
from fer_bench.result import (
    FORMAT,
    Accuracy,
    ColdStart,
    Model,
    Operations,
    Peak,
    Provenance,
    Result,
    Row,
    Scene,
    Skipped,
    with_limit,
)
from fer_bench.rivals.adapter import UnavailableError
from fer_bench.scenes import BUNDLED, Picture, all_of, bundled_portrait, portrait_of
from fer_bench.subjects import NAME, Subject, open_subjects
from fer_sdk import runtime
from fer_sdk.errors import DataError, FerError

_PEAK_RULE = StopRule(0.15, 5)
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
        reasons = "; ".join(f"{one.what}: {one.reason}" for one in skipped)
        raise DataError(f"no pipeline could be opened: {reasons}")
    try:
        pictures = _pictures(plan, subjects[0])
        scenes, counts, notes = _check_scenes(pictures, subjects)
        models = describe(subjects)
        peaks = _peaks(plan, subjects, clock, skipped, progress)
        with _jobs(plan, subjects, pictures, counts, clock, progress) as (jobs, left_out):
            skipped += left_out
            done = _measure(jobs, plan, skipped, progress)
            figures = _Accuracies(subjects, labelled, done, skipped, progress)
            rows = [figures.beside(row) for job in done for row in job.rows()]
        cold = _cold_starts(plan, subjects[0], pictures[0], skipped, progress)
        rows = [_limited(row, models, peaks) for row in rows]
        load = watch.finish()
        origin = Provenance(
            started=started.isoformat(timespec="seconds"),
            seconds=time.monotonic() - began,
            command=list(command),
            machine=machine,
            software=provenance.software(runtime.SPINNING),
            load=load,
        )
    finally:
        for subject in subjects:
            subject.pipeline.close()
    return Result(
        format=FORMAT,
        provenance=origin,
        scenes=scenes,
        models=models,
        peaks=peaks,
        cold_starts=cold,
        rows=rows,
        skipped=skipped,
        notes=busy(load, machine.cores) + notes,
    )


def _pictures(plan: Plan, subject: Subject) -> list[Picture]:
    if plan.photo is None:
        return all_of(bundled_portrait(), plan.sizes, plan.faces, BUNDLED)
    portrait = portrait_of(plan.photo, subject.found_by)
    return all_of(portrait, plan.sizes, plan.faces, plan.photo.name)


def _check_scenes(
    pictures: Sequence[Picture], subjects: Sequence[Subject]
) -> tuple[list[Scene], dict[tuple[str, str], int], list[str]]:
    """Count the faces that each detector finds, and say where it is not what was drawn."""
    detectors = {subject.detector: subject.found_by for subject in subjects}
    scenes, counts, notes = [], {}, []
    for picture in pictures:
        height, width = picture.rgb.shape[:2]
        found = {name: len(one.detect(picture.rgb)) for name, one in detectors.items()}
        scenes.append(Scene(picture.source, width, height, picture.faces, found, picture.sha256))
        for name, count in found.items():
            counts[name, picture.sha256] = count
            if count != picture.faces:
                notes.append(
                    f"{name} finds {count} of the {picture.faces} faces in the {width}x{height} "
                    "picture: its rows are about the faces found"
                )
    return scenes, counts, notes


def _peaks(
    plan: Plan,
    subjects: Sequence[Subject],
    clock: Clock,
    skipped: list[Skipped],
    progress: Progress,
) -> list[Peak]:
    if not plan.roofline:
        return []
    try:
        from fer_bench.roofline import measure_peak
    except ImportError as error:
        skipped.append(Skipped("roofline", f"it needs {error.name}: pip install 'fer-sdk[bench]'"))
        return []
    peaks = []
    for threads in sorted({subject.threads for subject in subjects if subject.device == "cpu"}):
        progress(f"measuring this machine's peaks with {threads} threads", 0.02)
        peaks.append(measure_peak(threads, clock, _PEAK_RULE))
    return peaks


@contextmanager
def _jobs(
    plan: Plan,
    subjects: Sequence[Subject],
    pictures: Sequence[Picture],
    counts: Mapping[tuple[str, str], int],
    clock: Clock,
    progress: Progress,
) -> Iterator[tuple[list[Job], list[Skipped]]]:
    jobs, skipped = pipeline_jobs(plan, subjects, pictures, counts, clock)
    if plan.rivals:
        progress("opening the rivals", 0.05)
    rivals, left_out = rival_jobs(plan, subjects, pictures, clock)
    try:
        yield jobs + rivals, skipped + left_out
    finally:
        for job in jobs + rivals:
            job.close()


def _measure(
    jobs: Sequence[Job], plan: Plan, skipped: list[Skipped], progress: Progress
) -> list[Job]:
    """Warm up each job and measure it in rounds; one that fails is left out with its reason."""
    rule = plan.rule.split(plan.rounds)
    alive = list(jobs)
    for turn in range(plan.rounds):
        for at, job in enumerate(list(alive)):
            one = job.conditions
            share = (turn + at / len(alive)) / plan.rounds
            progress(
                f"round {turn + 1} of {plan.rounds}: {one.subject}, {one.scenario}, {one.stage}",
                0.1 + 0.8 * share,
            )
            try:
                if turn == 0:
                    job.warm_up()
                job.take_round(rule)
            except (FerError, UnavailableError) as error:
                alive.remove(job)
                skipped.append(Skipped(f"{one.subject}, {one.scenario}", str(error)))
    return alive


class _Accuracies:
    """What stands beside the speed of a row."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        labelled: LabelledFaces | None,
        jobs: Sequence[Job],
        skipped: list[Skipped],
        progress: Progress,
    ) -> None:
        self._ours: dict[tuple[str, str | None], Accuracy | None] = {}
        self._rivals: dict[str, Accuracy] = {}
        for subject in subjects:
            key = (subject.device, subject.precision)
            if key not in self._ours:
                progress(f"accuracy of {subject.precision}", 0.92)
                self._ours[key] = _of_subject(subject, labelled)
        for job in jobs:
            name = job.conditions.subject
            if labelled is None or not isinstance(job, RivalJob) or name in self._rivals:
                continue
            progress(f"accuracy of {name}", 0.93)
            # OpenVINO and PyTorch take faces of the model's size, packages of any.
            faces = labelled.images
            if job.conditions.scenario == "model":
                faces = accuracy.resized(faces, subjects[0].emotion.metadata.input_size)
            try:
                answers = job.rival.classify(faces)
            except UnavailableError as error:
                skipped.append(Skipped(f"accuracy of {name}", str(error)))
                continue
            self._rivals[name] = accuracy.of_answers(answers, labelled)

    def beside(self, row: Row) -> Row:
        """The row with its accuracy, if its code gives emotions."""
        one = row.conditions
        if one.stage not in {"end to end", "emotion", "given boxes"}:
            return row
        if one.subject == NAME:
            return replace(row, accuracy=self._ours.get((one.device, one.precision)))
        return replace(row, accuracy=self._rivals.get(one.subject))


def _of_subject(subject: Subject, labelled: LabelledFaces | None) -> Accuracy | None:
    model = subject.emotion
    if labelled is None or not set(model.metadata.labels) <= set(LABELS):
        return accuracy.of_metadata(model.metadata.metrics)
    return accuracy.of_scores(
        model.scores, model.metadata.labels, model.metadata.input_size, labelled
    )


def _cold_starts(
    plan: Plan, subject: Subject, picture: Picture, skipped: list[Skipped], progress: Progress
) -> list[ColdStart]:
    taken = []
    for at in range(plan.cold_starts):
        progress(f"cold start {at + 1} of {plan.cold_starts}", 0.95)
        try:
            taken.append(measure_cold_start(picture.bgr, subject.arguments))
        except ColdStartError as error:
            skipped.append(Skipped("cold start", str(error)))
            break
    return taken


def _limited(row: Row, models: Sequence[Model], peaks: Sequence[Peak]) -> Row:
    """The row with its distance from the machine's limit, where both are known."""
    one = row.conditions
    peak = next((peak for peak in peaks if peak.threads == one.threads), None)
    operations = _of_row(row, models)
    if peak is None or operations is None or one.device != "cpu":
        return row
    from fer_bench.roofline import floor

    batch = one.batch
    if one.scenario == "stages" and one.stage != "detect":
        batch = row.faces_found or 1
    least = floor(operations, peak, batch)
    if least is None or least.milliseconds < _LEAST_FLOOR_MS:
        return row
    return with_limit(row, least.milliseconds, least.bound_by)


def _of_row(row: Row, models: Sequence[Model]) -> Operations | None:
    """The operations of the model that a row is about; None where it is about none, or unclear."""
    one = row.conditions
    name = "detector" if one.stage == "detect" else one.stage
    named = [model for model in models if model.name == name]
    exact = [model for model in named if model.precision == one.precision]
    # A pipeline's precision is its emotion model's; the others may have one of their own.
    chosen = exact or (named if one.subject == NAME else [])
    return chosen[0].operations if len(chosen) == 1 else None
