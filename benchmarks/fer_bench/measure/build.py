"""The jobs of a plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from fer_bench.baselines.adapter import UnavailableError
from fer_bench.baselines.catalogue import RIVALS, Entry
from fer_bench.baselines.process import RivalProcess
from fer_bench.machine import provenance
from fer_bench.machine.sessions import BoundModel
from fer_bench.measure.clock import Clock
from fer_bench.measure.jobs import (
    BoundJob,
    CallJob,
    CameraJob,
    DynamicBatchJob,
    Job,
    ProcessesJob,
    RivalJob,
    StagesJob,
    ThreadsJob,
)
from fer_bench.measure.plan import Plan
from fer_bench.measure.stages import NoFaceError, StagedPipeline
from fer_bench.measure.subjects import NAME, Subject, detector_file, model_file
from fer_bench.quality.scenes import Picture
from fer_bench.results.result import Conditions, Scenario, Skipped
from fer_sdk.detectors import Detector, DetectorName, open_detector
from fer_sdk.errors import ModelError
from fer_sdk.image.crop import crop_gray
from fer_sdk.models.networks import EmotionModel, LandmarksModel
from fer_sdk.models.session import Session

Faces = npt.NDArray[np.uint8]

THREE_CALLS = "three inference calls"
"""The stage of the scenario ``inference``."""

_PROCESS_BYTES = 400_000_000
"""What a process with a pipeline of its own may come to hold, with a margin."""

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
    jobs = [
        job
        for scenario in plan.scenarios
        if scenario in _MAKERS
        for picture in pictures
        for subject in subjects
        for job in _MAKERS[scenario](_Pair(plan, subject, picture, counts, clock, skipped))
    ]
    if "model" in plan.scenarios:
        jobs += model_jobs(plan, subjects, pictures[0], clock, skipped)
    if "dynamic-batch" in plan.scenarios:
        jobs += dynamic_batch_jobs(plan, subjects, pictures[0], clock)
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


class _Pair:
    """A pipeline and the picture that it is measured on."""

    def __init__(
        self,
        plan: Plan,
        subject: Subject,
        picture: Picture,
        counts: Counts,
        clock: Clock,
        skipped: list[Skipped],
    ) -> None:
        self._plan = plan
        self._subject = subject
        self._picture = picture
        self._clock = clock
        self._skipped = skipped
        self._found = counts[subject.detector, picture.sha256]
        self._predict = partial(subject.pipeline.predict, picture.bgr)

    def single(self) -> Iterator[Job]:
        """The next call starts when the last one ends."""
        yield self._job(CallJob, self._predict, "single-stream")

    def inference(self) -> Iterator[Job]:
        """What ``predict`` would cost if it did nothing but run its three networks."""
        if self._found:
            calls = ThreeCalls(self._subject, self._picture)
            job = self._job(CallJob, calls, "inference", stage=THREE_CALLS)
            job.owns(calls)
            yield job

    def stages(self) -> Iterator[Job]:
        """One call, part by part."""
        try:
            staged = StagedPipeline(self._subject.pipeline, self._picture.jpeg, self._clock)
        except NoFaceError as error:
            self._skip("stages", error)
        else:
            yield self._job(StagesJob, staged, "stages")

    def threads(self) -> Iterator[Job]:
        """Threads on one pipeline."""
        for workers in self._crowds():
            yield self._job(ThreadsJob, self._predict, "multi-thread", workers=workers)

    def processes(self) -> Iterator[Job]:
        """As many processes."""
        for workers in self._crowds():
            try:
                processes = self._start(workers)
            except UnavailableError as error:
                self._skip(f"{workers} processes", error)
            else:
                yield self._job(ProcessesJob, processes, "multi-process", workers=workers)

    def offline(self) -> Iterator[Job]:
        """Batches."""
        for batch in self._plan.batches:
            call = partial(self._subject.pipeline.predict_batch, [self._picture.bgr] * batch)
            yield self._job(CallJob, call, "offline", batch=batch)

    def camera(self) -> Iterator[Job]:
        """Frames at a fixed rate."""
        for fps in self._plan.fps:
            yield self._job(CameraJob, self._predict, "camera", fps=fps)

    def _crowds(self) -> tuple[int, ...]:
        wanted = self._plan.crowd_faces
        return self._plan.workers if wanted is None or self._picture.faces in wanted else ()

    def _job(
        self,
        kind: Callable[..., Job],
        what: object,
        scenario: Scenario,
        *,
        stage: str = "end to end",
        workers: int = 1,
        batch: int = 1,
        fps: float | None = None,
    ) -> Job:
        conditions = _conditions(
            self._subject,
            scenario,
            self._picture,
            stage=stage,
            workers=workers,
            batch=batch,
            fps=fps,
        )
        return kind(
            conditions,
            self._clock,
            what,
            provider=self._subject.provider,
            faces_found=self._found,
        )

    def _start(self, workers: int) -> list[RivalProcess]:
        free = provenance.free_memory()
        if free is not None and workers * _PROCESS_BYTES > free:
            raise UnavailableError(
                f"{workers} processes may take {workers * _PROCESS_BYTES / 1e9:.1f} GB of memory, "
                f"and {free / 1e9:.1f} GB are free"
            )
        options = {"arguments": json.dumps(dict(self._subject.arguments))}
        image = self._picture.bgr

        def start(_: int) -> RivalProcess:
            return RivalProcess("own", threads=None, image=image, options=options)

        with ThreadPoolExecutor(workers) as pool:
            opening = [pool.submit(start, at) for at in range(workers)]
        failed = next((one.exception() for one in opening if one.exception()), None)
        if failed is not None:
            for one in opening:
                if one.exception() is None:
                    one.result().close()
            raise failed
        return [one.result() for one in opening]

    def _skip(self, what: str, error: Exception) -> None:
        height, width = self._picture.rgb.shape[:2]
        where = f"{width}x{height}, {self._picture.faces} faces, {self._subject.detector}"
        self._skipped.append(Skipped(f"{what}, {where}", str(error)))


_MAKERS: Mapping[str, Callable[[_Pair], Iterator[Job]]] = {
    "single-stream": _Pair.single,
    "inference": _Pair.inference,
    "stages": _Pair.stages,
    "multi-thread": _Pair.threads,
    "multi-process": _Pair.processes,
    "offline": _Pair.offline,
    "camera": _Pair.camera,
}


class ThreeCalls:
    """The detector's network and the two models, each called once on input that is ready.

    MediaPipe cannot be had without what it does before and after its network: there that counts.
    """

    def __init__(self, subject: Subject, picture: Picture) -> None:
        """Open the detector once more, without what the pipeline puts around it.

        Raises:
            FerError: it does not open.
        """
        self._landmarks = partial(
            subject.landmarks.session.run, every_crop(subject, subject.landmarks, picture)
        )
        self._emotion = partial(
            subject.emotion.session.run, every_crop(subject, subject.emotion, picture)
        )
        self._bare: Detector | None = None
        file = detector_file()
        if subject.detector == "blazeface" and file is not None:
            name, content = file
            network = Session(content, source=name, threads=subject.threads)
            _, _, (_, height, width, _) = network.inputs[0]
            size = int(str(width)), int(str(height))
            ready = np.asarray(cv2.resize(picture.rgb, size), np.uint8)[None]
            self._detect: Callable[[], object] = partial(network.run, ready)
        else:
            self._bare, _ = open_detector(cast(DetectorName, subject.detector))
            self._detect = partial(self._bare.detect, picture.rgb)

    def __call__(self) -> None:
        self._detect()
        self._landmarks()
        self._emotion()

    def close(self) -> None:
        """Let go of the detector."""
        if self._bare is not None:
            self._bare.close()


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
                conditions = _of_model(subject, model, "model", batch)
                run = _run_of(model)
                # Pipelines that differ in their detector alone have the same models.
                jobs.setdefault(
                    conditions,
                    CallJob(conditions, clock, partial(run, faces), provider=subject.provider),
                )
                if subject.device == "cuda":
                    bound = replace(conditions, scenario="cuda-model")
                    if bound in jobs:
                        continue
                    try:
                        held = BoundModel(model.session, faces)
                        jobs[bound] = BoundJob(bound, clock, held, faces)
                    except ModelError as error:
                        skipped.append(Skipped("copies apart from compute", str(error)))
    return list(jobs.values())


def dynamic_batch_jobs(
    plan: Plan, subjects: Sequence[Subject], picture: Picture, clock: Clock
) -> list[Job]:
    """The two models alone on batches of the picture's face whose size changes each time."""
    jobs: dict[Conditions, Job] = {}
    for subject in subjects:
        for model in (subject.landmarks, subject.emotion):
            for batch in plan.batches:
                conditions = _of_model(subject, model, "dynamic-batch", batch)
                # One face at most is one face each time.
                if batch > 1 and conditions not in jobs:
                    faces = crops(subject, model, picture, batch)
                    jobs[conditions] = DynamicBatchJob(
                        conditions, clock, _run_of(model), faces, provider=subject.provider
                    )
    return list(jobs.values())


