"""The networks: a ResNet18 for each task, as in the published student system, and two others.

Emotion: ResNet18, a channel self-attention block on its last feature map, then a head 512-256-7.
Landmarks: ResNet18, then a head 512-256-8. What differs from torchvision's ResNet18 is
configuration: one gray channel, and how much the stem shrinks the picture, since a face here is
48 pixels wide and not 224.

EfficientNet-Lite0 is there to start from ImageNet and to teach the ResNet18; the vision transformer
is there to compare with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet18

from fer_sdk.errors import DataError
from fer_sdk.models.metadata import Task

NetworkName = Literal["resnet18", "efficientnet_lite0", "vit"]

_FEATURES = 512
_HIDDEN = 256
_REDUCED = 32

# The tiny transformer of Touvron et al., "Training data-efficient image transformers", ICML 2021.
# On 8x8 patches it takes about as many multiplications as the ResNet18 with its stem of stride 1.
_VIT_SIDE = 8
_VIT_WIDTH = 192
_VIT_HEADS = 3
_VIT_LAYERS = 12


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that is needed to build a network again.

    Attributes:
        task: what it gives.
        outputs: emotion labels, or 8 for the landmarks' x and y.
        network: ``"resnet18"``, ``"efficientnet_lite0"`` (Tan and Le, "EfficientNet", ICML 2019,
            without what mobile hardware is slow at; needs timm) or ``"vit"`` (a tiny vision
            transformer on 8x8 patches). What follows about stem and attention is ResNet18's.
        input_size: side of its square input, in pixels.
        stem: ``"torchvision"`` is the 7x7 convolution with stride 2; ``"stride1"`` the same
            convolution with stride 1; ``"3x3"`` a 3x3 convolution with stride 1.
        stem_pool: whether torchvision's 3x3 max-pool with stride 2 follows the stem.
        attention: whether the emotion network has its channel self-attention block.
        dropout: in the head, before its last layer.
        mean: of the pixels, as a fraction of white; subtracted from the input.
        std: of the pixels, as a fraction of white; the input is divided by it.
    """

    task: Task
    outputs: int
    network: NetworkName = "resnet18"
    input_size: int = 48
    stem: Literal["torchvision", "stride1", "3x3"] = "stride1"
    stem_pool: bool = True
    attention: bool = True
    dropout: float = 0.3
    mean: float = 0.508
    std: float = 0.255

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's header and a model's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> Architecture:
        """What ``to_dict`` gave.

        Raises:
            DataError: it names settings that this version does not know.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise DataError(
                f"{source}: not an architecture of this fer-training: {error}"
            ) from error


class ChannelAttention(nn.Module):
    """Channel self-attention: each channel of a feature map is weighed by a look at all of them.

    Global average pooling, two 1x1 convolutions with a bottleneck, a sigmoid: the squeeze and
    excitation of Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, as the student system
    uses it behind the last stage of ResNet18.
    """

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, reduced, 1),
            nn.ReLU(),
            nn.Conv2d(reduced, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` in, the same shape out."""
        weighed: torch.Tensor = features * self.weigh(features)
        return weighed


class ResNet18(nn.Module):
    """ResNet18 for gray squares, with the attention block and the head of its task."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        backbone = resnet18(weights=None)
        kernel, stride = {"torchvision": (7, 2), "stride1": (7, 1), "3x3": (3, 1)}[
            architecture.stem
        ]
        backbone.conv1 = nn.Conv2d(1, 64, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        if not architecture.stem_pool:
            backbone.maxpool = nn.Identity()
        backbone.fc = nn.Identity()
        self.task = architecture.task
        self.backbone = backbone
        has_attention = architecture.task == "emotion" and architecture.attention
        self.attention = ChannelAttention(_FEATURES, _REDUCED) if has_attention else nn.Identity()
        self.head = nn.Sequential(
            nn.Linear(_FEATURES, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(architecture.dropout),
            nn.Linear(_HIDDEN, architecture.outputs),
        )

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Normalised faces ``[N, 1, S, S]`` to logits ``[N, L]`` or landmarks ``[N, 4, 2]``."""
        body = self.backbone
        x = body.maxpool(body.relu(body.bn1(body.conv1(faces))))
        x = body.layer4(body.layer3(body.layer2(body.layer1(x))))
        x = body.avgpool(self.attention(x)).flatten(1)
        result: torch.Tensor = self.head(x)
        return result if self.task == "emotion" else result.reshape(-1, 4, 2)


