"""Exports that are held to their gates: figures, refusals, and what is left on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import MOODS, SIZE, draw, write_checkpoint
from onnx import numpy_helper
from sklearn.metrics import accuracy_score, f1_score

from fer_export import export as export_module
from fer_export.export import Export, Settings
from fer_export.parity import GATES, GateError, Gates, failures, measure
from fer_export.quantise import Quantisation
from fer_export.report import to_dict, to_markdown, write
from fer_sdk.errors import ModelError, ParityError
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.metadata import SEAL, ModelMetadata, seal
from fer_sdk.models.packaged import read_bundled, write_manifest
from fer_training.data.faces import FaceSet
from fer_training.networks.architecture import normalise
from fer_training.networks.checkpoint import load

LOOSE = Gates(difference=None, agreement=None, accuracy_loss=None, drift=None)


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return draw(240, 1).face_set(training=150)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return write_checkpoint(folder / "emotion.safetensors", "emotion", draw(150, 1))


@pytest.fixture(scope="module")
def exported(checkpoint: Path, faces: FaceSet, folder: Path) -> Export:
    """All three precisions, published whether or not a network that small keeps its gates."""
    gates = dict.fromkeys(GATES, LOOSE)
    settings = Settings(("int8", "fp32", "fp16"), Quantisation(faces=60), threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "GATES", gates)
        with Export(checkpoint, folder / "models", faces, settings) as export:
            export.publish()
    return export


def damaged(path: Path, target: Path) -> Path:
    """A copy, not sealed, whose last layer gives the labels in another order."""
    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    del properties[SEAL], model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("head.3"):
            rolled = np.roll(numpy_helper.to_array(tensor), 1, axis=0)
            tensor.CopyFrom(numpy_helper.from_array(rolled, tensor.name))
    onnx.save(model, target)
    return target


def test_figures_are_those_worked_out_otherwise(
    exported: Export, checkpoint: Path, faces: FaceSet, folder: Path
) -> None:
    module, described = load(checkpoint)
    judged = faces.split("PublicTest")
    with torch.inference_mode():
        logits = module(normalise(torch.from_numpy(judged.images), described.architecture))
        wanted = torch.softmax(logits / described.temperature, dim=1).numpy()
    for candidate in exported.candidates:
        given = EmotionModel.from_file(candidate.target, device="cpu").scores(judged.images)
        parity = candidate.parity
        assert parity.real.faces == len(judged) == 90
        assert parity.real.largest == pytest.approx(np.abs(given - wanted).max(), abs=1e-6)
        assert parity.real.mean == pytest.approx(np.abs(given - wanted).mean(), abs=1e-6)
        assert parity.real.agreement == (given.argmax(1) == wanted.argmax(1)).mean()
        for figures, scores in ((parity.network, wanted), (parity.file, given)):
            top = scores.argmax(axis=1)
            assert figures["accuracy"] == pytest.approx(accuracy_score(judged.labels, top))
            f1 = f1_score(judged.labels, top, average="macro")
            assert figures["macro_f1"] == pytest.approx(f1)


def test_fp32_keeps_its_gates(exported: Export) -> None:
    parity = next(c.parity for c in exported.candidates if c.metadata.precision == "fp32")
    assert failures(parity, GATES["fp32"]) == []
    assert max(part.largest for part in (parity.real, *parity.adversarial)) <= 1e-4


def test_looks_at_what_no_face_looks_like(exported: Export) -> None:
    for candidate in exported.candidates:
        assert {part.inputs: part.faces for part in candidate.parity.adversarial} == {
            "all black": 1,
            "all white": 1,
            "noise": 64,
            "black and white noise": 64,
            "batch of 1": 1,
            "batch of 7": 7,
            "batch of 64": 64,
        }


def test_gates_speak_of_what_is_not_kept(exported: Export) -> None:
    parity = exported.candidates[0].parity
    tight = Gates(difference=0, agreement=1.01, accuracy_loss=-1, drift=None, batch_difference=-1)
    sentences = failures(parity, tight)
    assert len(sentences) == 4
    assert f"largest difference {max_difference(exported):.3g}" in sentences[0]
    assert "of 90 PublicTest faces, at least 101.00% asked" in sentences[1]
    assert "a loss of at most -100.00 points allowed" in sentences[2]
    assert "a face in a batch differs" in sentences[3]
    assert failures(parity, LOOSE) == []


def max_difference(exported: Export) -> float:
    parity = exported.candidates[0].parity
    return max(part.largest for part in (parity.real, *parity.adversarial))


def test_gates_of_landmarks(exported: Export) -> None:
    parity = exported.candidates[0].parity
    moved = replace(
        parity, network={}, file={}, real=replace(parity.real, agreement=None, drift=0.0021)
    )
    assert failures(moved, GATES["int8"]) == [
        "landmarks drift 0.00210 of the crop on average, at most 0.002 allowed"
    ]
    assert failures(replace(moved, real=replace(moved.real, drift=0.002)), GATES["int8"]) == []


def test_a_failed_gate_replaces_nothing(
    exported: Export,
    checkpoint: Path,
    faces: FaceSet,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = {file.name: file.read_bytes() for file in (folder / "models").iterdir()}
    assert set(good) == {f"emotion.{precision}.onnx" for precision in ("int8", "fp32", "fp16")}
    report = write(exported, tmp_path)
    text = report[0].read_text("utf-8")

    built = export_module.store_in_half

    def wrong(*arguments: object) -> onnx.ModelProto:
        model = built(*arguments)  # type: ignore[arg-type]
        bias = next(part for part in model.graph.initializer if part.name == "head.3.bias")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias)[::-1] + 1, bias.name))
        return model

    monkeypatch.setattr(export_module, "store_in_half", wrong)
    settings = Settings(("fp32", "fp16"), threads=1)
    with Export(checkpoint, folder / "models", faces, settings) as export:
        assert len(list((folder / "models").glob(".*.part"))) == 2
        write(export, tmp_path)
        with pytest.raises(GateError, match=r"fp32 must not ship: largest difference .*") as told:
            export.publish()
    assert isinstance(told.value, ParityError)
    assert told.value.parity.real.largest > 1e-4
    assert {file.name: file.read_bytes() for file in (folder / "models").iterdir()} == good
    assert report[0].read_text("utf-8") == text
    failed = json.loads((tmp_path / "emotion.failed.json").read_text("utf-8"))
    assert failed["may_ship"] is False
    assert failed["files"][0]["failed"]
    assert "Must not ship" in (tmp_path / "emotion.failed.md").read_text("utf-8")


def test_a_damaged_file_is_seen(
    exported: Export, checkpoint: Path, faces: FaceSet, tmp_path: Path
) -> None:
    module, described = load(checkpoint)
    path = damaged(exported.candidates[1].target, tmp_path / "damaged.onnx")
    parity = measure(path, module, described, faces.split("PublicTest"), split="drawn", threads=1)
    assert parity.precision == "fp32"
    assert len(failures(parity, GATES["fp32"])) == 3


def test_a_file_of_another_network_is_refused(
    exported: Export, checkpoint: Path, faces: FaceSet
) -> None:
    module, described = load(checkpoint)
    other = replace(described, labels=("other", *MOODS[1:]))
    with pytest.raises(ParityError, match=r"its labels .* are not the network's"):
        measure(exported.candidates[0].target, module, other, faces, split="drawn", threads=1)


def test_files_describe_themselves(exported: Export, checkpoint: Path) -> None:
    _, described = load(checkpoint)
    for candidate in exported.candidates:
        read = EmotionModel.from_file(candidate.target, device="cpu").metadata
        assert (read.task, read.labels, read.input_size) == ("emotion", MOODS, SIZE)
        assert read.crop == described.crop
        assert read.temperature == described.temperature
        assert (read.training_data, read.version, read.licence) == (
            "drawn faces",
            "0.0.1",
            "Apache-2.0",
        )
        assert read.precision == candidate.target.name.split(".")[1]
        assert {"torch", "onnx", "onnxscript", "onnxruntime"} <= read.tools.keys()
        assert read.architecture["stem"] == "torchvision"
        assert read.metrics["network Training"] == {"accuracy": 0.9}
        measured = read.metrics["PublicTest"]["accuracy"]
        assert measured == pytest.approx(candidate.parity.file["accuracy"], abs=1e-6)
    quantisation = exported.candidates[0].metadata.architecture["quantisation"]
    assert quantisation["weight_bits"] == 7
    assert quantisation["calibration"] == "minmax"
    assert "quantisation" not in exported.candidates[1].metadata.architecture


def _with_properties(path: Path, **changes: str | None) -> bytes:
    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    # What another program writes is not sealed.
    del properties[SEAL]
    for name, value in changes.items():
        properties.pop(f"fer_sdk.{name}")
        if value is not None:
            properties[f"fer_sdk.{name}"] = value
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "99"}, "mine.onnx: model format 99"),
        ({"format": None}, "mine.onnx: not a fer-sdk model"),
        ({"crop": None}, "mine.onnx: its metadata lacks fer_sdk.crop"),
        ({"input_size": "48"}, r"mine.onnx: its input must have the shape \[N, 48, 48\]"),
        ({"labels": '["a", "b"]'}, "mine.onnx: for two faces it must give"),
    ],
)
def test_the_sdk_refuses_by_name_and_reason(
    exported: Export, changes: dict[str, str | None], reason: str
) -> None:
    content = _with_properties(exported.candidates[1].target, **changes)
    with pytest.raises(ModelError, match=reason):
        EmotionModel(content, source="mine.onnx", device="cpu")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.9999])
def test_damaged_files_of_ones_own_are_refused(exported: Export, share: float) -> None:
    """One bit of a weight or of the metadata: onnxruntime would run most of them."""
    for candidate in exported.candidates:
        content = bytearray(candidate.target.read_bytes())
        content[int(share * len(content))] ^= 1
        with pytest.raises(ModelError, match=r"^mine\.onnx: "):
            EmotionModel(bytes(content), source="mine.onnx", device="cpu")


def test_a_changed_weight_is_told_from_other_faults(exported: Export) -> None:
    model = onnx.load(exported.candidates[1].target)
    weight = next(part for part in model.graph.initializer if part.name.startswith("head.3"))
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    with pytest.raises(ModelError, match=r"mine\.onnx: its bytes are not those that were exported"):
        EmotionModel(model.SerializeToString(), source="mine.onnx", device="cpu")


def test_the_seal_is_the_hash_of_the_rest(exported: Export) -> None:
    content = exported.candidates[0].target.read_bytes()
    properties = {
        entry.key: entry.value for entry in onnx.load(exported.candidates[0].target).metadata_props
    }
    sealed = properties[SEAL].encode()
    before, after = content.split(sealed)
    assert hashlib.sha256(before + b"0" * 64 + after).hexdigest().encode() == sealed
    with pytest.raises(ModelError, match="64 zeros"):
        seal(content)


def test_tampered_bytes_are_refused(exported: Export, tmp_path: Path) -> None:
    name = exported.candidates[0].target.name
    content = bytearray(exported.candidates[0].target.read_bytes())
    (tmp_path / name).write_bytes(content)
    write_manifest(tmp_path)
    assert read_bundled(name, folder=tmp_path) == bytes(content)
    # One bit of one weight: onnxruntime would run it.
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: not the file that was shipped"):
        read_bundled(name, folder=tmp_path)


def test_report_holds_the_figures(exported: Export) -> None:
    report = json.loads(json.dumps(to_dict(exported)))
    assert report["cpu"]["name"]
    files = {entry["precision"]: entry for entry in report["files"]}
    assert files["int8"]["kernel_error"] == 0
    assert files["fp32"]["kernel_error"] is None
    page = to_markdown(exported)
    assert [name for name, _ in exported.candidates[2].measured] == ["fp16", "fp16 on a GPU"]
    on_gpu = files["fp16"]["rounded"]["real"]
    assert on_gpu["mean"] > files["fp16"]["parity"]["real"]["mean"]
    assert f"| fp16 on a GPU | {100 * files['fp16']['rounded']['file']['accuracy']:.2f} %" in page
    assert files["int8"]["rounded"] is None
    for candidate in exported.candidates:
        assert candidate.sha256 in page
        assert f"{100 * candidate.parity.file['accuracy']:.2f} %" in page
        assert files[candidate.metadata.precision]["sha256"] == candidate.sha256
    assert str(Path.home()) not in page
    assert all(line.count("|") == page_columns(page, line) for line in page.splitlines())


def page_columns(page: str, line: str) -> int:
    """Bars in the header of the table that a line belongs to."""
    if not line.startswith("|"):
        return line.count("|")
    block = next(part for part in page.split("\n\n") if line in part.splitlines())
    return block.splitlines()[0].count("|")


def test_metadata_survive_the_file(exported: Export) -> None:
    for candidate in exported.candidates:
        properties = {
            entry.key: entry.value for entry in onnx.load(candidate.target).metadata_props
        }
        read = ModelMetadata.from_props(properties, "file")
        assert read.to_props().items() == properties.items() - {(SEAL, properties[SEAL])}
        assert replace(read, metrics={}) == replace(candidate.metadata, metrics={})
