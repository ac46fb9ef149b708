"""Baselines in their own processes: wired to stand-ins with the packages' own interfaces."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from fer_bench.baselines.adapter import UnavailableError, cut
from fer_bench.baselines.catalogue import BASELINES
from fer_bench.baselines.process import BaselineProcess
from fer_bench.measure.plan import Plan
from fer_bench.measure.run import run
from fer_bench.measure.series import StopRule, SystemClock

IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
SQUARES = [(10, 20, 40), (100, 60, 50)]
CROPS = np.stack([np.full((48, 48), level, np.uint8) for level in (10, 120, 240)])

# hsemotion_onnx.facial_emotions, as far as its adapter uses it.
HSEMOTION = """
import time
class HSEmotionRecognizer:
    def __init__(self, model_name):
        print("a package that prints to standard output")
        self.model_name = model_name
    def predict_multi_emotions(self, faces):
        time.sleep(0.002)
        words = []
        for face in faces:
            assert face.ndim == 3 and face.dtype.name == "uint8", face.shape
            level = face.mean()
            words.append("Anger" if level < 60 else "Contempt" if level < 180 else "Happiness")
        return words, None
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose packages the baselines' processes can import, and a home without weights."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def install(folder: Path, module: str, source: str, distribution: str) -> None:
    package, _, name = module.partition(".")
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text("")
    (folder / package / f"{name}.py").write_text(source)
    info = folder / f"{distribution.replace('-', '_')}-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.9\n")


def hsemotion(folder: Path, source: str = HSEMOTION) -> BaselineProcess:
    install(folder, "hsemotion_onnx.facial_emotions", source, "hsemotion-onnx")
    weights = folder / "home" / ".hsemotion"
    weights.mkdir()
    (weights / "enet_b0_8_best_vgaf.onnx").write_bytes(b"weights")
    return BaselineProcess(
        "hsemotion", threads=1, image=IMAGE, squares=SQUARES, options={"package": "hsemotion-onnx"}
    )


def test_a_package_is_measured_and_judged(packages: Path) -> None:
    with hsemotion(packages) as baseline:
        assert baseline.version == "hsemotion-onnx 9.9, enet_b0_8_best_vgaf"
        warm = baseline.warm_up()
        assert warm.count >= 3
        assert baseline.faces_found == len(SQUARES)
        times, wall = baseline.measure(StopRule(0.0, 7))[:2]
        assert len(times) == 7
        assert min(times) >= 2_000_000
        assert wall >= sum(times)
        # Its words become FER2013's; one that FER2013 does not have stays and counts as wrong.
        assert baseline.classify(CROPS) == ["angry", "contempt", "happy"]


def test_a_package_without_its_weights_is_left_out(packages: Path) -> None:
    install(packages, "hsemotion_onnx.facial_emotions", HSEMOTION, "hsemotion-onnx")
    with pytest.raises(UnavailableError, match=r"enet_b0_8_best_vgaf\.onnx into ~/\.hsemotion"):
        BaselineProcess("hsemotion", threads=1, image=IMAGE, options={"package": "hsemotion-onnx"})


def test_a_baseline_cannot_reach_the_network(packages: Path) -> None:
    asks = HSEMOTION.replace("time.sleep(0.002)", "self.ask()") + (
        "    def ask(self):\n"
        "        import urllib.request\n"
        '        urllib.request.urlopen("http://127.0.0.1:9/", timeout=5)\n'
    )
    with (
        hsemotion(packages, asks) as baseline,
        pytest.raises(UnavailableError, match="runs everything offline"),
    ):
        baseline.warm_up()


def test_a_baseline_that_dies_says_its_last_words(packages: Path) -> None:
    dies = HSEMOTION.replace(
        "time.sleep(0.002)",
        'import os, sys; sys.stderr.write("out of luck\\n"); sys.stderr.flush(); os._exit(3)',
    )
    with (
        hsemotion(packages, dies) as baseline,
        pytest.raises(UnavailableError, match="out of luck"),
    ):
        baseline.warm_up()


@pytest.mark.parametrize("name", [name for name, one in BASELINES.items() if one.kind == "package"])
def test_a_package_that_is_not_installed_is_left_out(name: str, packages: Path) -> None:
    entry = BASELINES[name]
    if importlib.util.find_spec(
        entry.options.get("package", name.split("-", maxsplit=1)[0]).replace("-", "_")
    ):
        pytest.skip(f"{name} is installed here")
    with pytest.raises(UnavailableError, match="not installed"):
        BaselineProcess(entry.adapter, threads=1, image=IMAGE, options=entry.options)


