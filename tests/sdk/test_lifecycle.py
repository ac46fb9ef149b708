"""One pipeline under threads, tasks and processes, and what closing it does to all of them."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import tiny_models
from checks import tried
from fer_sdk import Face, FerPipeline, PipelineClosedError
from fer_sdk.detectors.mediapipe import installed_version, refusal

_DETECTORS = ["auto", "blazeface", "mediapipe", None]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_models.write_models(tmp_path_factory.mktemp("models"))


def _skip_without(detector: str | None) -> None:
    reason = refusal(installed_version()) if detector == "mediapipe" else None
    if reason:
        pytest.skip(reason)


@pytest.fixture(params=_DETECTORS, ids=str)
def pipeline(request: pytest.FixtureRequest, models: tuple[Path, Path]) -> Iterator[FerPipeline]:
    _skip_without(request.param)
    with FerPipeline(
        detector=request.param, emotion_model=models[0], landmarks_model=models[1], threads=2
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def scenes(example_photo: Path) -> list[np.ndarray]:
    """No face, one and four faces, in several sizes."""
    photo = cv2.imread(str(example_photo))
    face = photo[20:280, 100:360]
    half = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    four = np.vstack([np.hstack([face, face]), np.hstack([face, face])])
    return [photo, half, four, np.full((90, 160, 3), 128, np.uint8), photo[:, ::-1], four[:, :300]]


def test_eight_threads_get_exactly_the_answers_of_one(
    pipeline: FerPipeline, scenes: list[np.ndarray]
) -> None:
    expected = [pipeline.predict(scene) for scene in scenes]
    counts = [len(faces) for faces in expected]
    if pipeline.info.detector is None:
        assert counts == [1] * len(scenes)
    else:
        assert {0, 1} <= set(counts)
    rounds = 8
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(pipeline.predict, scenes * rounds))
    assert found == expected * rounds
    tried("predicts on 8 threads, compared with those of one", len(found))


def test_eight_threads_on_the_bundled_models(scenes: list[np.ndarray]) -> None:
    with FerPipeline() as pipeline:
        expected = [pipeline.predict(scene) for scene in scenes]
        with ThreadPoolExecutor(8) as threads:
            single = [threads.submit(pipeline.predict, scene) for scene in scenes * 2]
            batches = [threads.submit(pipeline.predict_batch, scenes) for _ in range(2)]
            assert [one.result() for one in single] == expected * 2
            for batch in batches:
                assert [len(faces) for faces in batch.result()] == [len(one) for one in expected]
    tried("predicts on 8 threads, compared with those of one", 2 * len(scenes))


def test_tasks_of_asyncio_take_turns_in_threads(
    pipeline: FerPipeline, scenes: list[np.ndarray]
) -> None:
    expected = [pipeline.predict(scene) for scene in scenes]

    async def all_of_them() -> list[list[Face]]:
        return await asyncio.gather(
            *(asyncio.to_thread(pipeline.predict, scene) for scene in scenes)
        )

    assert asyncio.run(all_of_them()) == expected
    tried("predicts through asyncio.to_thread", len(scenes))


def test_closing_while_threads_predict_gives_whole_answers_or_says_closed(
    pipeline: FerPipeline, scenes: list[np.ndarray]
) -> None:
    expected = [pipeline.predict(scene) for scene in scenes]
    started = threading.Barrier(9)
    answers: list[bool] = []

    def work(first: int) -> str:
        started.wait(60)
        for turn in range(10_000):
            at = (first + turn) % len(scenes)
            try:
                answers.append(pipeline.predict(scenes[at]) == expected[at])
            except PipelineClosedError as error:
                return str(error)
        return "never closed"

    with ThreadPoolExecutor(10) as threads:
        workers = [threads.submit(work, first) for first in range(8)]
        started.wait(60)
        closers = [threads.submit(pipeline.close) for _ in range(2)]
        for closer in closers:
            closer.result(120)
        ends = [worker.result(120) for worker in workers]
    assert all("closed" in end and "open another" in end for end in ends)
    assert all(answers)
    pipeline.close()
    tried("threads that were predicting while the pipeline was closed", len(ends))


def test_a_pipeline_is_neither_pickled_nor_copied(pipeline: FerPipeline) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="open one in each process"):
            attempt(pipeline)


_OPEN = """
import os, signal, sys, threading
from fer_sdk import FerPipeline, PipelineClosedError

detector, photo, emotion, landmarks = sys.argv[1:]
detector = None if detector == "None" else detector

def opened():
    return FerPipeline(
        detector=detector, emotion_model=emotion, landmarks_model=landmarks, threads=2
    )
"""
_FORK = """
pipeline = opened()
expected = pipeline.predict(photo)
child = os.fork()
if child == 0:
    signal.alarm(100)  # ends a child that hangs
    try:
        pipeline.predict(photo)
    except PipelineClosedError as error:
        print(error)
    pipeline.close()
    pipeline.close()
    with opened() as another:
        print(another.predict(photo) == expected)
    sys.exit(0)  # through the end of the interpreter, where destructors run
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(pipeline.predict(photo) == expected)
pipeline.close()
"""
_SPAWN = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

pipeline = None

def start():
    global pipeline
    pipeline = opened()

def predict(name):
    return pipeline.predict(name)

if __name__ == "__main__":
    with opened() as here:
        expected = here.predict(photo)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=spawn, initializer=start) as processes:
            print([found == expected for found in processes.map(predict, [photo] * 4)])
        with ProcessPoolExecutor(1, mp_context=spawn) as processes:
            try:
                processes.submit(here.predict, photo).result()
            except TypeError as error:
                print(error)
"""
_EXIT = """
pipeline = opened()

def work():
    while True:
        pipeline.predict(photo)

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
pipeline.predict(photo)
print("leaving")
"""


def _run(
    code: str, detector: str | None, photo: Path, models: tuple[Path, Path], folder: Path
) -> subprocess.CompletedProcess[str]:
    _skip_without(detector)
    script = folder / "script.py"
    script.write_text(_OPEN + code, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script), str(detector), str(photo), *map(str, models)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="no fork here")
@pytest.mark.parametrize("detector", _DETECTORS, ids=str)
def test_a_forked_process_is_told_to_open_its_own(
    detector: str | None, example_photo: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    done = _run(_FORK, detector, example_photo, models, tmp_path)
    assert done.returncode == 0, done.stderr
    told, *rest = done.stdout.splitlines()
    assert "opened before this process was forked" in told
    assert rest == ["True", "0", "True"]
    tried("processes that were forked with an open pipeline")


def test_a_spawned_process_opens_its_own(
    example_photo: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    done = _run(_SPAWN, "blazeface", example_photo, models, tmp_path)
    assert done.returncode == 0, done.stderr
    same, told = done.stdout.splitlines()
    assert same == "[True, True, True, True]"
    assert "can be neither pickled nor copied" in told
    tried("predicts in spawned processes", 4)


@pytest.mark.parametrize("detector", _DETECTORS, ids=str)
def test_the_interpreter_ends_while_threads_predict(
    detector: str | None, example_photo: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    done = _run(_EXIT, detector, example_photo, models, tmp_path)
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr
    tried("interpreters that ended while threads were predicting")
