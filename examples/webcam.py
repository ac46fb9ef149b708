"""The faces in front of a camera, one line a frame: python examples/webcam.py

    python examples/webcam.py --camera 1 --frames 100 --save last.jpg

It needs no screen: --save writes the last frame with its faces drawn. Ctrl+C ends it. The same with
more to choose from is the command ``fer webcam``.
"""

import argparse
import sys

import cv2

from fer_sdk import FerPipeline, VideoError, annotate

arguments = argparse.ArgumentParser(description="The faces in front of a camera.")
arguments.add_argument("--camera", type=int, default=0, help="number of the camera; default 0")
arguments.add_argument("--frames", type=int, help="stop after so many; default: go on")
arguments.add_argument("--save", metavar="PICTURE", help="write the last frame with its faces")
chosen = arguments.parse_args()

frame = None
try:
    with FerPipeline() as pipeline:
        for frame in pipeline.stream(chosen.camera, images=chosen.save is not None):
            faces = ", ".join(
                f"person {face.track_id} {face.emotion} {face.confidence:.0%}"
                for face in frame.faces
            )
            print(f"{frame.time:7.2f} s: {faces or 'no face'}")
            if frame.index + 1 == chosen.frames:
                break
except KeyboardInterrupt:
    print()
except VideoError as error:
    if frame is None:
        sys.exit(str(error))
    print(error, file=sys.stderr)

if chosen.save and frame is not None:
    if not cv2.imwrite(chosen.save, annotate(frame.image, frame.faces)):
        sys.exit(f"{chosen.save}: cannot be written")
    print(f"saved {chosen.save}")
