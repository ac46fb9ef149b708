"""The jobs of a plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
from msgspec.structs import replace

from fer_bench.baselines.adapter import UnavailableError
from fer_bench.baselines.catalogue import BASELINES, Entry
from fer_bench.baselines.process import BaselineProcess
from fer_bench.machine.sessions import BoundModel
from fer_bench.measure.inference import Faces, crops, three_calls
from fer_bench.measure.jobs import Job
from fer_bench.measure.plan import Plan
from fer_bench.measure.scenarios import (
    camera,
    changing_batch,
    in_parts,
    multi_thread,
    together,
)
from fer_bench.measure.series import Clock, Series, StopRule, WarmUp
from fer_bench.measure.stages import STAGES, StagedPipeline
from fer_bench.measure.subjects import NAME, Subject, model_file
from fer_bench.quality.scenes import Picture
from fer_bench.results.result import Conditions, Scenario, Skipped
from fer_sdk.errors import ModelError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel

THREE_CALLS = "three inference calls"
"""The stage of the scenario ``inference``."""

_PROCESS_BYTES = 400_000_000
"""What a process with a pipeline of its own may come to hold, with a margin."""
_COPIES = ("copy in", "compute", "copy out", "end to end")


@dataclass(frozen=True, slots=True, eq=False)
class _Setting:
    """A pipeline and the picture that it is measured on, in which it finds some faces."""

    plan: Plan
    clock: Clock
    subject: Subject
    picture: Picture
    found: int
    skipped: list[Skipped]

    def conditions(self, scenario: Scenario, **more: Any) -> Conditions:
        height, width = self.picture.rgb.shape[:2]
        return Conditions(
            subject=NAME,
            scenario=scenario,
            device=self.subject.device,
            precision=self.subject.precision,
            detector=self.subject.detector,
            threads=self.subject.threads,
            width=width,
            height=height,
            faces=self.picture.faces,
            **more,
        )

    def model_conditions(
        self, scenario: Scenario, model: EmotionModel | LandmarksModel, batch: int
    ) -> Conditions:
        return Conditions(
            subject=NAME,
            scenario=scenario,
            stage=model.task,
            device=self.subject.device,
            # Of a pair of models of one's own each may have its own.
            precision=model.metadata.precision,
            threads=self.subject.threads,
            batch=batch,
        )

    def job(
        self,
        conditions: Conditions,
        call: Callable[[], object],
        take: Callable[[StopRule], Series] | None = None,
        **more: Any,
    ) -> Job:
        found = None if conditions.width is None else self.found
        provider = self.subject.provider
        return Job(conditions, self.clock, call, take, provider=provider, faces_found=found, **more)

    @property
    def predict(self) -> Callable[[], object]:
        return partial(self.subject.pipeline.predict, self.picture.bgr)

    @property
    def crowds(self) -> tuple[int, ...]:
        wanted = self.plan.crowd_faces
        return self.plan.workers if wanted is None or self.picture.faces in wanted else ()

    def skip(self, what: str, reason: object) -> None:
        height, width = self.picture.rgb.shape[:2]
        where = f"{width}x{height}, {self.picture.faces} faces, {self.subject.detector}"
        self.skipped.append(Skipped(f"{what}, {where}", str(reason)))


def pipeline_jobs(
    plan: Plan,
    subjects: Sequence[Subject],
    pictures: Sequence[Picture],
    counts: Mapping[tuple[str, str], int],
    clock: Clock,
) -> tuple[list[Job], list[Skipped]]:
    """Every scenario of every pipeline on every picture; models alone on the first one's face.

    Args:
        plan: what to measure.
        subjects: the pipelines.
        pictures: to measure on.
        counts: faces found, by detector and by the picture's hash.
        clock: what the calls are timed by.
    """
    jobs: dict[Conditions, Job] = {}
    skipped: list[Skipped] = []
    for scenario in plan.scenarios:
        of_models = scenario in {"model", "dynamic-batch"}
        for picture in pictures[:1] if of_models else pictures:
            for subject in subjects:
                found = counts[subject.detector, picture.sha256]
                setting = _Setting(plan, clock, subject, picture, found, skipped)
                for job in _MAKERS[scenario](setting):
                    # Pipelines that differ in their detector alone have the same models.
                    jobs.setdefault(job.conditions, job)
    return list(jobs.values()), skipped


def _single(setting: _Setting) -> Iterator[Job]:
    yield setting.job(setting.conditions("single-stream"), setting.predict)


def _inference(setting: _Setting) -> Iterator[Job]:
    """What ``predict`` would cost if it did nothing but call its detector and its models."""
    if setting.found:
        calls = three_calls(setting.subject, setting.picture)
        yield setting.job(setting.conditions("inference", stage=THREE_CALLS), calls)


def _stages(setting: _Setting) -> Iterator[Job]:
    if not setting.found:
        setting.skip("stages", "the detector finds no face in the picture")
        return
    staged = StagedPipeline(setting.subject.pipeline, setting.picture.jpeg, setting.clock)
    take = partial(in_parts, staged.sample, clock=setting.clock)
    yield setting.job(setting.conditions("stages"), staged.sample, take, parts=STAGES)


def _threads(setting: _Setting) -> Iterator[Job]:
    for workers in setting.crowds:
        take = partial(multi_thread, setting.predict, workers, clock=setting.clock)
        yield setting.job(
            setting.conditions("multi-thread", workers=workers), setting.predict, take
        )


def _processes(setting: _Setting) -> Iterator[Job]:
    for workers in setting.crowds:
        try:
            processes = _open_processes(setting, workers)
        except UnavailableError as error:
            setting.skip(f"{workers} processes", error)
            continue

        def take(rule: StopRule, processes: Sequence[BaselineProcess] = processes) -> Series:
            own = rule.share(len(processes))
            with ThreadPoolExecutor(len(processes)) as pool:
                # What settles them is the call, all together, before the round.
                return together(
                    list(pool.map(lambda process: process.measure(own, settled=True), processes))
                )

        def warm(processes: Sequence[BaselineProcess] = processes) -> WarmUp:
            done = [process.warm_up() for process in processes]
            return next((warm_up for warm_up in done if not warm_up.stable), done[0])

        yield setting.job(
            setting.conditions("multi-process", workers=workers),
            partial(take, StopRule(0, 1)),
            take,
            warm=warm,
            owned=processes,
        )


def _open_processes(setting: _Setting, workers: int) -> list[BaselineProcess]:
    free = psutil.virtual_memory().available
    if workers * _PROCESS_BYTES > free:
        raise UnavailableError(
            f"{workers} processes may take {workers * _PROCESS_BYTES / 1e9:.1f} GB of memory, "
            f"and {free / 1e9:.1f} GB are free"
        )
    options = {"arguments": json.dumps(dict(setting.subject.arguments))}
    with ExitStack() as stack:
        opened = [
            stack.enter_context(
                BaselineProcess("own", threads=None, image=setting.picture.bgr, options=options)
            )
            for _ in range(workers)
        ]
        stack.pop_all()
    return opened


def _offline(setting: _Setting) -> Iterator[Job]:
    for batch in setting.plan.batches:
        call = partial(setting.subject.pipeline.predict_batch, [setting.picture.bgr] * batch)
        yield setting.job(setting.conditions("offline", batch=batch), call)


def _camera(setting: _Setting) -> Iterator[Job]:
    for fps in setting.plan.fps:
        take = partial(camera, setting.predict, fps, clock=setting.clock)
        yield setting.job(setting.conditions("camera", fps=fps), setting.predict, take)


def _models(setting: _Setting) -> Iterator[Job]:
    """The two models alone on batches of the picture's face."""
    for model, run, batch, faces in _batches(setting):
        conditions = setting.model_conditions("model", model, batch)
        yield setting.job(conditions, partial(run, faces))
        if setting.subject.device == "cuda":
            try:
                bound = BoundModel(model.session, faces)
            except ModelError as error:
                setting.skip("copies apart from compute", error)
            else:
                yield bound_job(
                    replace(conditions, scenario="cuda-model"), setting.clock, bound, faces
                )


