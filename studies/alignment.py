"""Does it pay to turn a face upright before its emotion is read?

    python studies/alignment.py fer2013.csv --emotion emotion.fp32.onnx \\
        --landmarks landmarks.fp32.onnx

The landmark model says where the eyes are; the crop is turned until they are level. What that gains
on tilted faces it may lose on others to its own errors. Faces are tilted here by known angles. Tilt
and correction are one resampling, as in a photo, whose crop is cut out once, at the angle wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import typer

from fer_sdk.errors import DataError
from fer_sdk.image.crop import ALIGN_BEYOND, roll_angle
from fer_sdk.models.emotion import EmotionModel
from fer_sdk.models.landmarks import LandmarksModel
from fer_training.data.faces import FaceSet, read_faces
from fer_training.data.ground_truth import GroundTruth
from fer_training.evaluation import plots
from fer_training.evaluation.evaluate import at_model_size, check_labels
from fer_training.evaluation.report import markdown_table, percent
from fer_training.json_file import write_json

_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class TiltFigures:
    """Accuracy on faces that were all tilted by the same angle.

    Attributes:
        tilt: in degrees; every second face is tilted to the left, the others to the right.
        as_it_is: accuracy on the tilted crops.
        aligned: on crops turned by the eyes that the landmark model finds.
        as_default: the same, but only those that it finds tilted by more than ``ALIGN_BEYOND``.
        aligned_by_truth: on crops turned by the true eyes, where they are known.
        gain: ``as_default`` minus ``as_it_is``.
        interval: half width of the 95 % interval of the gain, over faces.
        angle_error: mean distance in degrees between the eye lines that the landmark model and the
            truth give; None where the truth knows no face.
    """

    tilt: float
    as_it_is: float
    aligned: float
    as_default: float
    aligned_by_truth: float
    gain: float
    interval: float
    angle_error: float | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """What was measured with what.

    Attributes:
        emotion, landmarks: hashes of the models' files.
        split: of the data.
        faces: how many; each is measured at each tilt.
        natural_tilt: mean angle of the true eye lines in the crops as they are, in degrees, either
            way; None where the truth knows no face.
        tilts: the figures.
    """

    emotion: str
    landmarks: str
    split: str
    faces: int
    natural_tilt: float | None
    tilts: tuple[TiltFigures, ...]


def turned(
    images: npt.NDArray[np.uint8], degrees: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Crops ``[N, S, S]`` turned clockwise about their middle, each by its own angle.

    What comes in from beyond the edge repeats the edge pixels, as in the SDK's crops.
    """
    side = images.shape[1]
    middle = ((side - 1) / 2, (side - 1) / 2)
    return np.stack(
        [
            image
            if angle == 0
            else np.asarray(
                cv2.warpAffine(
                    image,
                    # OpenCV turns counterclockwise.
                    cv2.getRotationMatrix2D(middle, -float(angle), 1.0),
                    (side, side),
                    flags=cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_REPLICATE,
                ),
                np.uint8,
            )
            for image, angle in zip(images, degrees, strict=True)
        ]
    )


