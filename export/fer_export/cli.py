"""``fer-export``: from checkpoints to the ONNX files that fer-sdk runs."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from fer_export.emulate import Emulators, Job
    from fer_export.export import Export, Settings
    from fer_export.parity import Parity
    from fer_sdk.models.metadata import Precision
    from fer_training.faces import FaceSet

_TASKS = ("emotion", "landmarks")
_EMULATED_FACES = 200

app = typer.Typer(
    name="fer-export",
    help="Turn trained checkpoints into the ONNX files that fer-sdk runs, with proof that they "
    "give what the networks give.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class PrecisionName(StrEnum):
    """``fer_sdk.models.metadata.Precision``, in the form in which typer takes it more than once."""

    INT8 = "int8"
    FP32 = "fp32"
    FP16 = "fp16"


_Data = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        help="Faces to calibrate on (their training part) and to compare on (their validation "
        "part): fer2013.csv, fer2013.csv.gz, or a folder train/<label>/*.png with val beside "
        "train. May be repeated.",
        show_default=False,
    ),
]
_Search = Annotated[
    bool,
    typer.Option(
        "--search",
        help="Choose how to quantise by measuring it, instead of taking what was chosen for the "
        "shipped models. Takes some minutes.",
    ),
]
_FloatLayers = Annotated[
    list[str] | None,
    typer.Option(
        "--float-layer",
        help="Leave this layer, or all layers whose names start with it, out of int8, e.g. head "
        "or backbone.conv1. May be repeated.",
        show_default="backbone.conv1 and head",
    ),
]
_Emulators = Annotated[
    Path | None,
    typer.Option(
        help="What export/emulated_cpus.sh made: before they are shipped, the int8 files also run "
        "on the emulated CPUs there, with every onnxruntime that is there, as [b]fer-export "
        "cpus[/b] does it.",
        show_default="no emulated CPUs",
    ),
]
_Reports = Annotated[
    Path | None,
    typer.Option("--report", help="Folder of the report.", show_default="beside the files"),
]
_Threads = Annotated[
    int | None,
    typer.Option(help="Threads for measuring.", min=1, show_default="all cores"),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, not text.")]


@app.command(
    name="model",
    epilog="Examples:\n\n"
    "fer-export model runs/emotion/model.safetensors --data fer2013.csv -o models\n\n"
    "fer-export model mine.safetensors --data my_faces/ --precision fp32 -o models",
)
def export_model(
    checkpoint: Annotated[Path, typer.Argument(help="What fer-train wrote: model.safetensors.")],
    data: _Data = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for TASK.PRECISION.onnx.")
    ] = Path("models"),
    precision: Annotated[
        list[PrecisionName] | None,
        typer.Option(
            help="int8 (the default on CPU), fp32 (the reference) or fp16 (for CUDA). May be "
            "repeated.",
            show_default="int8 and fp32",
        ),
    ] = None,
    search: _Search = False,
    float_layer: _FloatLayers = None,
    report: _Reports = None,
    threads: _Threads = None,
    as_json: _Json = False,
) -> None:
    """Export one checkpoint.

    Every file is run through the SDK and compared with the network on real faces, on black, white
    and noise, and in batches of 1, 7 and 64. Where it is further off than its gate allows, nothing
    is written over the files of an earlier export, and the report says why.
    """
    from fer_export.export import Export

    faces = _faces([checkpoint], data)
    precisions: tuple[Precision, ...] = ("int8", "fp32")
    if precision:
        precisions = tuple(dict.fromkeys(each.value for each in precision))
    settings = _settings(precisions, search, float_layer, threads)
    with Export(checkpoint, output, faces, settings, told=_tell) as export:
        _publish([export], report or output, as_json)


@app.command(
    epilog="Example:\n\n"
    "export/emulated_cpus.sh emulators 1.32.0 1.20.0\n\n"
    "fer-export bundle runs/emotion/model.safetensors runs/landmarks/model.safetensors "
    "--data fer2013.csv --emulators emulators"
)
def bundle(
    emotion: Annotated[Path, typer.Argument(help="Checkpoint of the emotion network.")],
    landmarks: Annotated[Path, typer.Argument(help="Checkpoint of the landmark network.")],
    data: _Data = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of the bundled models.", show_default="that of fer_sdk"),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            help="Choose how to quantise by measuring it, and put into the report what was "
            "measured. Without: as it was chosen for the models that are shipped today.",
        ),
    ] = True,
    emulators: _Emulators = None,
    float_layer: _FloatLayers = None,
    report: Annotated[Path, typer.Option("--report", help="Folder of the reports.")] = Path(
        "export/reports"
    ),
    threads: _Threads = None,
    as_json: _Json = False,
) -> None:
    """Export the models that fer-sdk ships, their manifest and their reports.

    int8, fp32 and fp16 of both, fp16 as a graph that takes its weights from the fp32 file. Either
    all files are replaced or none. Takes some minutes, and much longer with emulated CPUs.
    """
    from dataclasses import replace

    import fer_sdk
    from fer_export.emulate import Emulators
    from fer_export.export import Export
    from fer_sdk.models.packaged import write_manifest
    from fer_training.checkpoint import load

    folder = models or Path(fer_sdk.__file__).parent / "models" / "files"
    for path, task in ((emotion, "emotion"), (landmarks, "landmarks")):
        found = load(path)[1].architecture.task
        if found != task:
            raise typer.BadParameter(f"{path} is a checkpoint for {found}, not {task}")
    there = [] if emulators is None else Emulators.all_in(emulators)
    faces = _faces([emotion, landmarks], data)
    settings = replace(
        _settings(("int8", "fp32", "fp16"), search, float_layer, threads), shared_weights=True
    )
    with ExitStack() as stack:
        exports = []
        for path in (emotion, landmarks):
            export = Export(path, folder, faces, settings, told=_tell)
            exports.append(stack.enter_context(export))
        _publish(exports, report, as_json, faces, there)
    _tell(f"wrote {write_manifest(folder)}")


@app.command(
    epilog="Examples:\n\n"
    "fer-export parity emotion.int8.onnx runs/emotion/model.safetensors --data fer2013.csv\n\n"
    "Run it in an environment with another onnxruntime (pip install 'onnxruntime==1.20.*') to see "
    "that the file gives the same there."
)
def parity(
    model: Annotated[Path, typer.Argument(help="An exported file.")],
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint that it was made from.")],
    data: _Data = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the file runs.")] = "cpu",
    threads: _Threads = None,
    as_json: _Json = False,
) -> None:
    """Compare an exported file with its network again, and hold it to its gates."""
    from fer_export.faces import held_out
    from fer_export.parity import measure, verify
    from fer_training.checkpoint import load

    network, described = load(checkpoint)
    split, faces = held_out(_faces([checkpoint], data))
    measured = measure(
        model, network, described, faces, split=split, device=device, threads=threads
    )
    typer.echo(json.dumps(measured.to_dict(), indent=2) if as_json else _parity_text(measured))
    verify(measured)


@app.command(
    epilog="Example:\n\n"
    "export/emulated_cpus.sh emulators 1.32.0\n\n"
    "fer-export cpus emulators --onnxruntime 1.32.0 --data fer2013.csv"
)
def cpus(
    folder: Annotated[Path, typer.Argument(help="What export/emulated_cpus.sh made.")],
    onnxruntime: Annotated[str, typer.Option(help="Its version there, e.g. 1.32.0.")],
    data: _Data = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(help="An int8 file. May be repeated.", show_default="the bundled ones"),
    ] = None,
    cpu: Annotated[
        list[str] | None,
        typer.Option(
            help="One of native (this machine), cortex-a72, cortex-a76, max (the newest ARM), "
            "Haswell and Nehalem. May be repeated.",
            show_default="all",
        ),
    ] = None,
    faces: Annotated[int, typer.Option(help="How many faces to compare.", min=1)] = _EMULATED_FACES,
    report: Annotated[Path, typer.Option("--report", help="Folder of the report.")] = Path(
        "export/reports"
    ),
    as_json: _Json = False,
) -> None:
    """Run int8 files with another onnxruntime and on emulated CPUs: ARM with and without dot
    products, x86 without AVX.

    Every integer sum must be exact there, and the outputs for real faces those of the SDK on this
    machine. With the oldest onnxruntime that is supported, and native, it shows that the files
    work with that one.
    An emulated CPU takes about a second for a face.
    """
    from fer_export.emulate import CPUS, Emulators, emulate, to_dict, verify
    from fer_export.faces import read_all
    from fer_export.report import write_cpus
    from fer_sdk.models.packaged import bundled
    from fer_training.evaluate import open_model

    known = {each.name: each for each in CPUS}
    if set(cpu or ()) - known.keys():
        raise typer.BadParameter(f"one of {', '.join(known)}", param_hint="--cpu")
    if not data:
        raise typer.BadParameter("give faces to compare on", param_hint="--data")
    emulators = Emulators(folder, onnxruntime)
    paths = model or [Path(str(bundled())) / f"{task}.int8.onnx" for task in _TASKS]
    sizes = [open_model(path).metadata.input_size for path in paths]
    _tell(f"reading {', '.join(str(path) for path in data)}")
    files = [(path, path.name, size) for path, size in zip(paths, sizes, strict=True)]
    split, jobs = _jobs(files, read_all(data, max(sizes)), faces)
    wanted = [known[name] for name in dict.fromkeys(cpu or known)]
    runs = emulate(emulators, jobs, wanted, told=_tell)
    for path in write_cpus(runs, onnxruntime, split, report):
        _tell(f"wrote {path}")
    if as_json:
        typer.echo(json.dumps(to_dict(runs, onnxruntime, split), indent=2))
    else:
        for run in runs:
            typer.echo(
                f"{run.file} on {run.cpu}: {run.wrong_sums} of {run.sums} integer sums wrong, "
                f"outputs off by at most {run.outputs.largest:.2g}"
            )
    verify(runs)


@app.command(
    epilog="Example:\n\nfer-export blazeface face_detection_short_range.tflite blazeface.onnx"
)
def blazeface(
    source: Annotated[Path, typer.Argument(help="MediaPipe's face_detection_short_range.tflite.")],
    target: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
) -> None:
    """Convert MediaPipe's face detector to ONNX."""
    from fer_export.blazeface import convert

    convert(source, target)
    typer.echo(target)