def bound_job(conditions: Conditions, clock: Clock, model: BoundModel, faces: Faces) -> Job:
    """A model on a device, with the copies to and from it apart."""

    def sample() -> tuple[int, ...]:
        start = clock.now_ns()
        model.copy_in(faces)
        copied = clock.now_ns()
        model.compute()
        computed = clock.now_ns()
        model.copy_out()
        end = clock.now_ns()
        return copied - start, computed - copied, end - computed, end - start

    parts = [f"{conditions.stage}, {part}" for part in _COPIES]
    take = partial(in_parts, sample, clock=clock)
    return Job(conditions, clock, sample, take, parts=parts, provider=model.provider)


def _dynamic_batch(setting: _Setting) -> Iterator[Job]:
    """The two models alone on batches of the picture's face whose size changes each time."""
    for model, run, batch, faces in _batches(setting):
        # One face at most is one face each time.
        if batch > 1:
            conditions = setting.model_conditions("dynamic-batch", model, batch)
            yield setting.job(conditions, *changing_batch(run, faces, setting.clock))


def _batches(
    setting: _Setting,
) -> Iterator[tuple[EmotionModel | LandmarksModel, Callable[[Faces], object], int, Faces]]:
    landmarks, emotion = setting.subject.landmarks, setting.subject.emotion
    for batch in setting.plan.batches:
        faces = crops(setting.subject, landmarks, setting.picture, batch)
        yield landmarks, landmarks.landmarks, batch, faces
        yield (
            emotion,
            emotion.scores,
            batch,
            crops(setting.subject, emotion, setting.picture, batch),
        )


