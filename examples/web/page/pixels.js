// Arithmetic of pictures, as OpenCV does it. A picture has data, width and height; an ImageData is
// one of four channels.

const channelsOf = ({ data, width, height }) => data.length / (width * height);

/** To the nearest whole number; from the middle between two to the even one, as Python does. */
export function rounded(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

/** Every `step`-th pixel of a part, whose edges lie inside the picture. */
export function thinned(picture, step, part = {}) {
  const { left = 0, top = 0, right = picture.width, bottom = picture.height } = part;
  const channels = channelsOf(picture);
  const [width, height] = [right - left, bottom - top].map((side) => Math.ceil(side / step));
  const data = new Uint8Array(width * height * channels);
  for (let at = 0, row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const from = ((top + step * row) * picture.width + left + step * column) * channels;
      for (let channel = 0; channel < channels; channel++) data[at++] = picture.data[from + channel];
    }
  }
  return { data, width, height };
}

/** Mean of each channel, in whole numbers. */
export function meanOf(picture) {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  const sums = new Array(channels).fill(0);
  for (let at = 0; at < data.length; at += channels) {
    for (let channel = 0; channel < channels; channel++) sums[channel] += data[at + channel];
  }
  return sums.map((sum) => rounded(sum / (width * height)));
}

/** With a margin of one color on all sides. */
export function framed(picture, margin, color) {
  const channels = channelsOf(picture);
  const [width, height] = [picture.width, picture.height].map((side) => side + 2 * margin);
  const data = Uint8Array.from({ length: width * height * channels }, (_, at) => color[at % channels]);
  const line = picture.width * channels;
  for (let row = 0; row < picture.height; row++) {
    const to = ((row + margin) * width + margin) * channels;
    data.set(picture.data.subarray(row * line, (row + 1) * line), to);
  }
  return { data, width, height };
}

/** In another size, with OpenCV's arithmetic and rounding: by area if it shrinks, else linear. */
export function resized(picture, width, height) {
  const { data } = picture;
  const channels = channelsOf(picture);
  const { taps, weighed, done } = methodFor(picture.width / width, picture.height / height);
  const length = width * channels;
  const across = taps(picture.width, width);
  const rows = new Float32Array(picture.height * length);
  for (let row = 0; row < picture.height; row++) {
    for (let column = 0; column < width; column++) {
      const { first, weights } = across[column];
      const from = (row * picture.width + first) * channels;
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let tap = 0; tap < weights.length; tap++) {
          sum = Math.fround(sum + weights[tap] * data[from + tap * channels + channel]);
        }
        rows[row * length + column * channels + channel] = sum;
      }
    }
  }
  const result = new Uint8ClampedArray(length * height); // rounds what it is given
  taps(picture.height, height).forEach(({ first, weights }, row) => {
    for (let column = 0; column < length; column++) {
      let sum = 0;
      for (let tap = 0; tap < weights.length; tap++) {
        sum = Math.fround(sum + weighed(rows[(first + tap) * length + column], weights[tap]));
      }
      result[row * length + column] = done(sum);
    }
  });
  return { data: result, width, height };
}

// taps: which pixels count along a row or a column, and how much; weighed: how much the sum of a row
// counts in its column; done: the pixel, before it is rounded.
const LINEAR = {
  taps: linearTaps,
  weighed: (sum, weight) => (weight * (sum >> 4)) >> 16,
  done: (sum) => (sum + 2) >> 2,
};
const AREA = { taps: areaTaps, weighed: (sum, weight) => sum * weight, done: (sum) => sum };

function methodFor(x, y) {
  if (x <= 1 && y <= 1) return LINEAR;
  if (!Number.isInteger(x) || !Number.isInteger(y)) return AREA;
  const part = Math.fround(1 / (x * y));
  const done =
    x === 2 && y === 2 ? (sum) => Math.floor(sum / 4 + 0.5) : (sum) => Math.fround(sum * part);
  return { taps: wholeTaps, weighed: (sum) => sum, done };
}

/** Each pixel of the result stands for a whole number of pixels. */
function wholeTaps(from, to) {
  const weights = new Array(from / to).fill(1);
  return Array.from({ length: to }, (_, place) => ({ first: place * weights.length, weights }));
}

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
    return { first, weights: covered.map((part) => Math.fround(part / (end - begin))) };
  });
}

/** An enlarged pixel lies between the middles of two; the weights sum to 2048. */
function linearTaps(from, to) {
  return Array.from({ length: to }, (_, place) => {
    const middle = Math.fround(((place + 0.5) * from) / to - 0.5);
    if (middle <= 0) return { first: 0, weights: [2048] };
    if (middle >= from - 1) return { first: from - 1, weights: [2048] };
    const first = Math.floor(middle);
    const weight = rounded(2048 * (middle - first));
    return { first, weights: [2048 - weight, weight] };
  });
}

/**
 * A square of a picture, turned so that what is tilted clockwise stands upright.
 *
 * @param picture
 * @param {{x: number, y: number}} middle of the square, in the picture
 * @param {number} degrees how far it is tilted
 * @param {number} scale pixels of the picture that one of the result stands for
 * @param {number} size side of the result
 * @param {number[]} [outside] color beyond the picture; without it the edge pixels are repeated
 */
export function turned(picture, middle, degrees, scale, size, outside) {
  const { data, width, height } = picture;
  const channels = channelsOf(picture);
  const at = (column, row, channel) => {
    const [x, y] = [clamp(column, width), clamp(row, height)];
    if (outside && (x !== column || y !== row)) return outside[channel];
    return data[(y * width + x) * channels + channel];
  };
  const turn = (degrees * Math.PI) / 180;
  const [cos, sin] = [scale * Math.cos(turn), scale * Math.sin(turn)];
  const result = new Uint8ClampedArray(size * size * channels); // rounds what it is given
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const right = column - (size - 1) / 2;
      const down = row - (size - 1) / 2;
      const x = middle.x + cos * right - sin * down;
      const y = middle.y + sin * right + cos * down;
      const left = Math.floor(x);
      const top = Math.floor(y);
      for (let channel = 0; channel < channels; channel++) {
        const mixed = (line) =>
          at(left, line, channel) * (left + 1 - x) + at(left + 1, line, channel) * (x - left);
        result[(row * size + column) * channels + channel] =
          mixed(top) * (top + 1 - y) + mixed(top + 1) * (y - top);
      }
    }
  }
  return { data: result, width: size, height: size };
}

export const clamp = (place, length) => Math.min(Math.max(place, 0), length - 1);