def measure_alignment(
    emotion: EmotionModel,
    landmarks: LandmarksModel,
    part: FaceSet,
    truth: GroundTruth,
    *,
    split: str,
    tilts: Sequence[float],
) -> Alignment:
    """Measure accuracy with and without alignment.

    Args:
        emotion, landmarks: open models.
        part: the faces of the split.
        truth: landmarks of the faces; those it does not know stay as they are where the truth
            aligns.
        split: what to call it.
        tilts: angles in degrees by which to tilt all faces.

    Raises:
        DataError: the faces have other labels than the model.
    """
    check_labels(emotion, part)
    points = truth.of(part.images)
    known = ~np.isnan(points[:, 0, 0])
    natural = np.where(known, roll_angle(np.nan_to_num(points)), 0.0)
    sides = np.where(np.arange(len(part)) % 2, 1.0, -1.0)

    def right(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        scores = emotion.scores(at_model_size(turned(part.images, angles), emotion))
        return np.asarray(scores.argmax(axis=1) == part.labels)

    figures = []
    for tilt in tilts:
        tilted = sides * tilt
        seen = landmarks.landmarks(at_model_size(turned(part.images, tilted), landmarks))
        found = roll_angle(seen)
        plain, aligned = right(tilted), right(tilted - found)
        by_default = np.where(np.abs(found) > ALIGN_BEYOND, aligned, plain)
        # A face without truth keeps its tilt.
        by_truth = right(np.where(known, -natural, tilted))
        gains = by_default.astype(np.float64) - plain
        off = _wrapped(found - (natural + tilted))[known]
        figures.append(
            TiltFigures(
                tilt=float(tilt),
                as_it_is=float(plain.mean()),
                aligned=float(aligned.mean()),
                as_default=float(by_default.mean()),
                aligned_by_truth=float(by_truth.mean()),
                gain=float(gains.mean()),
                interval=_NORMAL_95 * float(gains.std(ddof=1)) / math.sqrt(len(gains)),
                angle_error=float(np.abs(off).mean()) if known.any() else None,
            )
        )
    return Alignment(
        emotion.sha256,
        landmarks.sha256,
        split,
        len(part),
        float(np.abs(natural[known]).mean()) if known.any() else None,
        tuple(figures),
    )


def _wrapped(degrees: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (degrees + 180) % 360 - 180


def write_alignment(alignment: Alignment, folder: Path) -> Path:
    """Write ``alignment.json``, ``alignment.md`` and ``alignment.png``.

    Returns:
        The Markdown file's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "alignment.json", asdict(alignment))
    plots.tilts(
        [each.tilt for each in alignment.tilts],
        {
            "as it is": [each.as_it_is for each in alignment.tilts],
            "aligned by the landmark model": [each.aligned for each in alignment.tilts],
            f"aligned beyond {ALIGN_BEYOND:g}°, the default": [
                each.as_default for each in alignment.tilts
            ],
            "aligned by the true landmarks": [each.aligned_by_truth for each in alignment.tilts],
        },
        f"Turning faces upright, {alignment.split}",
        folder / "alignment.png",
    )
    lines = [
        "# Turning faces upright before classification",
        "",
        f"{alignment.faces} faces of {alignment.split}, tilted by known angles (every second one "
        "to the left), classified as they are and turned upright by the line between the eyes. "
        f"Their own tilt is {_degrees(alignment.natural_tilt)} on average. Intervals are of 95 % "
        "over faces.",
        "",
        f"Emotion model sha256 `{alignment.emotion}`, landmark model `{alignment.landmarks}`.",
        "",
        *markdown_table(
            (
                "tilt added",
                "as it is",
                "all aligned",
                f"aligned beyond {ALIGN_BEYOND:g}°, the default",
                "gain of the default, points",
                "aligned by truth",
                "error of the eye line",
            ),
            [
                (
                    f"{each.tilt:g}°",
                    percent(each.as_it_is),
                    percent(each.aligned),
                    percent(each.as_default),
                    f"{100 * each.gain:+.2f} ± {100 * each.interval:.2f}",
                    percent(each.aligned_by_truth),
                    _degrees(each.angle_error),
                )
                for each in alignment.tilts
            ],
        ),
        "",
        "![accuracy by tilt](alignment.png)",
        "",
    ]
    path = folder / "alignment.md"
    path.write_text("\n".join(lines), "utf-8")
    return path


def _degrees(angle: float | None) -> str:
    return "unknown" if angle is None else f"{angle:.1f}°"


def main(
    data: Path,
    emotion_model: Annotated[Path, typer.Option("--emotion", help="An exported emotion model.")],
    landmarks_model: Annotated[
        Path, typer.Option("--landmarks", help="An exported landmark model.")
    ],
    split: Annotated[str, typer.Option(help="Training, PublicTest or PrivateTest.")] = "PublicTest",
    tilts: Annotated[
        list[float] | None,
        typer.Option("--tilt", help="Degrees to tilt all faces by. May be repeated."),
    ] = None,
    truth: Path | None = None,
    report: Annotated[
        Path, typer.Option(help="Folder for the table, the picture and the figures.")
    ] = Path("training/reports/alignment"),
) -> None:
    """Measure whether turning faces upright by their eyes helps to read their emotion."""
    part = read_faces(data).split(split)
    if not len(part):
        raise DataError(f"{data}: has no face in {split}")
    measured = measure_alignment(
        EmotionModel.from_file(emotion_model, device="cpu"),
        LandmarksModel.from_file(landmarks_model, device="cpu"),
        part,
        GroundTruth.load(truth),
        split=split,
        tilts=tilts or (0.0, 10.0, 15.0, 20.0, 30.0),
    )
    path = write_alignment(measured, report)
    for each in measured.tilts:
        typer.echo(
            f"tilted by {each.tilt:g} degrees: {100 * each.as_it_is:.2f} % as it is, "
            f"{100 * each.aligned:.2f} % all aligned, {100 * each.as_default:.2f} % by default "
            f"({100 * each.gain:+.2f} +- {100 * each.interval:.2f} points)"
        )
    typer.echo(path)


if __name__ == "__main__":
    typer.run(main)
