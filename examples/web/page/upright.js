// A second view of what may be a face: upright, alone, and in full contrast, as
// sdk/fer_sdk/detectors/upright.py has it.

import { iou, longerSide } from "./boxes.js";
import { meanOf, rounded, thinned, turned } from "./pixels.js";

const SIDE = 128; // of a view
const MIDDLE = { x: SIDE / 4, y: SIDE / 4, width: SIDE / 2, height: SIDE / 2 };
const SAME_FACE = 0.3;

/**
 * A face upright in the middle of a square, with half its side around it; what lies outside the
 * picture has the mean color around the face.
 *
 * @param {ImageData} picture
 * @param {object} box its longer side becomes half of the view's
 * @param {number} roll tilt of the face in degrees, clockwise
 * @returns {object} a picture of 128 * 128 pixels
 */
export function uprightView(picture, box, roll) {
  const side = 2 * longerSide(box);
  // All that a view can show, and no more: the picture may be large.
  const reach = Math.ceil(side * Math.SQRT1_2) + 2;
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const [left, right] = span(rounded(x), reach, picture.width);
  const [top, bottom] = span(rounded(y), reach, picture.height);
  const step = Math.max(1, Math.floor(side / SIDE));
  const around = thinned(picture, step, { left, top, right, bottom });
  const middle = { x: (x - left) / step, y: (y - top) / step };
  return stretched(turned(around, middle, roll, side / SIDE / step, SIDE, meanOf(around)));
}

/** Of what a detector found in a view, score and roll of the best face in its middle; else zeros. */
export function middleFace(found) {
  const same = found.filter(({ box }) => iou(box, MIDDLE) > SAME_FACE);
  return same.reduce((best, one) => (one.score > best.score ? one : best), { score: 0, roll: 0 });
}

/** What of a length lies within reach of a place; nothing has a length of 0. */
function span(place, reach, length) {
  const begin = Math.min(Math.max(place - reach, 0), length);
  return [begin, Math.max(Math.min(place + reach, length), begin)];
}

function stretched(view) {
  const colors = thinned(view, 4).data.filter((_, at) => at % 4 < 3).sort();
  const [low, high] = [percentile(colors, 1), percentile(colors, 99)];
  const stretch = 255 / Math.max(high - low, 8);
  const full = (value) => Math.floor(Math.max((value - low) * stretch, 0));
  return { ...view, data: view.data.map(full) };
}

function percentile(sorted, percent) {
  const place = (percent / 100) * (sorted.length - 1);
  const at = Math.floor(place);
  return sorted[at] + (place - at) * (sorted[at + 1] - sorted[at]);
}
