// Arithmetic of boxes, {x, y, width, height} in any unit, as sdk/fer_sdk/detectors/boxes.py does it.

/** Intersection over union, 0..1. */
export function iou(one, other) {
  const right = Math.min(one.x + one.width, other.x + other.width);
  const bottom = Math.min(one.y + one.height, other.y + other.height);
  const width = Math.max(right - Math.max(one.x, other.x), 0);
  const height = Math.max(bottom - Math.max(one.y, other.y), 0);
  const shared = width * height;
  const union = one.width * one.height + other.width * other.height - shared;
  return union > 0 ? shared / union : 0;
}

/** Non-maximum suppression: of {box, score} those that overlap no better one, the best first. */
export function suppress(found, most) {
  const kept = [];
  for (const one of [...found].sort((a, b) => b.score - a.score)) {
    if (kept.every((better) => iou(one.box, better.box) <= most)) kept.push(one);
  }
  return kept;
}

/** The part of a box inside a picture; undefined where there is none. */
export function clamped(box, { width, height }) {
  const x = Math.max(box.x, 0);
  const y = Math.max(box.y, 0);
  const right = Math.min(box.x + box.width, width);
  const bottom = Math.min(box.y + box.height, height);
  return right > x && bottom > y ? { x, y, width: right - x, height: bottom - y } : undefined;
}

export const longerSide = ({ width, height }) => Math.max(width, height);

/** How far the line between two eyes is tilted clockwise, in degrees; points are [x, y, x, y, …]. */
export function eyeLine([leftX, leftY, rightX, rightY]) {
  return (Math.atan2(rightY - leftY, rightX - leftX) * 180) / Math.PI;
}
