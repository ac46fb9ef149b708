"""The jobs of a plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from fer_bench.clock import Clock
from fer_bench.jobs import BoundJob, CallJob, CameraJob, Job, RivalJob, StagesJob, ThreadsJob
from fer_bench.plan import Plan
from fer_bench.result import Conditions, Scenario, Skipped
from fer_bench.rivals.adapter import UnavailableError
from fer_bench.rivals.catalogue import RIVALS, Entry
from fer_bench.rivals.process import RivalProcess
from fer_bench.scenes import Picture
from fer_bench.sessions import BoundModel
from fer_bench.stages import NoFaceError, StagedPipeline
from fer_bench.subjects import NAME, Subject, model_file
from fer_sdk.crop import crop_gray
from fer_sdk.errors import FerError
from fer_sdk.model import EmotionModel, LandmarksModel

Faces = npt.NDArray[np.uint8]

Counts = Mapping[tuple[str, str], int]
"""Faces found, by detector and by the picture's hash."""


def pipeline_jobs(
    plan: Plan,
    subjects: Sequence[Subject],
    pictures: Sequence[Picture],
    counts: Counts,
    clock: Clock,
) -> tuple[list[Job], list[Skipped]]:
    """Every scenario of every pipeline on every picture."""
    skipped: list[Skipped] = []
    makers: Mapping[str, Callable[[Subject, Picture], Iterator[Job]]] = {
        "single-stream": lambda subject, picture: _single(subject, picture, counts, clock),
        "stages": lambda subject, picture: _stages(subject, picture, counts, clock, skipped),
        "multi-thread": lambda subject, picture: _threads(plan, subject, picture, counts, clock),
        "offline": lambda subject, picture: _offline(plan, subject, picture, counts, clock),
        "camera": lambda subject, picture: _camera(plan, subject, picture, counts, clock),
    }
    jobs = [
        job
        for scenario in plan.scenarios
        if scenario in makers
        for picture in pictures
        for subject in subjects
        for job in makers[scenario](subject, picture)
    ]
    if "model" in plan.scenarios:
        jobs += model_jobs(plan, subjects, pictures[0], clock, skipped)
    return jobs, skipped


def _conditions(
    subject: Subject,
    scenario: Scenario,
    picture: Picture | None,
    *,
    stage: str = "end to end",
    workers: int = 1,
    batch: int = 1,
    fps: float | None = None,
) -> Conditions:
    return Conditions(
        subject=NAME,
        scenario=scenario,
        stage=stage,
        device=subject.device,
        precision=subject.precision,
        detector=subject.detector if picture is not None else None,
        threads=subject.threads,
        workers=workers,
        batch=batch,
        width=picture.rgb.shape[1] if picture is not None else None,
        height=picture.rgb.shape[0] if picture is not None else None,
        faces=picture.faces if picture is not None else None,
        fps=fps,
    )


def _single(subject: Subject, picture: Picture, counts: Counts, clock: Clock) -> Iterator[Job]:
    yield CallJob(
        _conditions(subject, "single-stream", picture),
        clock,
        partial(subject.pipeline.predict, picture.bgr),
        provider=subject.provider,
        faces_found=counts[subject.detector, picture.sha256],
    )


def _stages(
    subject: Subject, picture: Picture, counts: Counts, clock: Clock, skipped: list[Skipped]
) -> Iterator[Job]:
    conditions = _conditions(subject, "stages", picture)
    try:
        staged = StagedPipeline(subject.pipeline, picture.jpeg, clock)
    except NoFaceError as error:
        height, width = picture.rgb.shape[:2]
        what = f"stages, {width}x{height}, {picture.faces} faces, {subject.detector}"
        skipped.append(Skipped(what, str(error)))
        return
    yield StagesJob(
        conditions,
        clock,
        staged,
        provider=subject.provider,
        faces_found=counts[subject.detector, picture.sha256],
    )


def _threads(
    plan: Plan, subject: Subject, picture: Picture, counts: Counts, clock: Clock
) -> Iterator[Job]:
    for workers in plan.workers:
        yield ThreadsJob(
            _conditions(subject, "multi-thread", picture, workers=workers),
            clock,
            partial(subject.pipeline.predict, picture.bgr),
            provider=subject.provider,
            faces_found=counts[subject.detector, picture.sha256],
        )


def _offline(
    plan: Plan, subject: Subject, picture: Picture, counts: Counts, clock: Clock
) -> Iterator[Job]:
    for batch in plan.batches:
        yield CallJob(
            _conditions(subject, "offline", picture, batch=batch),
            clock,
            partial(subject.pipeline.predict_batch, [picture.bgr] * batch),
            provider=subject.provider,
            faces_found=counts[subject.detector, picture.sha256],
        )


def _camera(
    plan: Plan, subject: Subject, picture: Picture, counts: Counts, clock: Clock
) -> Iterator[Job]:
    for fps in plan.fps:
        yield CameraJob(
            _conditions(subject, "camera", picture, fps=fps),
            clock,
            partial(subject.pipeline.predict, picture.bgr),
            provider=subject.provider,
            faces_found=counts[subject.detector, picture.sha256],
        )


