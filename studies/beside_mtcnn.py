"""Our default pipeline beside ``fer`` with MTCNN on the same annotated photos, one thread each.

    python -m venv /tmp/fer && /tmp/fer/bin/pip install fer==25.10.3
    python studies/beside_mtcnn.py /tmp/fer/bin/python FOLDER bbx_gt.txt [PHOTOS]

Both take turns, photo by photo, on pixels that are read already, and go from the picture to the
emotions. What counts is the processor's time, of all threads, which other programs disturb little.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import typer

from fer_bench.quality.annotated import read_annotated
from fer_bench.quality.detection_photos import OfDetector
from fer_sdk import FerPipeline
from fer_sdk.detectors import Detection
from fer_sdk.image.load import load_image
from fer_sdk.types import Box

_OVERLAP = 0.35

_WORKER = """
import json, os, sys, time
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
    os.environ[name] = "1"
answers, sys.stdout = sys.stdout, sys.stderr
import cv2, torch
from importlib.resources import files
from fer.fer import FER
torch.set_num_threads(1)
cv2.setNumThreads(1)
model = FER(mtcnn=True)
for line in sys.stdin:
    image = cv2.imread(line.rstrip("\\n"))
    start = time.process_time()
    found = model.detect_emotions(image)
    seconds = time.process_time() - start
    boxes = [[float(number) for number in face["box"]] for face in found]
    print(json.dumps([seconds, boxes]), file=answers, flush=True)
"""


def main(python: str, folder: str, truth: str, most: str = "100000") -> None:
    """Print recall, false boxes and the ratio of the times."""
    photos = read_annotated(Path(truth))
    random.Random(0).shuffle(photos)
    ours, theirs = (OfDetector(name, name, "") for name in ("fer-sdk", "fer with MTCNN"))
    with (
        FerPipeline(threads=1) as pipeline,
        subprocess.Popen(
            [python, "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as worker,
    ):
        if worker.stdin is None or worker.stdout is None:
            raise RuntimeError("the worker has no pipes")
        # The first photo warms both up, and is looked at again.
        for at, photo in enumerate([photos[0], *photos[: int(most)]]):
            path = Path(folder) / photo.path
            rgb = load_image(path)
            start = time.process_time()
            faces = pipeline.predict(rgb, color="rgb")
            taken = time.process_time() - start
            worker.stdin.write(f"{path.resolve()}\n")
            worker.stdin.flush()
            seconds, boxes = json.loads(worker.stdout.readline())
            if not at:
                continue
            for counts, found, spent in (
                (ours, [face.box for face in faces], taken),
                (theirs, [Box(*box) for box in boxes], seconds),
            ):
                counts.milliseconds.append(1e3 * spent)
                detections = [Detection(box, 1.0) for box in found]
                counts.add(photo, max(rgb.shape[:2]), detections, _OVERLAP)
            if at % 10 == 0:
                report(ours, theirs)
        worker.stdin.close()
    report(ours, theirs)


def report(ours: OfDetector, theirs: OfDetector) -> None:
    """Print what there is so far."""
    pairs = list(zip(ours.milliseconds, theirs.milliseconds, strict=True))
    for one in (ours, theirs):
        typer.echo(
            f"{one.detector}: {one.all.found} of {one.all.faces} faces, {one.false_boxes} false, "
            f"{one.photos_without_any_found} photos with none found"
        )
    total = sum(theirs.milliseconds) / sum(ours.milliseconds)
    ratio = median(other / own for own, other in pairs)
    typer.echo(f"{len(pairs)} photos: {total:.1f} times as long in all, median {ratio:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