def _of_model(
    subject: Subject, model: EmotionModel | LandmarksModel, scenario: Scenario, batch: int
) -> Conditions:
    return replace(
        _conditions(subject, scenario, None, stage=model.task, batch=batch),
        # Of a pair of models of one's own each may have its own.
        precision=model.metadata.precision,
    )


def _run_of(model: EmotionModel | LandmarksModel) -> Callable[[Faces], object]:
    return model.scores if isinstance(model, EmotionModel) else model.landmarks


def crops(
    subject: Subject, model: EmotionModel | LandmarksModel, picture: Picture, batch: int
) -> Faces:
    """A batch of the first face of a picture, framed for a model; uint8 ``[batch, S, S]``."""
    found = every_crop(subject, model, picture)
    if not len(found):
        side = model.metadata.input_size
        return np.zeros((batch, side, side), np.uint8)
    return np.repeat(found[:1], batch, axis=0)


def every_crop(subject: Subject, model: EmotionModel | LandmarksModel, picture: Picture) -> Faces:
    """All faces of a picture, framed for a model; uint8 ``[N, S, S]``."""
    meta = model.metadata
    found = [
        crop_gray(picture.rgb, meta.crop.square(one.box), meta.input_size)
        for one in subject.found_by.detect(picture.rgb)
    ]
    return np.stack(found) if found else np.empty((0, meta.input_size, meta.input_size), np.uint8)


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
        if plan.crowd_faces is not None and picture.faces not in plan.crowd_faces:
            continue
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
    checkpoint = {"checkpoint": str(plan.checkpoint)} if plan.checkpoint else {}
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
                options={**entry.options, **labels, **checkpoint},
                python=plan.rival_pythons.get(name),
            ),
        )