def model_jobs(
    plan: Plan,
    subjects: Sequence[Subject],
    picture: Picture,
    clock: Clock,
    skipped: list[Skipped],
) -> list[Job]:
    """The two models alone on batches of the picture's face."""
    jobs: dict[Conditions, Job] = {}
    for subject in subjects:
        for model in (subject.landmarks, subject.emotion):
            for batch in plan.batches:
                faces = crops(subject, model, picture, batch)
                conditions = replace(
                    _conditions(subject, "model", None, stage=model.task, batch=batch),
                    # Of a pair of models of one's own each may have its own.
                    precision=model.metadata.precision,
                )
                run = model.scores if isinstance(model, EmotionModel) else model.landmarks
                # Pipelines that differ in their detector alone have the same models.
                jobs.setdefault(
                    conditions,
                    CallJob(conditions, clock, partial(run, faces), provider=subject.provider),
                )
                if subject.device == "cuda" and isinstance(model, EmotionModel):
                    bound = _conditions(subject, "cuda-model", None, stage="", batch=batch)
                    if bound in jobs:
                        continue
                    try:
                        held = BoundModel(
                            model_file(subject, model), faces, subject.device, model.source
                        )
                        jobs[bound] = BoundJob(bound, clock, held, faces)
                    except FerError as error:
                        skipped.append(Skipped("copies apart from compute", str(error)))
    return list(jobs.values())


def crops(
    subject: Subject, model: EmotionModel | LandmarksModel, picture: Picture, batch: int
) -> Faces:
    """A batch of the first face of a picture, framed for a model; uint8 ``[batch, S, S]``."""
    found = subject.found_by.detect(picture.rgb)
    meta = model.metadata
    if not found:
        return np.zeros((batch, meta.input_size, meta.input_size), np.uint8)
    face = crop_gray(picture.rgb, meta.crop.square(found[0].box), meta.input_size)
    return np.repeat(face[None], batch, axis=0)


def rival_jobs(
    plan: Plan, subjects: Sequence[Subject], pictures: Sequence[Picture], clock: Clock
) -> tuple[list[Job], list[Skipped]]:
    """The rivals of the plan that can run here, with every number of threads."""
    jobs: dict[Conditions, Job] = {}
    skipped: dict[str, Skipped] = {}
    for name in plan.rivals:
        entry = RIVALS[name]
        tasks = _packages if entry.kind == "package" else _runtimes
        for subject in subjects:
            if subject.device != "cpu" or name in skipped:
                continue
            try:
                for conditions, start in tasks(plan, name, entry, subject, pictures):
                    if conditions not in jobs:
                        jobs[conditions] = RivalJob(conditions, clock, start())
            except UnavailableError as error:
                skipped[name] = Skipped(entry.subject, str(error))
    return list(jobs.values()), list(skipped.values())


_Tasks = Iterator[tuple[Conditions, Callable[[], RivalProcess]]]


def _packages(
    plan: Plan,
    name: str,
    entry: Entry,
    subject: Subject,
    pictures: Sequence[Picture],
) -> _Tasks:
    for picture in pictures:
        height, width = picture.rgb.shape[:2]
        geometry = subject.emotion.metadata.crop
        conditions = Conditions(
            subject=entry.subject,
            scenario="package",
            stage=entry.stage,
            device="cpu",
            precision=None,
            detector=None,
            threads=subject.threads,
            workers=1,
            batch=1,
            width=width,
            height=height,
            faces=picture.faces,
        )
        yield (
            conditions,
            partial(
                RivalProcess,
                entry.adapter,
                threads=subject.threads,
                image=picture.bgr,
                squares=[geometry.square(one.box) for one in subject.found_by.detect(picture.rgb)],
                options=entry.options,
                python=plan.rival_pythons.get(name),
            ),
        )


def _runtimes(
    plan: Plan,
    name: str,
    entry: Entry,
    subject: Subject,
    pictures: Sequence[Picture],
) -> _Tasks:
    model = subject.emotion
    labels = {"labels": json.dumps(model.metadata.labels)}
    program = {"program": str(plan.torch_program)} if plan.torch_program else {}
    for batch in plan.batches:
        conditions = Conditions(
            subject=entry.subject,
            scenario="model",
            stage=entry.stage,
            device="cpu",
            precision=subject.precision if entry.adapter == "openvino" else "fp32",
            detector=None,
            threads=subject.threads,
            workers=1,
            batch=batch,
            width=None,
            height=None,
            faces=None,
        )
        yield (
            conditions,
            partial(
                RivalProcess,
                entry.adapter,
                threads=subject.threads,
                faces=crops(subject, model, pictures[0], batch),
                content=model_file(subject, model),
                options={**entry.options, **labels, **program},
                python=plan.rival_pythons.get(name),
            ),
        )
