"""Installed packages that get in each other's way, and in ours."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec

_MODULES = {
    "onnxruntime": "keep the one for your device: onnxruntime, onnxruntime-gpu for CUDA and "
    "TensorRT, onnxruntime-openvino, or onnxruntime-directml",
    "cv2": "keep one, opencv-python-headless where nothing else needs another",
}
_USUAL = {"onnxruntime": "onnxruntime", "cv2": "opencv-python-headless"}


def conflicts() -> list[str]:
    """What is wrong with the installed packages and what to do; empty where nothing is."""
    from fer_sdk.detectors.mediapipe import installed_version, refusal

    owners = metadata.packages_distributions()
    problems = []
    for module, advice in _MODULES.items():
        packages = sorted(set(owners.get(module, [])))
        if len(packages) > 1:
            problems.append(
                f"{', '.join(packages)} all install {module} and overwrite each other: {advice}, "
                "remove all of them and install it again"
            )
    version = installed_version()
    if version is not None and (reason := refusal(version)) is not None:
        problems.append(reason)
    return problems


def incomplete() -> str | None:
    """Which package lacks its files, and what to do; None where none does.

    Where two builds of onnxruntime or OpenCV were installed, pip removes with one of them the files
    that both have: of the other a shell is left, or nothing. Imports none of them.
    """
    broken = [module for module in _MODULES if not _has_code(module)]
    if not broken:
        return None
    owners = metadata.packages_distributions()
    problems = []
    for module in broken:
        packages = sorted(set(owners.get(module, [])))
        listed = " and ".join(packages)
        what = f"{listed} is installed without its files" if packages else f"{module} is missing"
        names = " ".join(packages[:1] or [_USUAL[module]])
        problems.append(
            f"{what}, as after removing one of two packages that install {module}: "
            f"pip install --force-reinstall --no-deps {names}"
        )
    return "; ".join(problems)


def _has_code(module: str) -> bool:
    spec = find_spec(module)
    # Of a folder without code Python makes a namespace package, which comes from no file.
    return spec is not None and spec.origin is not None
