"""What a benchmark run leaves behind. ``fer-bench schema`` prints them as JSON schema.

Times are milliseconds, sizes bytes, rates per second. What is not known is None, never 0.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

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


def _about(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a result."""


class Latency(_Part, frozen=True):
    """Percentiles of a series."""

    count: Annotated[int, _about("number of samples")]
    mean: Annotated[float, _about("ms")]
    sd: Annotated[float | None, _about("standard deviation, ms; null for a single sample")]
    min: Annotated[float, _about("ms")]
    p50: Annotated[float, _about("ms")]
    p90: Annotated[float, _about("ms")]
    p95: Annotated[float, _about("ms")]
    p99: Annotated[float | None, _about("ms; null at 300 samples or fewer")]
    max: Annotated[float, _about("ms")]


class Conditions(_Part, frozen=True):
    """What was measured. Two results are compared where these are equal."""

    subject: Annotated[str, _about("whose code ran: fer-sdk, a runtime or another package")]
    scenario: Annotated[
        Scenario,
        _about(
            "single-stream: the next call starts when the last ends; inference: the detector and "
            "the two models alone, on input that is ready; stages: one pass, part by part; "
            "multi-thread: several threads on one pipeline; multi-process: as many processes, each "
            "with a pipeline of its own; offline: predict_batch; camera: frames at a fixed rate; "
            "model: one model alone; dynamic-batch: the same on another number of faces each time; "
            "cuda-model: one model on CUDA with its copies apart; package: another package's whole "
            "call"
        ),
    ]
    stage: Annotated[str, _about("the part that was timed; 'end to end' is all of it")] = (
        "end to end"
    )
    device: Annotated[str, _about("cpu or cuda")] = "cpu"
    precision: Annotated[str | None, _about("of the models: int8, fp32 or fp16")] = None
    detector: Annotated[str | None, _about("face detector; null where none runs")] = None
    threads: Annotated[
        int | None, _about("threads of one model run and of OpenCV; null: left to the package")
    ] = None
    workers: Annotated[int, _about("threads or processes that call at the same time")] = 1
    batch: Annotated[
        int,
        _about(
            "images per call, or faces per call where a model is timed alone; dynamic-batch: at "
            "most"
        ),
    ] = 1
    width: Annotated[int | None, _about("of the image, pixels")] = None
    height: Annotated[int | None, _about("of the image, pixels")] = None
    faces: Annotated[int | None, _about("faces drawn in the image")] = None
    fps: Annotated[float | None, _about("frame rate of the camera")] = None


class Camera(_Part, frozen=True):
    """What became of a camera's frames."""

    offered: Annotated[int, _about("frames that the camera delivered")]
    processed: Annotated[int, _about("frames that got an answer")]
    dropped: Annotated[int, _about("frames that a newer one replaced before they were looked at")]


class Accuracy(_Part, frozen=True):
    """How often the answer is right."""

    value: Annotated[float, _about("share of right answers, 0..1")]
    split: Annotated[str, _about("which faces")]
    count: Annotated[int | None, _about("how many faces; null where the source does not say")]
    source: Annotated[Literal["measured", "model metadata"], _about("where the figure comes from")]


class Limit(_Part, frozen=True):
    """How far a stage is from what this machine can do with its operations."""

    floor_ms: Annotated[float, _about("the least time that the measured peaks allow its models")]
    bound_by: Annotated[Literal["compute", "memory"], _about("which peak sets most of the floor")]
    times_floor: Annotated[float, _about("p50 over floor")]


class Row(_Part, frozen=True):
    """One series under one set of conditions."""

    conditions: Conditions
    latency: Annotated[
        Latency, _about("of one call; for a camera, from a frame's arrival to its answer")
    ]
    rounds_ms: Annotated[
        list[list[float]], _about("every sample, ms, by round, in the order taken")
    ]
    provider: Annotated[str | None, _about("what really ran the models")] = None
    faces_found: Annotated[int | None, _about("faces that the detector found in the image")] = None
    images_per_second: Annotated[
        float | None, _about("calls' images over the time that they took")
    ] = None
    faces_per_second: Annotated[float | None, _about("faces over the time that they took")] = None
    warm_up_calls: Annotated[int | None, _about("calls before the first sample")] = None
    first_call_ms: Annotated[float | None, _about("the first call of the warm-up")] = None
    camera: Annotated[Camera | None, _about("only in the camera scenario")] = None
    accuracy: Annotated[Accuracy | None, _about("of the emotion that this row's code gives")] = None
    limit: Annotated[Limit | None, _about("only where the operations are known")] = None
    notes: Annotated[list[str], _about("what makes this row doubtful")] = []


class ColdStart(_Part, frozen=True):
    """One fresh process, from nothing to its second answer; its files are in memory already."""

    device: Annotated[str, _about("where its models ran")]
    precision: Annotated[str, _about("of its emotion model")]
    detector: Annotated[str | None, _about("face detector")]
    threads: Annotated[int, _about("threads of one model run")]
    interpreter_ms: Annotated[float, _about("from starting the process to its first line")]
    import_ms: Annotated[float, _about("importing fer_sdk and FerPipeline")]
    open_ms: Annotated[float, _about("FerPipeline(...)")]
    first_call_ms: Annotated[float, _about("the first predict on a decoded array")]
    second_call_ms: Annotated[float, _about("the second predict")]
    to_first_result_ms: Annotated[float, _about("from starting the process to the first answer")]
    peak_rss_bytes: Annotated[int | None, _about("most memory that the process held")]