_MAKERS: Mapping[str, Callable[[_Setting], Iterator[Job]]] = {
    "single-stream": _single,
    "inference": _inference,
    "stages": _stages,
    "multi-thread": _threads,
    "multi-process": _processes,
    "offline": _offline,
    "camera": _camera,
    "model": _models,
    "dynamic-batch": _dynamic_batch,
}


def baseline_jobs(
    plan: Plan, subjects: Sequence[Subject], pictures: Sequence[Picture], clock: Clock
) -> tuple[list[Job], list[Skipped]]:
    """The baselines of the plan that can run here, with every number of threads."""
    jobs: dict[Conditions, Job] = {}
    skipped: list[Skipped] = []
    for name in plan.baselines:
        entry = BASELINES[name]
        tasks = _packages if entry.kind == "package" else _runtimes
        try:
            for subject in subjects:
                for conditions, task in tasks(plan, entry, subject, pictures):
                    if subject.device == "cpu" and conditions not in jobs:
                        process = BaselineProcess(
                            entry.adapter,
                            threads=subject.threads,
                            python=plan.baseline_pythons.get(name),
                            **task,
                        )
                        jobs[conditions] = _baseline_job(conditions, clock, process)
        except UnavailableError as error:
            skipped.append(Skipped(entry.subject, str(error)))
    return list(jobs.values()), skipped


def _baseline_job(conditions: Conditions, clock: Clock, process: BaselineProcess) -> Job:
    def take(rule: StopRule) -> Series:
        taken = process.measure(rule).taken
        return Series(taken, sum(taken))

    return Job(
        conditions,
        clock,
        partial(take, StopRule(0, 1)),
        take,
        provider=process.version,
        baseline=process,
        warm=process.warm_up,
        owned=[process],
    )


_Tasks = Iterator[tuple[Conditions, dict[str, Any]]]


def _packages(plan: Plan, entry: Entry, subject: Subject, pictures: Sequence[Picture]) -> _Tasks:
    square = subject.emotion.metadata.crop.square
    for picture in pictures:
        if plan.crowd_faces is not None and picture.faces not in plan.crowd_faces:
            continue
        height, width = picture.rgb.shape[:2]
        yield (
            Conditions(
                subject=entry.subject,
                scenario="package",
                stage=entry.stage,
                threads=subject.threads,
                width=width,
                height=height,
                faces=picture.faces,
            ),
            {
                "image": picture.bgr,
                "squares": [square(face.box) for face in subject.found_by.detect(picture.rgb)],
                "options": entry.options,
            },
        )


def _runtimes(plan: Plan, entry: Entry, subject: Subject, pictures: Sequence[Picture]) -> _Tasks:
    model = subject.emotion
    options = {**entry.options, "labels": json.dumps(model.metadata.labels)}
    if plan.checkpoint:
        options["checkpoint"] = str(plan.checkpoint)
    for batch in plan.batches:
        yield (
            Conditions(
                subject=entry.subject,
                scenario="model",
                stage=entry.stage,
                precision=subject.precision if entry.adapter == "openvino" else "fp32",
                threads=subject.threads,
                batch=batch,
            ),
            {
                "faces": crops(subject, model, pictures[0], batch),
                "content": model_file(subject, model),
                "options": options,
            },
        )