def test_an_interpreter_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be started"):
        BaselineProcess("deepface", threads=None, image=IMAGE, python=tmp_path / "python")


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not here")
def test_openvino_runs_the_same_file() -> None:
    faces = np.stack([np.full((16, 16), level, np.uint8) for level in (0, 85, 255)])
    labels = tiny_models.EMOTIONS
    with BaselineProcess(
        "openvino",
        threads=1,
        faces=faces,
        content=tiny_models.emotion_model(),
        options={"labels": json.dumps(labels)},
    ) as baseline:
        baseline.warm_up()
        assert len(baseline.measure(StopRule(0.0, 5)).taken) == 5
        expected = [labels[best] for best in tiny_models.expected_scores(faces).argmax(axis=1)]
        assert baseline.classify(faces) == expected


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A network that was fitted to drawn faces, and what it says of three of them."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from export_networks import MOODS, draw, train

    from fer_training.networks.architecture import normalise
    from fer_training.networks.checkpoint import save

    faces = draw(30, seed=0)
    network, about = train("emotion", faces)
    path = tmp_path_factory.mktemp("torch") / "model.safetensors"
    save(path, network, about)
    with torch.inference_mode():
        logits = network(normalise(torch.from_numpy(faces.images[:3]), about.architecture))
    return path, [MOODS[best] for best in logits.argmax(dim=1).tolist()]


def test_pytorch_runs_the_checkpoint(checkpoint: tuple[Path, list[str]]) -> None:
    from export_networks import draw

    path, expected = checkpoint
    faces = draw(30, seed=0).images[:3]
    options = {"mode": "eager", "checkpoint": str(path)}
    with BaselineProcess("torch_network", threads=1, faces=faces, options=options) as baseline:
        assert baseline.version.startswith("PyTorch ")
        assert baseline.version.endswith("eager")
        baseline.warm_up()
        assert len(baseline.measure(StopRule(0.0, 3)).taken) == 3
        assert baseline.classify(faces) == expected
    assert len(set(expected)) == 3


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "no checkpoint was given"), ({"checkpoint": "none.safetensors"}, "none.safetensors")],
)
def test_pytorch_without_a_checkpoint_says_so(options: dict[str, str], reason: str) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    with pytest.raises(UnavailableError, match=reason):
        BaselineProcess(
            "torch_network", threads=1, faces=CROPS, options={"mode": "eager"} | options
        )


def test_a_square_is_cut_inside_the_image() -> None:
    inside, beyond = cut(IMAGE, [(10, 20, 40), (-10, 100, 60)])
    assert np.array_equal(inside, IMAGE[20:60, 10:50])
    assert np.array_equal(beyond, IMAGE[100:120, 0:50])


def test_a_run_puts_a_baseline_beside_the_pipeline(packages: Path) -> None:
    hsemotion(packages).close()
    emotion, landmarks = tiny_models.write_models(packages)
    labelled = packages / "fer2013.csv"
    lines = ["emotion,pixels,Usage"]
    # What the stand-in says: angry for dark, contempt for gray, happy for light.
    for emotion_number, level in ((0, 10), (0, 120), (3, 240), (6, 240)):
        lines.append(f"{emotion_number},{' '.join([str(level)] * 48 * 48)},PublicTest")
    labelled.write_text("\n".join(lines) + "\n")
    plan = Plan(
        detectors=("blazeface",),
        faces=(1, 2),
        batches=(1,),
        scenarios=("single-stream",),
        emotion_model=emotion,
        landmarks_model=landmarks,
        rule=StopRule(0.0, 5),
        rounds=2,
        cold_starts=0,
        roofline=False,
        baselines=("hsemotion-onnx", "deepface"),
        data=labelled,
    )
    result = run(plan, SystemClock(), [], lambda _what, _share: None)
    of_one, ours, theirs_of_one, theirs = result.rows
    assert of_one.faces_found == theirs_of_one.faces_found == 1
    assert ours.conditions.subject == "fer-sdk"
    assert theirs.conditions.subject == "hsemotion-onnx"
    assert theirs.conditions.stage == "given boxes"
    assert theirs.provider == "hsemotion-onnx 9.9, enet_b0_8_best_vgaf"
    assert theirs.faces_found == ours.faces_found == 2
    assert [scene.source for scene in result.scenes] == ["bundled photograph", "bundled portrait"]
    assert theirs.latency.min >= 2.0
    assert theirs.accuracy is not None
    assert (theirs.accuracy.value, theirs.accuracy.count) == (0.5, 4)
    assert [one.what for one in result.skipped] == ["CUDA", "deepface"]