class Scene(_Part, frozen=True):
    """The picture that was used."""

    source: Annotated[str, _about("portrait that the picture is made of")]
    width: int
    height: int
    faces: Annotated[int, _about("faces drawn")]
    found: Annotated[dict[str, int], _about("faces that each detector found")]
    sha256: Annotated[str, _about("of the decoded RGB pixels")]


class Layer(_Part, frozen=True):
    """What one face costs a convolution or a product."""

    int8_macs: Annotated[int, _about("multiply-adds on int8 operands")]
    float_macs: Annotated[int, _about("multiply-adds on floating-point operands")]
    weight_bytes: Annotated[int, _about("its weights, as they are stored in the file")]


class Operations(_Part, frozen=True):
    """What one face costs a model, counted in its graph."""

    int8_macs: Annotated[int, _about("multiply-adds on int8 operands")]
    float_macs: Annotated[int, _about("multiply-adds on floating-point operands")]
    weight_bytes: Annotated[int, _about("weights, as they are stored in the file")]
    layers: Annotated[list[Layer], _about("one after the other; empty: not told apart")] = []


class Model(_Part, frozen=True):
    """A model file that ran."""

    name: Annotated[str, _about("emotion, landmarks, or a detector's: blazeface, yunet")]
    file: Annotated[str, _about("file name")]
    sha256: str
    precision: str | None
    input_size: Annotated[int | None, _about("side of the square faces that it takes, pixels")]
    version: str | None
    metrics: Annotated[dict[str, dict[str, float]], _about("by split, as the file says")]
    operations: Annotated[Operations | None, _about("null where the graph could not be read")] = (
        None
    )


class Peak(_Part, frozen=True):
    """What this machine can do at most with so many threads: the best before and after the rows."""

    threads: int
    fp32_gmacs: Annotated[
        float | None, _about("10^9 fp32 multiply-adds a second in a large product")
    ]
    int8_gmacs: Annotated[
        float | None, _about("10^9 int8 multiply-adds a second in a large product")
    ]
    bandwidth: Annotated[
        dict[str, float],
        _about("bytes read and written a second when copying, by bytes copied at a time"),
    ]


class Machine(_Part, frozen=True):
    """The hardware and its operating system."""

    cpu: str | None
    architecture: str
    cores: Annotated[int, _about("that this process may use")]
    cpu_quota: Annotated[
        float | None, _about("cores' worth of time that its container gets; null: all")
    ]
    instructions: Annotated[list[str], _about("vector instruction sets that matter here")]
    governor: str | None
    memory_bytes: int | None
    memory_available_bytes: int | None
    system: str
    gpu: str | None
    gpu_memory_bytes: int | None
    gpu_driver: str | None
    cuda: Annotated[str | None, _about("CUDA version of the driver")]


class Software(_Part, frozen=True):
    """What ran."""

    python: str
    fer_sdk: str | None
    onnxruntime: str | None
    onnxruntime_providers: Annotated[
        list[str], _about("that this build offers, not what ran: see rows")
    ]
    spinning: Annotated[bool | None, _about("whether onnxruntime's threads spin while they wait")]
    numpy: str | None
    opencv: str | None
    mediapipe: str | None
    git_commit: Annotated[str | None, _about("of the source that ran; null for an installed wheel")]
    git_dirty: bool | None


class Load(_Part, frozen=True):
    """What else the machine was doing."""

    load_average_before: Annotated[
        float | None, _about("one-minute load average before the first row")
    ]
    load_average_after: Annotated[
        float | None, _about("after the last row; includes this run itself")
    ]
    others_share: Annotated[
        float | None, _about("share of the machine's CPU time that others used, 0..1")
    ]
    stolen_share: Annotated[
        float | None, _about("share of CPU time that the hypervisor kept, 0..1")
    ]
    gpu_share_before: Annotated[
        float | None, _about("share of the time that the GPU was in use, 0..1")
    ]


class Provenance(_Part, frozen=True):
    """Where the figures come from."""

    started: Annotated[str, _about("ISO 8601, UTC")]
    seconds: Annotated[float, _about("how long the whole run took")]
    command: Annotated[list[str], _about("arguments of fer-bench, paths without their folders")]
    machine: Machine
    software: Software
    load: Load


class Target(_Part, frozen=True):
    """A figure that the pipeline is held to."""

    what: Annotated[str, _about("in words")]
    value: Annotated[float | None, _about("as measured; null when it was not")]
    low: Annotated[
        float | None, _about("lower end of its 99 % interval; null where none can be given")
    ]
    high: Annotated[float | None, _about("upper end of it")]
    limit: float
    direction: Annotated[
        Literal["at most", "at least"], _about("on which side of the limit it must be")
    ]
    unit: Annotated[Literal["times", "s", "MB"], _about("MB is 10^6 bytes")]
    basis: Annotated[str, _about("the figures that it was made of, or why there are none")]

    @property
    def met(self) -> bool | None:
        """Whether the value is on the right side of the limit; None when it is not known."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.direction == "at most" else self.value >= self.limit


class Skipped(_Part, frozen=True):
    """What was not measured."""

    what: str
    reason: str


class Result(_Part, frozen=True):
    """One run of fer-bench."""

    format: Annotated[Literal[1], _about("version of this layout")]
    provenance: Provenance
    scenes: list[Scene]
    models: list[Model]
    peaks: Annotated[list[Peak], _about("empty when the roofline was not asked for")]
    cold_starts: Annotated[
        list[ColdStart], _about("in the order taken; every pipeline takes its turn")
    ]
    rows: list[Row]
    skipped: list[Skipped]
    notes: Annotated[list[str], _about("what makes the whole run doubtful")]
    targets: Annotated[list[Target], _about("only of fer-bench targets")] = []
