"""How training faces are framed, as seen by the face detector.

FER2013 frames faces in its own way. Measuring where the detector puts its box in those frames
tells how to make, from a detector's box in a photo, the square that frames the face in that way,
and how far such squares stray: the jitter to train with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_sdk.detectors import Detector
from fer_sdk.errors import DataError
from fer_sdk.image.crop import CropGeometry
from fer_training.data.faces import FaceSet
from fer_training.data.margins import MARGINS, UPSCALE, with_margin

_FEWEST = 30
_DIGITS = 6
_TOOLS = ("mediapipe", "onnxruntime", "opencv-python-headless")


@dataclass(frozen=True, slots=True)
class MeasuredGeometry:
    """The crop geometry of a set of faces, and its spread.

    Attributes:
        geometry: makes, from a detector's box, the square that frames a face as the faces of the
            set are framed.
        jitter_x: standard deviation of the centre of such squares, as a fraction of their side.
        jitter_y: the same, up and down.
        jitter_scale: standard deviation of the natural logarithm of their side.
        faces: faces that were looked at.
        found: faces that the detector found.
        conditions: what was measured with what.
    """

    geometry: CropGeometry
    jitter_x: float
    jitter_y: float
    jitter_scale: float
    faces: int
    found: int
    conditions: Mapping[str, object] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path | None = None) -> MeasuredGeometry:
        """Read what ``save`` wrote; without a path, FER2013's geometry, which the package brings.

        Raises:
            DataError: no such file, or not one of a measured geometry.
        """
        source = path or resources.files("fer_training") / "truth" / "crop_geometry.json"
        try:
            stored = json.loads(source.read_text(encoding="utf-8"))
            return cls(**(stored | {"geometry": CropGeometry(**stored["geometry"])}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{source}: not a measured crop geometry: {error}") from error


def measure(images: npt.NDArray[np.uint8], detector: Detector) -> MeasuredGeometry:
    """Measure the crop geometry of face crops uint8 ``[N, S, S]``.

    Raises:
        DataError: the detector finds too few of them to say anything.
    """
    return _fit(find_boxes(images, detector))


def measure_split(
    faces: FaceSet, detector: Detector, *, count: int, seed: int, split: str = "Training"
) -> MeasuredGeometry:
    """Measure the crop geometry on a random sample of a split, and keep the conditions.

    Raises:
        DataError: the split has fewer than ``count`` faces, or too few are found.
    """
    whole = faces.split(split)
    if len(whole) < count:
        raise DataError(f"{split} has {len(whole)} faces, fewer than the {count} asked for")
    chosen = whole.take(np.random.default_rng(seed).permutation(len(whole))[:count])
    boxes = find_boxes(chosen.images, detector)
    found = ~np.isnan(boxes[:, 0, 0])
    conditions = {
        "split": split,
        "seed": seed,
        "detector": detector.name,
        "margins": list(MARGINS),
        "upscale": UPSCALE,
        "tools": {tool: metadata.version(tool) for tool in _TOOLS if _installed(tool)},
        "found_by_label": {
            name: round(float(found[chosen.labels == number].mean()), 4)
            for number, name in enumerate(chosen.label_names)
            if (chosen.labels == number).any()
        },
    }
    return replace(_fit(boxes), conditions=conditions)


def find_boxes(images: npt.NDArray[np.uint8], detector: Detector) -> npt.NDArray[np.float64]:
    """Where a detector puts its box in face crops uint8 ``[N, S, S]`` and their mirror images.

    Returns:
        ``[N, 2, 3]``: centre x, centre y and side of the box, as fractions of the crop; first the
        crop's own, then the mirror image's turned back. NaN for a face that was not found in both.
    """
    boxes = np.full((len(images), 2, 3), np.nan)
    for row, image in enumerate(images):
        for margin in MARGINS:
            straight = _box(image, margin, detector)
            mirrored = _box(np.ascontiguousarray(image[:, ::-1]), margin, detector)
            if straight is not None and mirrored is not None:
                x, y, side = mirrored
                boxes[row] = straight, (1 - x, y, side)
                break
    return boxes


def _box(
    image: npt.NDArray[np.uint8], margin: float, detector: Detector
) -> tuple[float, float, float] | None:
    side = len(image)
    picture, pad = with_margin(image, margin)
    found = detector.detect(picture)
    if not found:
        return None
    box = max((face.box for face in found), key=lambda box: box.width * box.height)
    return (
        ((box.x + box.width / 2) / UPSCALE - pad) / side,
        ((box.y + box.height / 2) / UPSCALE - pad) / side,
        max(box.width, box.height) / UPSCALE / side,
    )


def _fit(boxes: npt.NDArray[np.float64]) -> MeasuredGeometry:
    found = ~np.isnan(boxes[:, 0, 0])
    if found.sum() < _FEWEST:
        raise DataError(
            f"the detector found {found.sum()} of {len(boxes)} faces: a crop geometry needs "
            f"at least {_FEWEST}"
        )
    # A box and its mirror image's count as two: their middle has no left or right, and they stray
    # as single boxes do, which is what the models will meet.
    x, y, side = boxes[found].reshape(-1, 3).T
    geometry = CropGeometry(
        scale=_rounded(np.exp(np.median(-np.log(side)))),
        shift_x=_rounded(np.median((0.5 - x) / side)),
        shift_y=_rounded(np.median((0.5 - y) / side)),
    )
    square = geometry.scale * side
    return MeasuredGeometry(
        geometry,
        jitter_x=_rounded(np.std(x + geometry.shift_x * side)),
        jitter_y=_rounded(np.std(y + geometry.shift_y * side)),
        jitter_scale=_rounded(np.std(np.log(square))),
        faces=len(boxes),
        found=int(found.sum()),
    )


def _rounded(value: np.floating) -> float:
    return round(float(value), _DIGITS)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
