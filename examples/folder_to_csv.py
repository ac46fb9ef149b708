"""Every face of every picture of a folder as a row: python examples/folder_to_csv.py [FOLDER] [CSV]

The pictures go through in batches, so that the models see many faces at once while memory stays
flat. Pictures that cannot be read are named, and the others go on.
"""

import csv
import sys
from pathlib import Path

from fer_sdk import FerPipeline, ImageError
from fer_sdk.image.folder import PICTURES

BATCH = 32

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
table = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("faces.csv")

photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
if not photos:
    sys.exit(f"{folder}: no pictures in it")

rows = failed = 0
with FerPipeline() as pipeline, table.open("w", newline="", encoding="utf-8") as file:
    emotions = pipeline.info.labels
    writer = csv.writer(file)
    writer.writerow(["photo", "x", "y", "width", "height", "emotion", *emotions])
    for start in range(0, len(photos), BATCH):
        batch = photos[start : start + BATCH]
        for photo, faces in zip(batch, pipeline.predict_batch(batch), strict=True):
            if isinstance(faces, ImageError):
                print(faces, file=sys.stderr)
                failed += 1
                continue
            for face in faces:
                box = [f"{number:.1f}" for number in face.box]
                scores = [f"{face.scores[emotion]:.4f}" for emotion in emotions]
                writer.writerow([photo, *box, face.emotion, *scores])
                rows += 1

print(f"{table}: {rows} faces of {len(photos) - failed} pictures")
sys.exit(1 if failed else 0)
