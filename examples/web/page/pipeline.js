// Picture in, faces out: detector, crops, landmarks and emotions, as sdk/fer_sdk/pipeline.py has it.

import { detect } from "./blazeface.js";
import { cropGray, cropUpright, eyeLine, squareOf } from "./crop.js";
import { openModel, openNetwork } from "./models.js";

// Tilt in degrees, beyond which a face is turned upright before its emotion is read.
const ALIGN_BEYOND = 15;

/**
 * Open the three networks.
 *
 * @returns {Promise<{labels: string[], predict: Function}>} `predict` takes an ImageData and gives
 *   its faces, largest first, each as `Face.to_dict()` of the SDK has it
 * @throws {Error} a model does not open; names it and says why
 */
export async function openPipeline() {
  const [detector, landmarks, emotion] = await Promise.all([
    openNetwork("detector.onnx"),
    openModel("landmarks.onnx", "landmarks"),
    openModel("emotion.onnx", "emotion"),
  ]);
  const models = { detector, landmarks, emotion };
  let last = Promise.resolve();
  return {
    labels: emotion.labels,
    predict(picture) {
      // A session takes one run at a time.
      const faces = last.then(() => facesOf(models, picture));
      last = faces.catch(() => {});
      return faces;
    },
  };
}

async function facesOf({ detector, landmarks, emotion }, picture) {
  const found = await detect(detector, picture);
  if (found.length === 0) return [];
  const area = ({ box }) => box.width * box.height;
  found.sort((one, other) => area(other) - area(one) || other.score - one.score);
  const squares = (model) => found.map(({ box }) => squareOf(box, model.geometry));
  const crop = (square, model) => cropGray(picture, square, model.size);
  const points = await landmarks.run(squares(landmarks).map((square) => crop(square, landmarks)));
  const upright = (square, face) => {
    const tilt = eyeLine(points[face]);
    if (Math.abs(tilt) <= ALIGN_BEYOND) return crop(square, emotion);
    return cropUpright(picture, square, tilt, emotion.size);
  };
  const scores = await emotion.run(squares(emotion).map(upright));
  return squares(landmarks).map(({ x, y, side }, face) => {
    const confidence = Math.max(...scores[face]);
    const named = (labels, value) =>
      Object.fromEntries(labels.map((label, place) => [label, value(place)]));
    return {
      box: found[face].box,
      detection_score: found[face].score,
      landmarks: named(landmarks.labels, (place) => ({
        x: x + points[face][2 * place] * side,
        y: y + points[face][2 * place + 1] * side,
      })),
      emotion: emotion.labels[scores[face].indexOf(confidence)],
      confidence,
      scores: named(emotion.labels, (place) => scores[face][place]),
      track_id: null,
    };
  });
}
