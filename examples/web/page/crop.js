// From a detector's box to the gray square that the models take, as sdk/fer_sdk/image/crop.py does it.

import { clamp, resized, rounded, turned } from "./pixels.js";

/**
 * The square for a box, in whole pixels; it may reach beyond the picture.
 *
 * @param {{x: number, y: number, width: number, height: number}} box in pixels
 * @param {{scale: number, shift_x: number, shift_y: number}} geometry of the model: side of the
 *   square, and how far its centre lies from the box's, in units of the box's longer side
 * @param {number} roll tilt of the face in degrees, clockwise; the shift turns with it
 */
export function squareOf(box, geometry, roll = 0) {
  const boxSide = Math.max(box.width, box.height);
  const side = Math.max(1, rounded(geometry.scale * boxSide));
  const shift = rotated(geometry.shift_x * boxSide, geometry.shift_y * boxSide, roll);
  const centreX = box.x + box.width / 2 + shift.x;
  const centreY = box.y + box.height / 2 + shift.y;
  return { x: Math.round(centreX - side / 2), y: Math.round(centreY - side / 2), side };
}

/** A point turned clockwise about the origin by some degrees. */
export function rotated(x, y, degrees) {
  const turn = (degrees * Math.PI) / 180;
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  return { x: cos * x - sin * y, y: sin * x + cos * y };
}

/**
 * Cut a square out of a picture and bring it to a model's size, as gray [size * size]. Where it
 * reaches beyond the picture, the edge pixels are repeated.
 */
export function cropGray(picture, { x, y, side }, size) {
  const { data, width, height } = picture;
  const gray = new Uint8Array(side * side);
  for (let row = 0; row < side; row++) {
    const line = clamp(y + row, height) * width;
    for (let column = 0; column < side; column++) {
      const at = 4 * (line + clamp(x + column, width));
      // ITU-R BT.601 in the integers of OpenCV.
      const sum = 9798 * data[at] + 19235 * data[at + 1] + 3735 * data[at + 2];
      gray[row * side + column] = (sum + 16384) >> 15;
    }
  }
  return resized({ data: gray, width: side, height: side }, size, size).data;
}

/**
 * Cut a square out of a picture, turned about its middle so that a face that is tilted clockwise by
 * some degrees stands upright in it, as gray [size * size].
 */
export function cropUpright(picture, { x, y, side }, degrees, size) {
  // Half as much again as the square holds it at any angle.
  const wide = Math.ceil(1.5 * side);
  const before = Math.floor((wide - side) / 2);
  const from = 2 * size;
  const data = cropGray(picture, { x: x - before, y: y - before, side: wide }, from);
  const middle = { x: (from - 1) / 2, y: (from - 1) / 2 };
  return turned({ data, width: from, height: from }, middle, degrees, 4 / 3, size).data;
}
