"""Which face was found by which box."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fer_sdk.detectors.boxes import iou


def match(faces: npt.ArrayLike, boxes: npt.ArrayLike, least: float) -> list[tuple[int, int]]:
    """Pair faces with boxes, one to one, those that overlap most first.

    Args:
        faces: ``[N, 4]``, x, y, width, height.
        boxes: ``[M, 4]``.
        least: intersection over union from which on a box shows a face, above 0.

    Returns:
        Places in ``faces`` and in ``boxes``.
    """
    overlaps = iou(faces, boxes)
    pairs = []
    while overlaps.size and overlaps.max() >= least:
        face, box = (int(at) for at in np.unravel_index(overlaps.argmax(), overlaps.shape))
        overlaps[face], overlaps[:, box] = 0, 0
        pairs.append((face, box))
    return pairs
