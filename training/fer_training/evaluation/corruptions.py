"""Ways in which pictures of faces are bad, to measure what a model makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from fer_sdk.image.crop import resize_square

Images = npt.NDArray[np.uint8]

_BLUR = 1 / 32
_NOISE = 20.0
_LIGHT = 0.3
_SMALL = 24


def _blurred(images: Images) -> Images:
    sigma = _BLUR * images.shape[1]
    return np.stack([np.asarray(cv2.GaussianBlur(i, (0, 0), sigma), np.uint8) for i in images])


def _noisy(images: Images) -> Images:
    noise = np.random.default_rng(0).normal(0, _NOISE, images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


def _dark(images: Images) -> Images:
    return (images * _LIGHT).round().astype(np.uint8)


def _small(images: Images) -> Images:
    side = images.shape[1]
    return np.stack([resize_square(resize_square(image, _SMALL), side) for image in images])


DEGRADATIONS: Mapping[str, Callable[[Images], Images]] = {
    "blurred (Gaussian, 1/32 of the crop)": _blurred,
    "noisy (Gaussian, 20 gray levels)": _noisy,
    "dark (30 % of the light)": _dark,
    "shrunk to 24 px": _small,
}
"""By name: face crops uint8 ``[N, S, S]`` in, the same shape out, always in the same way."""
