// Picture in, faces out: detector, crops, landmarks and emotions, as sdk/fer_sdk/analysis.py has it.

import { eyeLine } from "./boxes.js";
import { detect } from "./combined.js";
import { cropGray, cropUpright, rotated, squareOf } from "./crop.js";
import { openModel, openNetwork } from "./models.js";

// Tilt in degrees, beyond which a face is turned upright before its emotion is read.
const ALIGN_BEYOND = 15;
// The landmarks model was trained on faces that are tilted less than this.
const LANDMARKS_ROLL = 30;
// A score that underflowed to zero must not stay there when the label is raised.
const LEAST_SCORE = 1e-12;

/**
 * Open the four networks.
 *
 * @returns {Promise<{labels: string[], predict: Function}>} `predict` takes an ImageData and gives
 *   its faces, largest first, each as `Face.to_dict()` of the SDK has it
 * @throws {Error} a model does not open; names it and says why
 */
export async function openPipeline() {
  const [yunet, blazeface, landmarks, emotion] = await Promise.all([
    openNetwork("yunet.onnx"),
    openNetwork("blazeface.onnx"),
    openModel("landmarks.onnx", "landmarks"),
    openModel("emotion.onnx", "emotion"),
  ]);
  const models = { detectors: { yunet, blazeface }, landmarks, emotion };
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

async function facesOf({ detectors, landmarks, emotion }, picture) {
  const found = await detect(detectors, picture);
  if (found.length === 0) return [];
  const area = ({ box }) => box.width * box.height;
  found.sort(
    (one, other) =>
      area(other) - area(one) ||
      other.score - one.score ||
      one.box.x - other.box.x ||
      one.box.y - other.box.y,
  );
  const rolls = found.map(({ roll }) => (Math.abs(roll) > LANDMARKS_ROLL ? roll : 0));
  const squaresFor = (model) =>
    found.map(({ box }, face) => squareOf(box, model.geometry, rolls[face]));
  const cut = (square, roll, { size }) =>
    roll === 0 ? cropGray(picture, square, size) : cropUpright(picture, square, roll, size);
  const squares = squaresFor(landmarks);
  const fractions = await landmarks.run(
    squares.map((square, face) => cut(square, rolls[face], landmarks)),
  );
  const given = await emotion.run(
    squaresFor(emotion).map((square, face) => {
      const tilt = within180(rolls[face] + eyeLine(fractions[face]));
      return cut(square, Math.abs(tilt) > ALIGN_BEYOND ? tilt : 0, emotion);
    }),
  );
  const scores = given.map((each) => shifted(each, emotion.shift));
  return found.map(({ box, score }, face) => {
    const confidence = Math.max(...scores[face]);
    const named = (labels, value) =>
      Object.fromEntries(labels.map((label, place) => [label, value(place)]));
    return {
      box,
      detection_score: score,
      landmarks: named(landmarks.labels, (place) => {
        const [x, y] = fractions[face].slice(2 * place);
        return placed(squares[face], rolls[face], x, y);
      }),
      emotion: emotion.labels[scores[face].indexOf(confidence)],
      confidence,
      scores: named(emotion.labels, (place) => scores[face][place]),
      track_id: null,
    };
  });
}

/** Scores by another convention, as sdk/fer_sdk/models/emotion.py has it. */
function shifted(scores, shift) {
  if (shift.every((value) => value === 0)) return scores;
  const weighed = scores.map((score, at) => Math.max(score, LEAST_SCORE) * Math.exp(shift[at]));
  const total = weighed.reduce((sum, value) => sum + value);
  return weighed.map((value) => value / total);
}

const within180 = (degrees) => degrees - 360 * Math.floor((degrees + 180) / 360);

/** Where in the picture a point of a square lies that was turned back by `roll`. */
function placed({ x, y, side }, roll, across, down) {
  const point = rotated((across - 0.5) * side, (down - 0.5) * side, roll);
  return { x: x + side / 2 + point.x, y: y + side / 2 + point.y };
}