def _faces(checkpoints: list[Path], data: list[Path] | None) -> FaceSet:
    from fer_export.faces import read_all
    from fer_training.checkpoint import load

    if not data:
        raise typer.BadParameter("give faces to compare on", param_hint="--data")
    # The checkpoint first: a wrong path should not cost the reading of thousands of faces.
    sizes = [load(path)[1].architecture.input_size for path in checkpoints]
    _tell(f"reading {', '.join(str(path) for path in data)}")
    return read_all(data, max(sizes))


def _settings(
    precisions: tuple[Precision, ...],
    search: bool,
    float_layers: list[str] | None,
    threads: int | None,
) -> Settings:
    from dataclasses import replace

    from fer_export.export import Settings
    from fer_export.quantise import Quantisation

    quantisation = Quantisation()
    if float_layers is not None:
        quantisation = replace(quantisation, float_layers=tuple(float_layers))
    return Settings(precisions, quantisation, search, threads=threads)


def _publish(
    exports: list[Export],
    reports: Path,
    as_json: bool,
    faces: FaceSet | None = None,
    emulators: Sequence[Emulators] = (),
) -> None:
    from fer_export.report import to_dict, write

    if all(export.may_ship for export in exports) and faces is not None:
        _run_elsewhere(exports, faces, emulators, reports)
    for export in exports:
        for path in write(export, reports):
            _tell(f"wrote {path}")
    for export in exports:
        export.verify()
    for export in exports:
        for path in export.publish():
            _tell(f"wrote {path}")
    if as_json:
        results = [to_dict(export) for export in exports]
        typer.echo(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    else:
        for export in exports:
            for candidate in export.candidates:
                typer.echo(_parity_text(candidate.parity))


def _run_elsewhere(
    exports: list[Export], faces: FaceSet, emulators: Sequence[Emulators], reports: Path
) -> None:
    from fer_export import emulate
    from fer_export.report import write_cpus

    files = [
        (candidate.waiting, candidate.target.name, candidate.metadata.input_size)
        for export in exports
        for candidate in export.candidates
        if candidate.metadata.precision == "int8"
    ]
    split, jobs = _jobs(files, faces, _EMULATED_FACES)
    for there in emulators:
        runs = emulate.emulate(there, jobs, told=_tell)
        for path in write_cpus(runs, there.version, split, reports):
            _tell(f"wrote {path}")
        emulate.verify(runs)


def _jobs(
    files: Iterable[tuple[Path, str, int]], faces: FaceSet, count: int
) -> tuple[str, list[Job]]:
    """The split that faces are taken from, and what emulated CPUs do with files, each with its
    name and input size.
    """
    import numpy as np

    from fer_export.emulate import Job
    from fer_export.faces import at_size, held_out

    split, judged = held_out(faces)
    chosen = judged.take(np.random.default_rng(0).permutation(len(judged))[:count])
    return split, [Job(path, at_size(chosen.images, size), name) for path, name, size in files]


def _parity_text(parity: Parity) -> str:
    real = parity.real
    words = [f"{parity.task} {parity.precision}, {real.faces} {real.inputs} faces:"]
    if real.agreement is not None:
        words.append(f"same top label on {real.agreement:.2%},")
    if "accuracy" in parity.file:
        words.append(
            f"accuracy {parity.file['accuracy']:.2%} (network {parity.network['accuracy']:.2%}), "
            f"macro-F1 {parity.file['macro_f1']:.2%} ({parity.network['macro_f1']:.2%}),"
        )
    if real.drift is not None:
        words.append(
            f"mean drift {real.drift:.6f} of the crop ({real.drift * parity.input_size:.4f} px),"
        )
    if "error" in parity.file:
        words.append(f"error {parity.file['error']:.5f} (network {parity.network['error']:.5f}),")
    words.append(f"largest difference {real.largest:.2g}, mean {real.mean:.2g}")
    return " ".join(words)


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def main() -> None:
    """Run the command line: 0 done, 1 a gate or an input failed, 2 wrong usage, 130 interrupted."""
    # torch's exporter and onnxruntime's quantiser tell of their own insides.
    warnings.filterwarnings("ignore", module=r"torch\.|onnxscript|copyreg")
    logging.basicConfig(level=logging.ERROR)
    try:
        app()
    except FerError as error:
        typer.echo(f"fer-export: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("fer-export: stopped", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
