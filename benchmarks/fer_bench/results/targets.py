"""The speed that the pipeline is held to, worked out of one result.

Most are ratios of two series of one run, whose rounds took turns: what the machine does to one it
does to the other, so that they say the same on a fast and on a slow one. Whether a target is met is
told by the figure itself; the interval beside it says how sure that is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from fer_bench.baselines.catalogue import BASELINES
from fer_bench.measure.build import THREE_CALLS
from fer_bench.measure.plan import Plan
from fer_bench.measure.series import StopRule
from fer_bench.results.compare import interval
from fer_bench.results.percentiles import SAMPLES_FOR_P99
from fer_bench.results.result import ColdStart, Conditions, Result, Row, Target
from fer_bench.results.words import number
from fer_sdk.detectors import DetectorName

_FACES = 16
_WORKERS = 8
_RULE = StopRule(8.0, SAMPLES_FOR_P99 + 20, 60.0)
_CONFIDENCE = 0.99


def targets_plan(
    *,
    detector: DetectorName = "auto",
    rule: StopRule = _RULE,
    cold_starts: int = 7,
    emotion_model: Path | None = None,
    landmarks_model: Path | None = None,
    baseline_pythons: dict[str, Path] | None = None,
    data: Path | None = None,
    split: str = "PublicTest",
) -> Plan:
    """What must be measured: one thread, 640x480, int8, one face unless it is about several."""
    own = emotion_model or landmarks_model
    return Plan(
        devices=("cpu",),
        precisions=("auto" if own else "int8",),
        detectors=(detector,),
        threads=(1,),
        batches=(1,),
        sizes=((640, 480),),
        faces=(1, _FACES),
        workers=(_WORKERS,),
        crowd_faces=(1,),
        scenarios=("single-stream", "inference", "multi-thread", "multi-process", "model"),
        emotion_model=emotion_model,
        landmarks_model=landmarks_model,
        rule=rule,
        rounds=4,
        cold_starts=cold_starts,
        baselines=("fer", "fer-mtcnn"),
        baseline_pythons=baseline_pythons or {},
        data=data,
        split=split,
    )


class _MissingError(Exception):
    """What is missing for a figure."""


class _Figure(NamedTuple):
    value: float
    basis: str
    ends: tuple[float, float] | None = None


def judge(result: Result) -> list[Target]:
    """Every target with its figure, or with the reason why there is none.

    Args:
        result: of ``targets_plan``; of any other run the first pipeline on one face is judged, as
            far as its series go.
    """
    rows = {row.conditions: row for row in result.rows}
    alone = next(
        (
            conditions
            for conditions in rows
            if conditions.scenario == "single-stream"
            and conditions.faces == 1
            and conditions.device == "cpu"
        ),
        None,
    )

    def row(**changes: object) -> Row:
        if alone is None:
            raise _MissingError("no single-stream series on one face")
        wanted: Conditions = replace(alone, **changes)
        if wanted not in rows:
            raise _MissingError(
                f"no series {wanted.scenario}, {wanted.stage}, {wanted.faces} faces"
            )
        return rows[wanted]

    def baseline(name: str) -> Callable[[], _Figure]:
        return lambda: _against(result, row(), BASELINES[name].subject)

    # Of other pipelines in the same run there may be cold starts too.
    starts = [] if alone is None else [start for start in result.cold_starts if _same(start, alone)]
    crowd = f"{_WORKERS} processes over {_WORKERS} threads on one pipeline"
    return [
        _target("predict over its three inference calls", 1.25, lambda: _overhead(row)),
        _target("p99 over p50 of predict", 1.6, lambda: _tail(row())),
        _target(f"{_FACES} faces over one face", 9, lambda: _faces(row)),
        # fer-bench compare calls less than five per cent no difference.
        _target(f"images a second, {crowd}", 1.05, lambda: _crowds(row)),
        _target("emotion model over the roofline's floor", 1.5, lambda: _floor(row)),
        _target("fer with its Haar cascade over us", 15, baseline("fer"), "at least"),
        _target("fer with MTCNN over us", 40, baseline("fer-mtcnn"), "at least"),
        _target("cold start to the first result", 1.2, lambda: _cold(starts), unit="s"),
        _target("peak memory of a fresh process", 250, lambda: _memory(starts), unit="MB"),
    ]


def _target(
    what: str,
    limit: float,
    figure: Callable[[], _Figure],
    direction: Literal["at most", "at least"] = "at most",
    unit: Literal["times", "s", "MB"] = "times",
) -> Target:
    try:
        value, basis, ends = figure()
    except _MissingError as missing:
        return Target(what, None, None, None, limit, direction, unit, str(missing))
    low, high = ends or (None, None)
    return Target(what, value, low, high, limit, direction, unit, basis)


_Rows = Callable[..., Row]


def _over(above: Row, below: Row) -> _Figure:
    upper, lower = above.latency.p50, below.latency.p50
    ends = interval(above.rounds_ms, below.rounds_ms, _CONFIDENCE, np.random.default_rng(0))
    return _Figure(upper / lower, f"p50 {number(upper)} ms / {number(lower)} ms", ends)


def _overhead(row: _Rows) -> _Figure:
    return _over(row(), row(scenario="inference", stage=THREE_CALLS))


def _tail(alone: Row) -> _Figure:
    seen = alone.latency
    if seen.p99 is None:
        raise _MissingError(f"{seen.count} samples; a p99 needs more than {SAMPLES_FOR_P99}")
    return _Figure(seen.p99 / seen.p50, f"{number(seen.p99)} ms / {number(seen.p50)} ms")


def _faces(row: _Rows) -> _Figure:
    many, one = row(faces=_FACES), row()
    if (many.faces_found, one.faces_found) != (_FACES, 1):
        raise _MissingError(f"the detector finds {many.faces_found} faces and {one.faces_found}")
    return _over(many, one)


def _crowds(row: _Rows) -> _Figure:
    processes = row(scenario="multi-process", workers=_WORKERS).images_per_second
    threads = row(scenario="multi-thread", workers=_WORKERS).images_per_second
    if not processes or not threads:
        raise _MissingError("no throughput")
    return _Figure(processes / threads, f"{number(processes)} / {number(threads)} images a second")


def _floor(row: _Rows) -> _Figure:
    model = row(
        scenario="model", stage="emotion", detector=None, width=None, height=None, faces=None
    )
    if model.limit is None:
        raise _MissingError("the roofline or the model's operations are not known")
    return _Figure(
        model.limit.times_floor,
        f"p50 {number(model.latency.p50)} ms / {number(model.limit.floor_ms)} ms, bound by "
        f"{model.limit.bound_by}",
    )


def _against(result: Result, alone: Row, subject: str) -> _Figure:
    ours = alone.conditions
    for row in result.rows:
        theirs = row.conditions
        if theirs == replace(
            ours,
            subject=subject,
            scenario="package",
            stage=theirs.stage,
            precision=None,
            detector=None,
        ):
            if row.faces_found != alone.faces_found:
                raise _MissingError(
                    f"it finds {row.faces_found} faces where we find {alone.faces_found}"
                )
            return _over(row, alone)
    reasons = [skipped.reason for skipped in result.skipped if subject in skipped.what]
    raise _MissingError(reasons[0] if reasons else "not asked for")


def _same(start: ColdStart, alone: Conditions) -> bool:
    ran = (start.device, start.precision, start.detector, start.threads)
    return ran == (alone.device, alone.precision, alone.detector, alone.threads)


def _cold(starts: Sequence[ColdStart]) -> _Figure:
    taken = _several([start.to_first_result_ms / 1e3 for start in starts])
    return _Figure(median(taken), f"median of {len(taken)} processes, most {number(max(taken))} s")


def _memory(starts: Sequence[ColdStart]) -> _Figure:
    taken = _several(
        [start.peak_rss_bytes / 1e6 for start in starts if start.peak_rss_bytes is not None]
    )
    return _Figure(max(taken), f"most of {len(taken)} processes")


def _several(values: Sequence[float]) -> Sequence[float]:
    if not values:
        raise _MissingError("no cold start was measured")
    return values
