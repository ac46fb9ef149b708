// YuNet first, BlazeFace where it finds nothing, as sdk/fer_sdk/detectors/combined.py has it.

import { detect as detectNear } from "./blazeface.js";
import { clamped, iou, longerSide } from "./boxes.js";
import { framed, meanOf, rounded } from "./pixels.js";
import { middleFace, uprightView } from "./upright.js";
import { confirm, look } from "./yunet.js";

const NEAR_MIN_SCORE = 0.3;
// The score with which BlazeFace needs nobody's help; else, what the mean of its own score and of
// both detectors' in an upright view has to reach.
const NEAR_SURE = 0.75;
const MEAN_SURE = 0.66;
// Degrees by which a roll of BlazeFace may be wrong where a face is tilted far.
const TURNS = [0, -20, 20, 90, 180, 270];
// A face that fills a small picture is found by both with some gray around it.
const CROP_SIDE = 256;
// How much of that, in sides of the picture, and what the mean score has to reach with it.
const CROPS = [[0, 0.57], [0.25, 0.5], [0.5, 0.5]];
// BlazeFace sees no smaller ones, in sides of the picture.
const NEAR_SIDE = 1 / 8;
const SAME_FACE = 0.2;

/**
 * Find the faces of a picture.
 *
 * @param {{yunet: object, blazeface: object}} networks both opened
 * @param {ImageData} picture
 * @returns {Promise<{box: object, score: number, roll: number}[]>} boxes in pixels, inside the
 *   picture; tilts in degrees, clockwise
 */
export async function detect(networks, picture) {
  const { faces, doubtful } = await look(networks.yunet, picture);
  const near = NEAR_SIDE * longerSide(picture);
  if (faces.length === 0 || doubtful.some(({ box }) => longerSide(box) >= near)) {
    faces.push(...(await nearFaces(networks, picture, faces, MEAN_SURE)));
  }
  if (faces.length > 0 || longerSide(picture) > CROP_SIDE) return faces;
  for (const [share, least] of CROPS) {
    const margin = rounded(share * longerSide(picture));
    const found = await cropFaces(networks, picture, margin, least);
    if (found.length > 0) return found;
  }
  return [];
}

/** What BlazeFace finds beside the faces there are, where an upright view confirms it. */
async function nearFaces({ yunet, blazeface }, picture, found, least) {
  const faces = [];
  for (const face of await detectNear(blazeface, picture, NEAR_MIN_SCORE)) {
    if (found.some((other) => iou(face.box, other.box) > SAME_FACE)) continue;
    const rolls = TURNS.map((turn) => face.roll + turn);
    const views = rolls.map((roll) => uprightView(picture, face.box, roll));
    const confirmed = await confirm(yunet, views);
    const scores = confirmed.map((one) => one.score);
    const best = scores.indexOf(Math.max(...scores));
    const byNear = middleFace(await detectNear(blazeface, views[best], NEAR_MIN_SCORE)).score;
    const mean = (face.score + byNear + scores[best]) / 3;
    const score = face.score >= NEAR_SURE ? Math.max(mean, face.score) : mean;
    if (score >= least) faces.push({ box: face.box, score, roll: rolls[best] + confirmed[best].roll });
  }
  return faces;
}

/** The face that fills a small picture: found with so many pixels of gray around it. */
async function cropFaces(networks, picture, margin, least) {
  const wider = framed(picture, margin, meanOf(picture));
  let { faces } = await look(networks.yunet, wider);
  if (faces.length === 0) faces = await nearFaces(networks, wider, [], least);
  return faces.flatMap(({ box, ...rest }) => {
    const inside = clamped({ ...box, x: box.x - margin, y: box.y - margin }, picture);
    return inside ? [{ box: inside, ...rest }] : [];
  });
}
