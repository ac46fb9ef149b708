// From a detector's box to the gray square that the models take, as sdk/fer_sdk/image/crop.py does it.

/**
 * The square for a box, in whole pixels; it may reach beyond the picture.
 *
 * @param {{x: number, y: number, width: number, height: number}} box in pixels
 * @param {{scale: number, shift_x: number, shift_y: number}} geometry of the model: side of the
 *   square, and how far its centre lies from the box's, in units of the box's longer side
 */
export function squareOf(box, geometry) {
  const boxSide = Math.max(box.width, box.height);
  const side = Math.max(1, Math.round(geometry.scale * boxSide));
  const centreX = box.x + box.width / 2 + geometry.shift_x * boxSide;
  const centreY = box.y + box.height / 2 + geometry.shift_y * boxSide;
  return { x: Math.round(centreX - side / 2), y: Math.round(centreY - side / 2), side };
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
  return resized(gray, side, size);
}

/** How far the line between two eyes is tilted clockwise, in degrees; points are [x, y, x, y, …]. */
export function eyeLine([leftX, leftY, rightX, rightY]) {
  return (Math.atan2(rightY - leftY, rightX - leftX) * 180) / Math.PI;
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
  const around = cropGray(picture, { x: x - before, y: y - before, side: wide }, from);
  const at = (column, row) => around[clamp(row, from) * from + clamp(column, from)];
  const turn = (degrees * Math.PI) / 180;
  const [cos, sin] = [(4 / 3) * Math.cos(turn), (4 / 3) * Math.sin(turn)];
  const result = new Uint8ClampedArray(size * size); // rounds what it is given
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const [right, down] = [column - (size - 1) / 2, row - (size - 1) / 2];
      const sourceX = (from - 1) / 2 + cos * right - sin * down;
      const sourceY = (from - 1) / 2 + sin * right + cos * down;
      const [left, top] = [Math.floor(sourceX), Math.floor(sourceY)];
      const [alongX, alongY] = [sourceX - left, sourceY - top];
      const upper = at(left, top) * (1 - alongX) + at(left + 1, top) * alongX;
      const lower = at(left, top + 1) * (1 - alongX) + at(left + 1, top + 1) * alongX;
      result[row * size + column] = upper * (1 - alongY) + lower * alongY;
    }
  }
  return result;
}

const clamp = (place, length) => Math.min(Math.max(place, 0), length - 1);

/** Resize a gray square: along the rows first, then along the columns. */
function resized(gray, from, to) {
  const taps = from > to ? areaTaps(from, to) : linearTaps(from, to);
  const rows = new Float64Array(from * to);
  for (let row = 0; row < from; row++) {
    taps.forEach(({ first, weights }, column) => {
      rows[row * to + column] = weighted(weights, (tap) => gray[row * from + first + tap]);
    });
  }
  const result = new Uint8ClampedArray(to * to); // rounds what it is given
  taps.forEach(({ first, weights }, row) => {
    for (let column = 0; column < to; column++) {
      result[row * to + column] = weighted(weights, (tap) => rows[(first + tap) * to + column]);
    }
  });
  return result;
}

const weighted = (weights, at) => weights.reduce((sum, weight, tap) => sum + weight * at(tap), 0);

/** A shrunken pixel is the mean of the pixels that it covers, in part or whole. */
function areaTaps(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, place) => {
    const begin = place * scale;
    const end = Math.min(begin + scale, from);
    const first = Math.floor(begin);
    const covered = Array.from({ length: Math.ceil(end) - first }, (_, tap) => {
      const pixel = first + tap;
      return Math.min(end, pixel + 1) - Math.max(begin, pixel);
    });
    return { first, weights: covered.map((part) => part / (end - begin)) };
  });
}

/** An enlarged pixel lies between the middles of two. */
function linearTaps(from, to) {
  return Array.from({ length: to }, (_, place) => {
    const middle = ((place + 0.5) * from) / to - 0.5;
    if (middle <= 0) return { first: 0, weights: [1] };
    if (middle >= from - 1) return { first: from - 1, weights: [1] };
    const first = Math.floor(middle);
    return { first, weights: [first + 1 - middle, middle - first] };
  });
}
