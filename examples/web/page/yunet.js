// YuNet: faces of every size, at the resolution that the picture needs, as
// sdk/fer_sdk/detectors/yunet.py does it.

import { clamped, eyeLine, longerSide, suppress } from "./boxes.js";
import { resized, rounded, thinned } from "./pixels.js";
import { middleFace, uprightView } from "./upright.js";

const MIN_SCORE = 0.7;
const SURELY_UPRIGHT = 0.9;
const SURE = 0.8;
const DOUBTFUL = 0.3;
// Longer sides to which a picture is brought, one after the other.
const LOOKS = [320, 640, 1280];
const HALF_SURE = 0.5;
const CROWD = 2;
const STRIDES = [8, 16, 32];
const MULTIPLE = 32;
const MOST_OVERLAP = 0.3;
// Pixels of a box: below the first nothing is to be seen, below the second nothing to be read.
const SMALLEST = 10;
const READABLE = 24;

// What an upright view of a face that is not sure has to reach, and how many are looked at in a run.
const CONFIRMED = 0.5;
const CONFIRMED_TURNED = 0.7;
const UPRIGHT_VIEW = 0.86;
const TURNS = [45, 90, 135, 180, 225, 270, 315];
const AT_ONCE = 32;
const LEAST = 0.2;

// From YuNet's box to the square that BlazeFace draws.
const SIDE = 0.97;
const DOWN = 0.075;

/**
 * Look for faces.
 *
 * @param {{run: Function}} network the opened YuNet
 * @param {ImageData} picture
 * @returns {Promise<{faces: object[], doubtful: object[]}>} faces with box, score and roll, boxes
 *   inside the picture; and what may be a face too, with boxes as YuNet draws them
 */
export async function look(network, picture) {
  const longer = longerSide(picture);
  const step = Math.max(1, Math.floor(longer / LOOKS.at(-1)));
  const thin = thinned(picture, step);
  let candidates;
  for (const side of LOOKS) {
    candidates = await candidatesIn(network, thin, step, side);
    const found = candidates.some(({ score }) => score >= MIN_SCORE);
    if (longer <= side || (found && !hints(candidates, side, longer))) break;
  }
  const likely = candidates.filter(
    ({ box, score }) => score >= MIN_SCORE && clamped(squareOf(box), picture),
  );
  const confirmed = await upright(network, picture, likely);
  const faces = [...confirmed].flatMap(([{ box, score, roll }, { turn }]) => {
    const inside = clamped(squareOf(box), picture);
    const kept = inside && longerSide(inside) >= SMALLEST;
    return kept ? [{ box: inside, score, roll: roll + turn }] : [];
  });
  const doubtful = candidates.filter((one) => one.score >= DOUBTFUL && !confirmed.has(one));
  return { faces, doubtful };
}

/** Whether a look with that many pixels along the longer side hints at more, smaller faces. */
function hints(candidates, side, longer) {
  const sizes = candidates.map(({ score, box }) => ({ score, size: longerSide(box) / longer }));
  if (side === LOOKS[0]) {
    // Something small that may be a face, or a face that is smaller still.
    return sizes.some(({ score, size }) => size < (score < MIN_SCORE ? 1 / 8 : 1 / 10));
  }
  // One tiny face may be a mistake. A crowd has several.
  const tiny = sizes.filter(({ score, size }) => score >= HALF_SURE && size < 1 / 32);
  return tiny.length >= CROWD;
}

/**
 * The sure ones, and those that an upright view confirms; by what turn their best view differs from
 * their roll. YuNet takes a face that lies on its side or is upside down for an upright one, with a
 * lower score.
 */
