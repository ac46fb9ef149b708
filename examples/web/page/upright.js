// A second view of what may be a face: upright, alone, and in full contrast, as
// sdk/fer_sdk/detectors/upright.py has it.

import { iou, longerSide } from "./boxes.js";
import { meanOf, thinned, turned } from "./pixels.js";

const SIDE = 128; // of a view
const MIDDLE = { x: SIDE / 4, y: SIDE / 4, width: SIDE / 2, height: SIDE / 2 };
const SAME_FACE = 0.3;

/**
 * Faces upright in the middle of a square, with half its side around them.
 *
 * @param {ImageData} picture
 * @param {{box: object, roll: number}[]} faces rolls in degrees, clockwise
 * @returns {object[]} a square picture of each
 */
export function uprightViews(picture, faces) {
  const thin = new Map(); // the picture and its mean color, by step
  return faces.map(({ box, roll }) => {
    const scale = (2 * longerSide(box)) / SIDE;
    const step = Math.max(1, Math.floor(scale));
    if (!thin.has(step)) {
      const every = thinned(picture, step);
      thin.set(step, { every, mean: meanOf(every) });
    }
    const { every, mean } = thin.get(step);
    const middle = { x: (box.x + box.width / 2) / step, y: (box.y + box.height / 2) / step };
    return stretched(turned(every, middle, roll, scale / step, SIDE, mean));
  });
}

/** Of the boxes that a detector found in a view, the best score of one in its middle; else 0. */
export function middleScore(found) {
  const same = found.filter(({ box }) => iou(box, MIDDLE) > SAME_FACE);
  return Math.max(0, ...same.map(({ score }) => score));
}

function stretched({ data, width, height }) {
  const colors = data.filter((_, at) => at % 4 < 3).sort();
  const [low, high] = [percentile(colors, 1), percentile(colors, 99)];
  const stretch = 255 / Math.max(high - low, 8);
  const full = (value) => Math.floor(Math.max((value - low) * stretch, 0));
  return { data: data.map(full), width, height };
}

function percentile(sorted, percent) {
  const place = (percent / 100) * (sorted.length - 1);
  const at = Math.floor(place);
  return sorted[at] + (place - at) * (sorted[at + 1] - sorted[at]);
}