class FullPrecision(nn.Module):
    """A convolution that trains outside a CPU's automatic mixed precision.

    oneDNN has no fast gradient for depthwise convolutions in bfloat16: with them in float32, and
    all others in bfloat16, an EfficientNet trains twice as fast.
    """

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """What the convolution gives."""
        result: torch.Tensor
        if features.device.type == "cpu" and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                result = self.convolution(features.float())
        else:
            result = self.convolution(features)
        return result


class EfficientNetLite0(nn.Module):
    """timm's EfficientNet-Lite0 for gray squares."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise DataError(
                "network efficientnet_lite0 needs timm: pip install 'fer-sdk[teacher]'"
            ) from error
        self.task = architecture.task
        self.backbone = timm.create_model(
            "tf_efficientnet_lite0",
            pretrained=False,
            in_chans=1,
            num_classes=architecture.outputs,
            drop_rate=architecture.dropout,
        )
        # timm scales a new head by its few outputs: its first logits would be wildly sure.
        head = self.backbone.get_submodule("classifier")
        nn.init.normal_(head.get_parameter("weight"), std=0.01)
        nn.init.zeros_(head.get_parameter("bias"))
        for block in list(self.backbone.modules()):
            for name, layer in block.named_children():
                if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                    setattr(block, name, FullPrecision(layer))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Normalised faces ``[N, 1, S, S]`` to logits ``[N, L]`` or landmarks ``[N, 4, 2]``."""
        result: torch.Tensor = self.backbone(faces)
        return result if self.task == "emotion" else result.reshape(-1, 4, 2)


class ViT(nn.Module):
    """torchvision's vision transformer for gray squares, cut into 8x8 patches."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        size = architecture.input_size
        if size % _VIT_SIDE:
            raise DataError(
                f"input_size = {size}: network vit cuts faces into {_VIT_SIDE}x{_VIT_SIDE} patches "
                f"and so needs a multiple of {_VIT_SIDE}"
            )
        patch = size // _VIT_SIDE
        backbone = VisionTransformer(
            image_size=size,
            patch_size=patch,
            num_layers=_VIT_LAYERS,
            num_heads=_VIT_HEADS,
            hidden_dim=_VIT_WIDTH,
            mlp_dim=4 * _VIT_WIDTH,
        )
        backbone.conv_proj = nn.Conv2d(1, _VIT_WIDTH, patch, patch)
        nn.init.trunc_normal_(backbone.conv_proj.weight, std=1 / patch)
        nn.init.zeros_(backbone.conv_proj.bias)
        backbone.heads = nn.Sequential(
            nn.Dropout(architecture.dropout), nn.Linear(_VIT_WIDTH, architecture.outputs)
        )
        self.task = architecture.task
        self.backbone = backbone

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Normalised faces ``[N, 1, S, S]`` to logits ``[N, L]`` or landmarks ``[N, 4, 2]``."""
        result: torch.Tensor = self.backbone(faces)
        return result if self.task == "emotion" else result.reshape(-1, 4, 2)


def build(architecture: Architecture) -> nn.Module:
    """A freshly initialised network.

    Raises:
        DataError: timm is not installed, or the input size does not suit the network.
    """
    if architecture.network == "efficientnet_lite0":
        return EfficientNetLite0(architecture)
    if architecture.network == "vit":
        return ViT(architecture)
    if architecture.network == "resnet18":
        return ResNet18(architecture)
    raise DataError(f"network {architecture.network!r} is not one that this fer-training knows")


def last_layer(network: nn.Module) -> nn.Linear:
    """The layer of a built network that gives its outputs."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]


def scale_labels(network: nn.Module, scale: torch.Tensor, bias: torch.Tensor) -> None:
    """Make each logit of an emotion network ``scale`` times what it was, plus ``bias`` ``[L]``."""
    last = last_layer(network)
    scale, bias = scale.to(last.weight.device), bias.to(last.weight.device)
    with torch.no_grad():
        last.weight.mul_(scale[:, None])
        last.bias.mul_(scale).add_(bias)


def normalise(faces: torch.Tensor, architecture: Architecture) -> torch.Tensor:
    """Gray faces 0..255 ``[N, S, S]`` to what the network takes, float32 ``[N, 1, S, S]``."""
    return ((faces.to(torch.float32) / 255 - architecture.mean) / architecture.std).unsqueeze(1)