async function upright(network, picture, faces) {
  const sure = faces.filter(({ score }) => score >= SURE);
  const best = new Map(sure.map((one) => [one, { score: 0, turn: 0 }]));
  const scoreOf = (one) => best.get(one)?.score ?? 0;
  const show = async (asked, least) => {
    const views = asked.map(({ one, turn }) => uprightView(picture, one.box, one.roll + turn));
    (await confirm(network, views)).forEach(({ score, roll }, at) => {
      const { one, turn } = asked[at];
      if (score > Math.max(least, scoreOf(one))) best.set(one, { score, turn: turn + roll });
    });
  };
  const readable = ({ box }) => longerSide(box) >= READABLE;
  const small = faces.filter((one) => !readable(one) && one.score < SURE);
  const doubted = faces.filter((one) => readable(one) && one.score < SURELY_UPRIGHT);
  // The score in the picture is no measure for a view: there the face is smaller.
  await show([...small, ...doubted].map((one) => ({ one, turn: 0 })), CONFIRMED);
  const leaning = doubted.filter((one) => scoreOf(one) < UPRIGHT_VIEW);
  const turned = leaning.flatMap((one) => TURNS.map((turn) => ({ one, turn })));
  await show(turned, CONFIRMED_TURNED);
  return best;
}

/** Score and roll of the face in the middle of each `uprightView`; zeros where there is none. */
export async function confirm(network, views) {
  const faces = [];
  for (let start = 0; start < views.length; start += AT_ONCE) {
    const found = await decoded(network, views.slice(start, start + AT_ONCE));
    faces.push(...found.map(middleFace));
  }
  return faces;
}

/** What may be a face in a picture that is brought to a side; in pixels of the original. */
async function candidatesIn(network, thin, step, side) {
  const full = side / longerSide(thin);
  const scale = side > LOOKS[0] ? Math.min(full, 1) : full;
  const [width, height] = [thin.width, thin.height].map((one) => Math.max(1, rounded(one * scale)));
  const [found] = await decoded(network, [resized(thin, width, height)]);
  const across = (step * thin.width) / width;
  const down = (step * thin.height) / height;
  return found.map(({ box, ...rest }) => ({
    box: {
      x: box.x * across,
      y: box.y * down,
      width: box.width * across,
      height: box.height * down,
    },
    ...rest,
  }));
}

/** The candidates of pictures of one size, those with higher scores first. */
async function decoded(network, pictures) {
  const [width, height] = [pictures[0].width, pictures[0].height].map(
    (side) => Math.ceil(side / MULTIPLE) * MULTIPLE,
  );
  const values = new Float32Array(pictures.length * 3 * width * height);
  pictures.forEach((picture, place) => {
    const planes = values.subarray(place * 3 * width * height);
    for (let row = 0; row < picture.height; row++) {
      for (let column = 0; column < picture.width; column++) {
        const from = 4 * (row * picture.width + column);
        const to = row * width + column;
        // Blue, green, red; black beyond the picture.
        for (let plane = 0; plane < 3; plane++) {
          planes[plane * width * height + to] = picture.data[from + 2 - plane];
        }
      }
    }
  });
  const outputs = await network.run(values, [pictures.length, 3, height, width]);
  return pictures.map((_, place) => {
    const found = STRIDES.flatMap((stride) => {
      const [classes, objects, boxes, points] = ["cls", "obj", "bbox", "kps"].map((name) => {
        const { data } = outputs[`${name}_${stride}`];
        const length = data.length / pictures.length;
        return data.subarray(place * length, (place + 1) * length);
      });
      return candidatesOf(stride, width / stride, classes, objects, boxes, points);
    });
    return suppress(found, MOST_OVERLAP);
  });
}

/** What the network says at one stride: classes, objects, boxes and points, cell by cell. */
function candidatesOf(stride, cells, classes, objects, boxes, points) {
  const unit = (value) => Math.min(Math.max(value, 0), 1);
  const found = [];
  classes.forEach((value, at) => {
    const likely = unit(value) * unit(objects[at]);
    if (likely < LEAST ** 2) return;
    const [x, y, ...size] = boxes.subarray(4 * at, 4 * at + 4);
    const [width, height] = size.map((side) => Math.exp(Math.min(side, 16)) * stride);
    const box = {
      x: ((at % cells) + x) * stride - width / 2,
      y: (Math.floor(at / cells) + y) * stride - height / 2,
      width,
      height,
    };
    const roll = eyeLine(points.subarray(10 * at, 10 * at + 4));
    found.push({ box, score: Math.sqrt(likely), roll });
  });
  return found;
}

function squareOf({ x, y, width, height }) {
  const mean = Math.sqrt(width * height);
  const side = SIDE * mean;
  return {
    x: x + (width - side) / 2,
    y: y + (height - side) / 2 + DOWN * mean,
    width: side,
    height: side,
  };
}
