"""What a benchmark run leaves behind. ``schema.json`` is made from these types.

Times are milliseconds, sizes bytes, rates per second. What is not known is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

FORMAT: Literal[1] = 1
"""Version of the layout of a result file."""

Scenario = Literal[
    "single-stream",
    "inference",
    "stages",
    "multi-thread",
    "multi-process",
    "offline",
    "camera",
    "model",
    "dynamic-batch",
    "cuda-model",
    "package",
]


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of a series."""

    count: Annotated[int, "number of samples"]
    mean: Annotated[float, "ms"]
    sd: Annotated[float | None, "standard deviation, ms; null for a single sample"]
    min: Annotated[float, "ms"]
    p50: Annotated[float, "ms"]
    p90: Annotated[float, "ms"]
    p95: Annotated[float, "ms"]
    p99: Annotated[float | None, "ms; null at 300 samples or fewer"]
    max: Annotated[float, "ms"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was measured. Two results are compared where these are equal."""

    subject: Annotated[str, "whose code ran: fer-sdk, a runtime or another package"]
    scenario: Annotated[
        Scenario,
        "single-stream: the next call starts when the last ends; inference: the detector and the "
        "two models alone, on input that is ready; stages: one pass, part by part; multi-thread: "
        "several threads on one pipeline; multi-process: as many processes, each with a pipeline "
        "of its own; offline: predict_batch; camera: frames at "
        "a fixed rate; model: one model alone; dynamic-batch: the same on another number of faces "
        "each time; cuda-model: one model on CUDA with its copies apart; package: another "
        "package's whole call",
    ]
    stage: Annotated[str, "the part that was timed; 'end to end' is all of it"]
    device: Annotated[str, "cpu or cuda"]
    precision: Annotated[str | None, "of the models: int8, fp32 or fp16"]
    detector: Annotated[str | None, "face detector; null where none runs"]
    threads: Annotated[
        int | None, "threads of one model run and of OpenCV; null: left to the package"
    ]
    workers: Annotated[int, "threads that call at the same time"]
    batch: Annotated[
        int,
        "images per call, or faces per call where a model is timed alone; dynamic-batch: at most",
    ]
    width: Annotated[int | None, "of the image, pixels"]
    height: Annotated[int | None, "of the image, pixels"]
    faces: Annotated[int | None, "faces drawn in the image"]
    fps: Annotated[float | None, "frame rate of the camera"] = None


@dataclass(frozen=True, slots=True)
class Camera:
    """What became of a camera's frames."""

    offered: Annotated[int, "frames that the camera delivered"]
    processed: Annotated[int, "frames that got an answer"]
    dropped: Annotated[int, "frames that a newer one replaced before they were looked at"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the answer is right."""

    value: Annotated[float, "share of right answers, 0..1"]
    split: Annotated[str, "which faces"]
    count: Annotated[int | None, "how many faces; null where the source does not say"]
    source: Annotated[Literal["measured", "model metadata"], "where the figure comes from"]


@dataclass(frozen=True, slots=True)
class Limit:
    """How far a stage is from what this machine can do with its operations."""

    floor_ms: Annotated[float, "the least time that the measured peaks allow its models"]
    bound_by: Annotated[Literal["compute", "memory"], "which peak sets most of the floor"]
    times_floor: Annotated[float, "p50 over floor"]


@dataclass(frozen=True, slots=True)
class Row:
    """One series under one set of conditions."""

    conditions: Conditions
    latency: Annotated[Latency, "of one call; for a camera, from a frame's arrival to its answer"]
    rounds_ms: Annotated[list[list[float]], "every sample, ms, by round, in the order taken"]
    provider: Annotated[str | None, "what really ran the models"] = None
    faces_found: Annotated[int | None, "faces that the detector found in the image"] = None
    images_per_second: Annotated[float | None, "calls' images over the time that they took"] = None
    faces_per_second: Annotated[float | None, "faces over the time that they took"] = None
    warm_up_calls: Annotated[int | None, "calls before the first sample"] = None
    first_call_ms: Annotated[float | None, "the first call of the warm-up"] = None
    camera: Annotated[Camera | None, "only in the camera scenario"] = None
    accuracy: Annotated[Accuracy | None, "of the emotion that this row's code gives"] = None
    limit: Annotated[Limit | None, "only where the operations are known"] = None
    notes: Annotated[list[str], "what makes this row doubtful"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One fresh process, from nothing to its second answer; its files are in memory already."""

    device: Annotated[str, "where its models ran"]
    precision: Annotated[str, "of its emotion model"]
    detector: Annotated[str | None, "face detector"]
    threads: Annotated[int, "threads of one model run"]
    interpreter_ms: Annotated[float, "from starting the process to its first line"]
    import_ms: Annotated[float, "importing fer_sdk and FerPipeline"]
    open_ms: Annotated[float, "FerPipeline(...)"]
    first_call_ms: Annotated[float, "the first predict on a decoded array"]
    second_call_ms: Annotated[float, "the second predict"]
    to_first_result_ms: Annotated[float, "from starting the process to the first answer"]
    peak_rss_bytes: Annotated[int | None, "most memory that the process held"]


@dataclass(frozen=True, slots=True)
class Scene:
    """The picture that was used."""

    source: Annotated[str, "portrait that the picture is made of"]
    width: int
    height: int
    faces: Annotated[int, "faces drawn"]
    found: Annotated[dict[str, int], "faces that each detector found"]
    sha256: Annotated[str, "of the decoded RGB pixels"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What one face costs a convolution or a product."""

    int8_macs: Annotated[int, "multiply-adds on int8 operands"]
    float_macs: Annotated[int, "multiply-adds on floating-point operands"]
    weight_bytes: Annotated[int, "its weights, as they are stored in the file"]


@dataclass(frozen=True, slots=True)
class Operations:
    """What one face costs a model, counted in its graph."""

    int8_macs: Annotated[int, "multiply-adds on int8 operands"]
    float_macs: Annotated[int, "multiply-adds on floating-point operands"]
    weight_bytes: Annotated[int, "weights, as they are stored in the file"]
    layers: Annotated[list[Layer], "one after the other; empty: not told apart"] = field(
        default_factory=list
    )


@dataclass(frozen=True, slots=True)
class Model:
    """A model file that ran."""

    name: Annotated[str, "emotion, landmarks or detector"]
    file: Annotated[str, "file name"]
    sha256: str
    precision: str | None
    input_size: Annotated[int | None, "side of the square faces that it takes, pixels"]
    version: str | None
    metrics: Annotated[dict[str, dict[str, float]], "by split, as the file says"]
    operations: Annotated[Operations | None, "null where the graph could not be read"] = None


@dataclass(frozen=True, slots=True)
class Peak:
    """What this machine can do at most with so many threads: the best before and after the rows."""

    threads: int
    fp32_gmacs: Annotated[float | None, "10^9 fp32 multiply-adds a second in a large product"]
    int8_gmacs: Annotated[float | None, "10^9 int8 multiply-adds a second in a large product"]
    bandwidth: Annotated[
        dict[str, float], "bytes read and written a second when copying, by bytes copied at a time"
    ]


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware and its operating system."""

    cpu: str | None
    architecture: str
    cores: Annotated[int, "that this process may use"]
    cpu_quota: Annotated[float | None, "cores' worth of time that its container gets; null: all"]
    instructions: Annotated[list[str], "vector instruction sets that matter here"]
    governor: str | None
    memory_bytes: int | None
    memory_available_bytes: int | None
    system: str
    gpu: str | None
    gpu_memory_bytes: int | None
    gpu_driver: str | None
    cuda: Annotated[str | None, "CUDA version of the driver"]


@dataclass(frozen=True, slots=True)
class Software:
    """What ran."""

    python: str
    fer_sdk: str | None
    onnxruntime: str | None
    onnxruntime_providers: Annotated[list[str], "that this build offers, not what ran: see rows"]
    spinning: Annotated[bool | None, "whether onnxruntime's threads spin while they wait"]
    numpy: str | None
    opencv: str | None
    mediapipe: str | None
    git_commit: Annotated[str | None, "of the source that ran; null for an installed wheel"]
    git_dirty: bool | None


@dataclass(frozen=True, slots=True)
class Load:
    """What else the machine was doing."""

    load_average_before: Annotated[float | None, "one-minute load average before the first row"]
    load_average_after: Annotated[float | None, "after the last row; includes this run itself"]
    others_share: Annotated[float | None, "share of the machine's CPU time that others used, 0..1"]
    stolen_share: Annotated[float | None, "share of CPU time that the hypervisor kept, 0..1"]
    gpu_share_before: Annotated[float | None, "share of the time that the GPU was in use, 0..1"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the figures come from."""

    started: Annotated[str, "ISO 8601, UTC"]
    seconds: Annotated[float, "how long the whole run took"]
    command: Annotated[list[str], "arguments of fer-bench, paths without their folders"]
    machine: Machine
    software: Software
    load: Load


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that the pipeline is held to."""

    what: Annotated[str, "in words"]
    value: Annotated[float | None, "as measured; null when it was not"]
    low: Annotated[float | None, "lower end of its 99 % interval; null where none can be given"]
    high: Annotated[float | None, "upper end of it"]
    limit: float
    direction: Annotated[Literal["at most", "at least"], "on which side of the limit it must be"]
    unit: Annotated[Literal["times", "s", "MB"], "MB is 10^6 bytes"]
    basis: Annotated[str, "the figures that it was made of, or why there are none"]

    @property
    def met(self) -> bool | None:
        """Whether the value is on the right side of the limit; None when it is not known."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.direction == "at most" else self.value >= self.limit


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not measured."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """One run of fer-bench."""

    format: Annotated[Literal[1], "version of this layout"]
    provenance: Provenance
    scenes: list[Scene]
    models: list[Model]
    peaks: Annotated[list[Peak], "empty when the roofline was not asked for"]
    cold_starts: Annotated[list[ColdStart], "in the order taken; every pipeline takes its turn"]
    rows: list[Row]
    skipped: list[Skipped]
    notes: Annotated[list[str], "what makes the whole run doubtful"]
    targets: Annotated[list[Target], "only of fer-bench targets"] = field(default_factory=list)


def with_limit(row: Row, floor_ms: float, bound_by: Literal["compute", "memory"]) -> Row:
    """The row with its distance from the machine's limit."""
    return replace(row, limit=Limit(floor_ms, bound_by, row.latency.p50 / floor_ms))
