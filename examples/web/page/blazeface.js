// MediaPipe's BlazeFace for short range: what stands around the network, as
// sdk/fer_sdk/detectors/blazeface.py does it.

const SIDE = 128;
// Per layer of anchors: cells a side, and anchors a cell.
const LAYERS = [
  [16, 2],
  [8, 6],
];
const NUMBERS = 16; // a regressor: centre, size, and six points that are not used
const SCORE_LIMIT = 100;
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
 * @returns {Promise<{box: object, score: number}[]>} boxes in pixels, inside the picture
 */
export async function detect(network, picture, minScore = 0.5) {
  const outputs = await network.run(letterboxed(picture), [1, SIDE, SIDE, 3]);
  const found = decoded(outputs.regressors.data, outputs.classificators.data, minScore);
  const { width, height } = picture;
  const side = Math.max(width, height);
  return suppressed(found).flatMap(({ left, top, right, bottom, score }) => {
    const x = Math.max(left * side + (width - side) / 2, 0);
    const y = Math.max(top * side + (height - side) / 2, 0);
    const box = {
      x,
      y,
      width: Math.min(right * side + (width - side) / 2, width) - x,
      height: Math.min(bottom * side + (height - side) / 2, height) - y,
    };
    return box.width > 0 && box.height > 0 ? [{ box, score }] : [];
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

/** Boxes in 0..1 of the square and their scores, the best first. */
function decoded(regressors, logits, minScore) {
  const found = [];
  ANCHORS.forEach((anchor, place) => {
    const logit = Math.min(Math.max(logits[place], -SCORE_LIMIT), SCORE_LIMIT);
    const score = 1 / (1 + Math.exp(-logit));
    const [x, y, width, height] = regressors
      .subarray(place * NUMBERS, place * NUMBERS + 4)
      .map((value) => value / SIDE);
    if (score < minScore || width < 0 || height < 0) return;
    const left = anchor.x + x - width / 2;
    const top = anchor.y + y - height / 2;
    found.push({ left, top, right: left + width, bottom: top + height, score });
  });
  return found.sort((one, other) => other.score - one.score);
}

/** One box for each group that overlaps: its mean weighted by the scores, and the best score. */
function suppressed(found) {
  const kept = [];
  for (let rest = found; rest.length > 0; ) {
    const best = rest[0];
    const same = (one) => one === best || overlap(best, one) > IOU;
    const group = rest.filter(same);
    const total = group.reduce((sum, one) => sum + one.score, 0);
    const mean = (edge) => group.reduce((sum, one) => sum + one.score * one[edge], 0) / total;
    kept.push({
      left: mean("left"),
      top: mean("top"),
      right: mean("right"),
      bottom: mean("bottom"),
      score: best.score,
    });
    rest = rest.filter((one) => !same(one));
  }
  return kept;
}

/** Intersection over union; not a number, so never too much, for two boxes without an area. */
function overlap(one, other) {
  const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
  const height = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
  const shared = Math.max(width, 0) * Math.max(height, 0);
  return shared / (area(one) + area(other) - shared);
}

const area = ({ left, top, right, bottom }) => (right - left) * (bottom - top);
