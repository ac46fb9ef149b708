// MediaPipe's BlazeFace for short range: what stands around the network, as
// sdk/fer_sdk/detectors/blazeface.py does it.

import { clamped, eyeLine, iou, longerSide } from "./boxes.js";

const SIDE = 128;
// Per layer of anchors: cells a side, and anchors a cell.
const LAYERS = [
  [16, 2],
  [8, 6],
];
const NUMBERS = 16; // a regressor: centre, size, two eyes, and four points that are not used
const SCORE_LIMIT = 100;
const FARTHEST = 1000; // in sides of the picture's square
const IOU = 0.3;

const ANCHORS = LAYERS.flatMap(([cells, anchors]) =>
  Array.from({ length: cells * cells * anchors }, (_, place) => {
    const cell = Math.floor(place / anchors);
    return { x: ((cell % cells) + 0.5) / cells, y: (Math.floor(cell / cells) + 0.5) / cells };
  }),
);

/**
 * Find the faces of a picture.
 *
 * @param {{run: Function}} network the opened BlazeFace
 * @param {ImageData} picture
 * @param {number} minScore least detection score, 0..1
 * @returns {Promise<{box: object, score: number, roll: number}[]>} boxes in pixels, inside the
 *   picture; tilts of the line between the eyes in degrees, clockwise
 */
export async function detect(network, picture, minScore) {
  const outputs = await network.run(letterboxed(picture), [1, SIDE, SIDE, 3]);
  const found = decoded(outputs.regressors.data, outputs.classificators.data, minScore);
  const side = longerSide(picture);
  return suppressed(found).flatMap(({ box, eyes, score }) => {
    const inside = clamped(
      {
        x: box.x * side + (picture.width - side) / 2,
        y: box.y * side + (picture.height - side) / 2,
        width: box.width * side,
        height: box.height * side,
      },
      picture,
    );
    return inside ? [{ box: inside, score, roll: eyeLine(eyes) }] : [];
  });
}

/** The picture in the middle of a black square, as RGB [128 * 128 * 3]. */
function letterboxed({ data, width, height }) {
  const step = Math.max(width, height) / SIDE;
  // MediaPipe samples at 1/32 pixel.
  const place = (pixel, length) => Math.round(32 * (pixel - SIDE / 2) * step + 16 * length);
  const value = (x, y, channel) =>
    x >= 0 && y >= 0 && x < width && y < height ? data[4 * (y * width + x) + channel] : 0;
  const result = new Uint8Array(SIDE * SIDE * 3);
  for (let row = 0; row < SIDE; row++) {
    const down = place(row, height);
    for (let column = 0; column < SIDE; column++) {
      const across = place(column, width);
      const x = across >> 5;
      const y = down >> 5;
      const right = across & 31;
      const below = down & 31;
      for (let channel = 0; channel < 3; channel++) {
        const upper = value(x, y, channel) * (32 - right) + value(x + 1, y, channel) * right;
        const lower =
          value(x, y + 1, channel) * (32 - right) + value(x + 1, y + 1, channel) * right;
        const sum = upper * (32 - below) + lower * below;
        result[3 * (row * SIDE + column) + channel] = (sum + 512) >> 10;
      }
    }
  }
  return result;
}

/** Boxes and eyes in 0..1 of the square and their scores, the best first. */
function decoded(regressors, logits, minScore) {
  const found = [];
  ANCHORS.forEach((anchor, place) => {
    const logit = Math.min(Math.max(logits[place], -SCORE_LIMIT), SCORE_LIMIT);
    const score = 1 / (1 + Math.exp(-logit));
    if (score < minScore) return;
    const start = place * NUMBERS;
    const raw = [...regressors.subarray(start, start + 8)].map((value) => value / SIDE);
    const [x, y, width, height, ...points] = raw;
    if (!raw.every((value) => Math.abs(value) < FARTHEST) || width < 0 || height < 0) return;
    const box = { x: anchor.x + x - width / 2, y: anchor.y + y - height / 2, width, height };
    const eyes = points.map((value, at) => value + (at % 2 ? anchor.y : anchor.x));
    found.push({ box, eyes, score });
  });
  return found.sort((one, other) => other.score - one.score);
}

/** One face for each group that overlaps: its mean weighted by the scores, and the best score. */
function suppressed(found) {
  const kept = [];
  for (let rest = found; rest.length > 0; ) {
    const best = rest[0];
    const same = (one) => one === best || iou(best.box, one.box) > IOU;
    const group = rest.filter(same);
    const total = group.reduce((sum, one) => sum + one.score, 0);
    const mean = (value) => group.reduce((sum, one) => sum + one.score * value(one), 0) / total;
    const sides = Object.keys(best.box).map((name) => [name, mean(({ box }) => box[name])]);
    kept.push({
      box: Object.fromEntries(sides),
      eyes: best.eyes.map((_, at) => mean(({ eyes }) => eyes[at])),
      score: best.score,
    });
    rest = rest.filter((one) => !same(one));
  }
  return kept;
}
