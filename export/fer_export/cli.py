"""``fer-export``: from checkpoints to the ONNX files that fer-sdk runs."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_sdk.errors import FerError

if TYPE_CHECKING:
    from fer_export.export import Export, Settings
    from fer_export.parity import Parity
    from fer_sdk.models.metadata import Precision
    from fer_training.data.faces import FaceSet


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
_FloatLayers = Annotated[
    list[str] | None,
    typer.Option(
        "--float-layer",
        help="Leave this layer, or all layers whose names start with it, out of int8, e.g. head "
        "or backbone.conv1. May be repeated.",
        show_default="backbone.conv1 and head",
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
    settings = _settings(precisions, float_layer, threads)
    with Export(checkpoint, output, faces, settings, told=_tell) as export:
        _publish([export], report or output, as_json)


@app.command(
    epilog="Example:\n\n"
    "fer-export bundle runs/emotion/model.safetensors runs/landmarks/model.safetensors "
    "--data fer2013.csv"
)
def bundle(
    emotion: Annotated[Path, typer.Argument(help="Checkpoint of the emotion network.")],
    landmarks: Annotated[Path, typer.Argument(help="Checkpoint of the landmark network.")],
    data: _Data = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of the bundled models.", show_default="that of fer_sdk"),
    ] = None,
    float_layer: _FloatLayers = None,
    report: Annotated[Path, typer.Option("--report", help="Folder of the reports.")] = Path(
        "export/reports"
    ),
    threads: _Threads = None,
    as_json: _Json = False,
) -> None:
    """Export the models that fer-sdk ships, their manifest and their reports.

    int8 and fp32 of both. Either all files are replaced or none. Takes some minutes.
    """
    import fer_sdk
    from fer_export.export import Export
    from fer_sdk.models.packaged import write_manifest
    from fer_training.networks.checkpoint import load

    folder = models or Path(fer_sdk.__file__).parent / "models" / "files"
    for path, task in ((emotion, "emotion"), (landmarks, "landmarks")):
        found = load(path)[1].architecture.task
        if found != task:
            raise typer.BadParameter(f"{path} is a checkpoint for {found}, not {task}")
    faces = _faces([emotion, landmarks], data)
    settings = _settings(("int8", "fp32"), float_layer, threads)
    with ExitStack() as stack:
        exports = []
        for path in (emotion, landmarks):
            export = Export(path, folder, faces, settings, told=_tell)
            exports.append(stack.enter_context(export))
        _publish(exports, report, as_json)
    _tell(f"wrote {write_manifest(folder)}")


@app.command(
    epilog="Examples:\n\n"
    "fer-export parity emotion.int8.onnx runs/emotion/model.safetensors --data fer2013.csv\n\n"
    "Run it in an environment with another onnxruntime (pip install 'onnxruntime==1.24.*') to see "
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
    from fer_training.networks.checkpoint import load

    network, described = load(checkpoint)
    split, faces = held_out(_faces([checkpoint], data))
    measured = measure(
        model, network, described, faces, split=split, device=device, threads=threads
    )
    typer.echo(json.dumps(measured.to_dict(), indent=2) if as_json else _parity_text(measured))
    verify(measured)


def _faces(checkpoints: list[Path], data: list[Path] | None) -> FaceSet:
    from fer_export.faces import read_all
    from fer_training.networks.checkpoint import load

    if not data:
        raise typer.BadParameter("give faces to compare on", param_hint="--data")
    # The checkpoint first: a wrong path should not cost the reading of thousands of faces.
    sizes = [load(path)[1].architecture.input_size for path in checkpoints]
    _tell(f"reading {', '.join(str(path) for path in data)}")
    return read_all(data, max(sizes))


def _settings(
    precisions: tuple[Precision, ...],
    float_layers: list[str] | None,
    threads: int | None,
) -> Settings:
    from dataclasses import replace

    from fer_export.export import Settings
    from fer_export.quantise import Quantisation

    quantisation = Quantisation()
    if float_layers is not None:
        quantisation = replace(quantisation, float_layers=tuple(float_layers))
    return Settings(precisions, quantisation, threads)


def _publish(exports: list[Export], reports: Path, as_json: bool) -> None:
    from fer_export.report import to_dict, write

    for export in exports:
        for path in write(export, reports):
            _tell(f"wrote {path}")
        for warning in export.warnings:
            _tell(f"fer-export: warning: {export.task}: {warning}")
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
