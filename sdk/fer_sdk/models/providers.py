"""The devices that models run on, and the provider of onnxruntime behind each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from fer_sdk.errors import SettingError

Device = Literal["auto", "cpu", "cuda", "openvino", "coreml", "directml", "tensorrt", "xnnpack"]
"""Where to run; ``"auto"`` is CUDA where it opens, else the CPU."""

_SUFFIX = "ExecutionProvider"


class Provider(NamedTuple):
    """A way to run models.

    Attributes:
        name: onnxruntime's name for it.
        advice: what to do where the installed onnxruntime does not have it.
        needs: what to check where onnxruntime has it and it does not open.
        precision: of the model that ``precision="auto"`` takes: int8 where the integer operations
            are fast, else fp32, whose operations every provider has.
        whole: it can run every operation of our models, so that an operation left to the CPU means
            that the named device is not used. Other providers leave some to the CPU by design.
        options: provider options that we set; the caller's own come on top. ``{threads}`` stands
            for the number of threads.
    """

    name: str
    advice: str = "use an onnxruntime that was built with it"
    needs: str = "what onnxruntime's documentation says that it needs"
    precision: Literal["int8", "fp32"] = "fp32"
    whole: bool = False
    options: Mapping[str, str] = {}


PROVIDERS: Mapping[str, Provider] = {
    "cpu": Provider("CPUExecutionProvider", precision="int8", whole=True),
    "cuda": Provider(
        "CUDAExecutionProvider",
        advice="install onnxruntime-gpu in place of onnxruntime",
        needs="the NVIDIA driver (nvidia-smi), and CUDA and cuDNN, which pip install "
        "'onnxruntime-gpu[cuda,cudnn]' brings",
        whole=True,
        options={
            # By default float32 products are rounded to 10 bits where the GPU can, and fp32 would
            # not be the reference any more.
            "use_tf32": "0",
            # By default cuDNN tries all algorithms for each new batch size: half a second a model.
            "cudnn_conv_algo_search": "HEURISTIC",
        },
    ),
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        advice="install onnxruntime-openvino in place of onnxruntime",
        needs="that the OpenVINO device is there (CPU unless provider_options say otherwise)",
        precision="int8",
        whole=True,
        # By default OpenVINO takes 8 threads on any machine.
        options={"num_of_threads": "{threads}"},
    ),
    "coreml": Provider(
        "CoreMLExecutionProvider",
        advice="onnxruntime has it on macOS",
        needs="that this is macOS 12 or later",
        # The older format knows fewer operations.
        options={"ModelFormat": "MLProgram"},
    ),
    "directml": Provider(
        "DmlExecutionProvider",
        advice="install onnxruntime-directml in place of onnxruntime, on Windows",
        needs="that there is a GPU with DirectX 12",
        whole=True,
    ),
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        advice="install onnxruntime-gpu in place of onnxruntime",
        needs="the NVIDIA driver, CUDA and the TensorRT libraries that onnxruntime-gpu needs",
        whole=True,
    ),
    "xnnpack": Provider(
        "XnnpackExecutionProvider",
        needs="how this onnxruntime was built",
        # It has threads of its own beside those of onnxruntime.
        options={"intra_op_num_threads": "{threads}"},
    ),
}
NVIDIA = ("cuda", "tensorrt")


def known_device(name: str) -> str:
    """The name of a device, from that name or onnxruntime's name of its provider.

    Providers without a name of ours keep onnxruntime's, such as ``"QNNExecutionProvider"``.

    Raises:
        SettingError: it is neither.
    """
    if name in get_args(Device):
        return name
    if isinstance(name, str) and name.endswith(_SUFFIX):
        ours = (device for device, provider in PROVIDERS.items() if provider.name == name)
        return next(ours, name)
    names = ", ".join(f'"{device}"' for device in get_args(Device))
    raise SettingError(
        f"there is no device {name!r}: use one of {names}, or onnxruntime's name of a provider, "
        f'such as "QNN{_SUFFIX}"'
    )


def provider_of(device: str) -> Provider:
    """How a device from ``known_device`` is opened."""
    return PROVIDERS.get(device, Provider(device))
