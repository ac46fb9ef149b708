"""A whole session with everything that the SDK has, for others to watch from outside.

    python -m fer_sdk.privacy_check.session FOLDER [PHOTO...]

It writes into ``FOLDER`` alone, as somebody would who asks for annotated pictures and a video, and
prints what it found as JSON, one line for each detector. It ends with a pipeline still open, so
that what happens at the end of the interpreter is seen too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from fer_sdk import DetectorError, FerPipeline, annotate, load_image
from fer_sdk.detectors import DetectorName
from fer_sdk.output.atomic import save_image
from fer_sdk.video.write import open_video

DETECTORS: tuple[DetectorName | None, ...] = ("mediapipe", "blazeface", None)
_SIDES = 240, 320
_FRAMES, _RATE = 3, 25


def run(folder: Path, photos: Sequence[Path], out: TextIO) -> None:
    """Run the session.

    Args:
        folder: to write into.
        photos: pictures to look at; without any, one that is made up takes their place.
        out: what was found.

    Raises:
        FerError: a photo cannot be read, or the folder not written to.
    """
    if not photos:
        noise = np.random.default_rng(0).integers(0, 256, (*_SIDES, 3), np.uint8)
        photos = [folder / "made-up.png"]
        save_image(noise, photos[0])
    for detector in DETECTORS:
        try:
            pipeline = FerPipeline(detector=detector)
        except DetectorError as error:
            out.write(json.dumps({"detector": detector, "refused": str(error)}) + "\n")
            continue
        with pipeline:
            found = [_look(pipeline, photo, folder) for photo in photos]
            batch = pipeline.predict_batch(photos, on_error="raise")
            film = _film(pipeline, photos[0], folder)
        faces = {
            "faces": found,
            "batch": [[face.to_dict() for face in one] for one in batch],
            "film": film,
        }
        out.write(json.dumps({"detector": detector, **faces}) + "\n")
    _left_open.append(FerPipeline())
    _left_open[0].predict(photos[0])


def _look(pipeline: FerPipeline, photo: Path, folder: Path) -> list[dict[str, object]]:
    faces = pipeline.predict(photo)
    pixels = load_image(photo)
    pipeline.predict(pixels, color="rgb")
    save_image(annotate(pixels, faces, color="rgb"), folder / f"annotated-{photo.stem}.jpg")
    return [face.to_dict() for face in faces]


def _film(pipeline: FerPipeline, photo: Path, folder: Path) -> list[dict[str, object]]:
    """Frames as arrays and out of a video file, which is made of them."""
    pixels = load_image(photo)
    path = folder / f"film-of-{photo.stem}.mp4"
    with open_video(path, _RATE) as show:
        for frame in pipeline.stream([pixels] * _FRAMES, color="rgb", fps=_RATE, images=True):
            assert frame.image is not None
            show(frame.time, annotate(frame.image, frame.faces, color="rgb")[..., ::-1])
    return [frame.to_dict() for frame in pipeline.stream(path)]


_left_open: list[FerPipeline] = []


if __name__ == "__main__":
    run(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]], sys.stdout)
