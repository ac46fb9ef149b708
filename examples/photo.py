"""Say what the faces of a photo show: python examples/photo.py [PHOTO]"""

import sys
from pathlib import Path

from fer_sdk import FerPipeline, ImageError

photo = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("astronaut.jpg")

with FerPipeline() as pipeline:
    try:
        faces = pipeline.predict(photo)
    except ImageError as error:
        sys.exit(str(error))

if not faces:
    print(f"{photo}: no face")
for face in faces:
    x, y, width, height = face.box
    print(f"{face.emotion} ({face.confidence:.0%}) at {x:.0f}, {y:.0f}, {width:.0f}x{height:.0f}")
    for emotion, score in sorted(face.scores.items(), key=lambda item: -item[1]):
        print(f"  {emotion:9}{score:7.1%}  {'#' * round(40 * score)}")
