"""Installed packages that get in each other's way, and in ours."""

from __future__ import annotations

from importlib import metadata

from fer_sdk.detectors.mediapipe import installed_version, refusal

_MODULES = {
    "onnxruntime": "keep the one for your device: onnxruntime, onnxruntime-gpu for CUDA and "
    "TensorRT, onnxruntime-openvino, or onnxruntime-directml",
    "cv2": "keep one, opencv-python-headless where nothing else needs another",
}


def conflicts() -> list[str]:
    """What is wrong with the installed packages and what to do; empty where nothing is."""
    owners = metadata.packages_distributions()
    found = []
    for module, advice in _MODULES.items():
        packages = sorted(set(owners.get(module, [])))
        if len(packages) > 1:
            found.append(
                f"{', '.join(packages)} all install {module} and overwrite each other: {advice}, "
                "remove all of them and install it again"
            )
    version = installed_version()
    if version is not None and (reason := refusal(version)) is not None:
        found.append(reason)
    return found
