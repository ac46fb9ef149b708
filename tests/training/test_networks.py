from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

from fer_sdk.errors import DataError
from fer_sdk.image.crop import CropGeometry
from fer_training.networks import checkpoint
from fer_training.networks.architecture import (
    Architecture,
    FullPrecision,
    NetworkName,
    ResNet18,
    build,
    normalise,
)
from fer_training.networks.checkpoint import Checkpoint

EMOTION = Architecture(task="emotion", outputs=7)
LANDMARKS = Architecture(task="landmarks", outputs=8, stem="torchvision", attention=False)


def _described(architecture: Architecture) -> Checkpoint:
    return Checkpoint(
        architecture=architecture,
        labels=tuple("abcdefg"),
        crop=CropGeometry(1.2, 0.0, -0.1),
        training_data="made up",
        version="1",
        licence="none",
        temperature=1.5,
        metrics={"PublicTest": {"accuracy": 0.5}},
    )


@pytest.mark.parametrize("size", [32, 48, 96])
def test_output_shapes_for_any_input_size(size: int) -> None:
    assert build(EMOTION).eval()(torch.zeros(3, 1, size, size)).shape == (3, 7)
    assert build(LANDMARKS).eval()(torch.zeros(3, 1, size, size)).shape == (3, 4, 2)


@pytest.mark.parametrize("network", ["efficientnet_lite0", "vit"])
def test_other_networks_keep_the_same_shapes_and_checkpoints(
    tmp_path: Path, network: NetworkName
) -> None:
    if network == "efficientnet_lite0":
        pytest.importorskip("timm")
    emotion = replace(EMOTION, network=network, input_size=64)
    module = build(emotion).eval()
    assert module(torch.zeros(3, 1, 64, 64)).shape == (3, 7)
    assert build(replace(LANDMARKS, network=network)).eval()(torch.zeros(2, 1, 48, 48)).shape == (
        (2, 4, 2)
    )
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, module, _described(emotion))
    loaded, again = checkpoint.load(path)
    assert again.architecture == emotion
    faces = torch.randn(2, 1, 64, 64)
    rounded = {
        name: value.half().float() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(rounded)
    assert torch.equal(loaded(faces), module(faces))


def test_depthwise_convolutions_train_in_full_precision_and_answer_in_half() -> None:
    """With their gradients in bfloat16, an EfficientNet trains at half the speed on a CPU."""
    layer = FullPrecision(nn.Conv2d(8, 8, 3, padding=1, groups=8))
    faces = torch.randn(2, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        trained = layer(faces.bfloat16())
        with torch.no_grad():
            answered = layer(faces)
    assert trained.dtype == torch.float32
    assert answered.dtype == torch.bfloat16
    torch.testing.assert_close(answered.float(), trained, atol=0.05, rtol=0.05)


def test_the_vision_transformer_costs_what_the_resnet18_costs() -> None:
    with pytest.raises(DataError, match="multiple of 8"):
        build(replace(EMOTION, network="vit", input_size=50))
    multiplications = []
    for network in ("resnet18", "vit"):
        module = build(replace(EMOTION, network=network)).eval()
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, 1, 48, 48))
        multiplications.append(counter.get_total_flops() / 2)
    assert 0.7 < multiplications[1] / multiplications[0] < 1.4


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(DataError, match="vgg"):
        build(Architecture(task="emotion", outputs=7, network="vgg"))  # type: ignore[arg-type]


def test_heads_and_attention_are_the_student_systems() -> None:
    emotion, landmarks = ResNet18(EMOTION), ResNet18(LANDMARKS)
    sizes = [
        [(m.in_features, m.out_features) for m in n.head if isinstance(m, nn.Linear)]
        for n in (emotion, landmarks)
    ]
    assert sizes == [[(512, 256), (256, 7)], [(512, 256), (256, 8)]]
    assert sum(isinstance(m, nn.Dropout) for m in landmarks.head) == 1
    kernels = [
        (m.in_channels, m.out_channels, m.kernel_size)
        for m in emotion.attention.modules()
        if isinstance(m, nn.Conv2d)
    ]
    assert kernels == [(512, 32, (1, 1)), (32, 512, (1, 1))]
    assert isinstance(landmarks.attention, nn.Identity)


def test_the_backbone_is_torchvisions_resnet18() -> None:
    """With torchvision's own weights, stem and pooling, the features are torchvision's."""
    torch.manual_seed(0)
    reference = resnet18(weights=None).eval()
    ours = ResNet18(
        Architecture(task="emotion", outputs=7, stem="torchvision", attention=False)
    ).eval()
    weights = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    # One gray channel stands for three equal ones.
    weights["conv1.weight"] = weights["conv1.weight"].sum(dim=1, keepdim=True)
    ours.backbone.load_state_dict(weights)
    ours.head = nn.Sequential()
    reference.fc = nn.Identity()
    gray = torch.randn(2, 1, 64, 64)
    assert torch.allclose(ours(gray), reference(gray.repeat(1, 3, 1, 1)), atol=1e-4)


def test_attention_weighs_channels_between_nothing_and_all() -> None:
    attention = ResNet18(EMOTION).attention
    features = torch.rand(2, 512, 3, 3) + 0.1
    weights = attention(features) / features
    assert torch.allclose(weights, weights[:, :, :1, :1].expand_as(weights), atol=1e-5)
    assert 0 < weights.min() < weights.max() < 1


def test_normalised_faces_have_the_training_datas_mean_and_spread() -> None:
    black_and_white = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    values = normalise(black_and_white, EMOTION).flatten()
    assert torch.allclose(
        values, torch.tensor([-EMOTION.mean / EMOTION.std, (1 - EMOTION.mean) / EMOTION.std])
    )


@pytest.mark.parametrize("architecture", [EMOTION, LANDMARKS])
def test_a_checkpoint_comes_back_as_it_was_in_half_precision(
    tmp_path: Path, architecture: Architecture
) -> None:
    module = build(architecture).eval()
    described = _described(architecture)
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, module, described)
    loaded, again = checkpoint.load(path)
    assert again == described
    assert path.stat().st_size < 24e6
    for name, value in module.state_dict().items():
        wanted = value.half().float() if value.is_floating_point() else value
        assert torch.equal(loaded.state_dict()[name], wanted), name
    assert not list(tmp_path.glob("*.part"))
    # What was loaded is what is saved again: rounding happens once.
    checkpoint.save(path, loaded, again)
    assert torch.equal(
        checkpoint.load(path)[0](torch.ones(1, 1, 48, 48)), loaded(torch.ones(1, 1, 48, 48))
    )


def test_what_is_not_a_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    with pytest.raises(DataError, match="no such checkpoint"):
        checkpoint.load(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(DataError, match="other"):
        checkpoint.load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="not a checkpoint of fer-train"):
        checkpoint.load(path)
    save_file({"weight": torch.zeros(2)}, path, metadata={"format": "1", "checkpoint": "{}"})
    with pytest.raises(DataError, match="header"):
        checkpoint.load(path)
    checkpoint.save(path, build(LANDMARKS), _described(EMOTION))
    with pytest.raises(DataError, match="do not fit"):
        checkpoint.load(path)
