"""The faces in front of a camera, one line a face: python examples/webcam.py

    python examples/webcam.py --camera 1 --frames 100 --save last.jpg

It needs no screen: --save writes the last frame with its faces drawn. Ctrl+C ends it.
"""

import argparse
import sys
import time

import cv2

from fer_sdk import FerPipeline, annotate

arguments = argparse.ArgumentParser(description="The faces in front of a camera.")
arguments.add_argument("--camera", type=int, default=0, help="number of the camera; default 0")
arguments.add_argument("--frames", type=int, help="stop after so many; default: go on")
arguments.add_argument("--save", metavar="PICTURE", help="write the last frame with its faces")
chosen = arguments.parse_args()

# OpenCV would report a missing camera in its own words.
levels = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
levels.setLogLevel(0)
camera = cv2.VideoCapture(chosen.camera)
if not camera.isOpened():
    sys.exit(
        f"camera {chosen.camera} does not open: see that one is plugged in, that no other program "
        "uses it, and that this one may (in a container: --device /dev/video0)"
    )

count, frame, faces = 0, None, []
try:
    with FerPipeline() as pipeline:
        while chosen.frames is None or count < chosen.frames:
            there, latest = camera.read()
            if not there:
                print("the camera gives no more frames", file=sys.stderr)
                break
            frame = latest
            started = time.perf_counter()
            faces = pipeline.predict(frame)
            took = 1000 * (time.perf_counter() - started)
            count += 1
            print(f"frame {count}: {len(faces)} faces in {took:.0f} ms")
            for face in faces:
                x, y, width, height = face.box
                print(
                    f"  {face.emotion} {face.confidence:.0%} at {x:.0f}, {y:.0f}, "
                    f"{width:.0f}x{height:.0f}"
                )
except KeyboardInterrupt:
    print()
finally:
    camera.release()

if chosen.save and frame is not None:
    if not cv2.imwrite(chosen.save, annotate(frame, faces)):
        sys.exit(f"{chosen.save}: cannot be written")
    print(f"saved {chosen.save}")
