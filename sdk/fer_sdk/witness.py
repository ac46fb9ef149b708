"""The landmarks as a witness of whether something is a face.

The landmarks model finds its four points on anything, but only on a face do they stay where they
are when the crop is moved, resized or mirrored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fer_sdk.image.crop import Square, crop_gray
from fer_sdk.models.landmarks import LandmarksModel

# Chosen on faces of FER2013's Training part against pictures without faces.
_WEIGHT_OF_SPREAD = 6.0
# The landmarks find no hold on some faces either, in profile or lying on their side: a detector
# that is as sure as this when it looks again needs no other witness.
_SURE = 0.65
# How the crop is moved (right, down) and resized, in sides of it; the mirrored one comes last.
_VIEWS = (
    (0.0, 0.0, 1.0),
    (0.08, 0.05, 1.0),
    (-0.08, -0.05, 1.0),
    (0.0, 0.0, 1.15),
    (0.0, 0.0, 0.87),
)
_MIRRORED = (1, 0, 3, 2)


def is_face(
    score: float,
    image: npt.NDArray[np.uint8],
    square: Square,
    landmarks: LandmarksModel,
    *,
    least: float,
    strictness: float = 1.0,
) -> bool:
    """Whether a detector and the landmarks together speak for a face.

    Args:
        score: of the detector, 0..1.
        image: RGB uint8 ``[H, W, 3]``.
        square: what the models would be given of it.
        landmarks: one run of six crops, where the score alone does not decide.
        least: what is to be left of the score after what the landmarks say against it.
        strictness: by how much more is asked of both, 1 or more.

    Raises:
        ModelError: onnxruntime fails.
    """
    if score < strictness * least:
        return False
    if score >= strictness * _SURE:
        return True
    return score - _WEIGHT_OF_SPREAD * _spread(image, square, landmarks) >= strictness * least


def _spread(image: npt.NDArray[np.uint8], square: Square, landmarks: LandmarksModel) -> float:
    """How far the four points move between views of one square, as a fraction of its side.

    It is the root of the mean squared distance to each point's mean place.
    """
    views = [_view(square, *how) for how in _VIEWS]
    crops = [crop_gray(image, view, landmarks.metadata.input_size) for view in views]
    found = landmarks.landmarks(np.stack([*crops, crops[0][:, ::-1]])).astype(np.float64)
    mirrored = found[-1, _MIRRORED, :]
    mirrored[:, 0] = 1 - mirrored[:, 0]
    places = [
        fractions * view.side + (view.x, view.y)
        for fractions, view in zip([*found[:-1], mirrored], [*views, square], strict=True)
    ]
    points = np.stack(places)
    moved = ((points - points.mean(axis=0)) ** 2).sum(axis=-1)
    return float(np.sqrt(moved.mean())) / square.side


def _view(square: Square, right: float, down: float, scale: float) -> Square:
    x, y, side = square
    scaled = max(1, round(scale * side))
    return Square(
        round(x + side / 2 + right * side - scaled / 2),
        round(y + side / 2 + down * side - scaled / 2),
        scaled,
    )
