// The SDK's models, opened by onnxruntime-web and checked against what they say of themselves.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.mjs";
import { metadataOf } from "./metadata.js";

// One thread does: the networks are small, and more would need a cross-origin isolated page.
ort.env.wasm.numThreads = 1;

const FORMAT = "1"; // of the model contract, as in sdk/fer_sdk/models/metadata.py

/**
 * Open an ONNX file.
 *
 * @returns {Promise<{metadata: Map<string, string>, run: Function}>} `run` takes the values of the
 *   only input, an array of its type, and its shape, and gives the outputs by their names
 * @throws {Error} it cannot be fetched or is no model; names the file
 */
export async function openNetwork(name) {
  try {
    const response = await fetch(`models/${name}`);
    if (!response.ok) throw new Error(`the server says ${response.status}`);
    const content = new Uint8Array(await response.arrayBuffer());
    const metadata = metadataOf(content);
    const session = await ort.InferenceSession.create(content);
    const [input] = session.inputNames;
    const run = (values, shape) => session.run({ [input]: new ort.Tensor(values, shape) });
    return { metadata, run };
  } catch (error) {
    throw new Error(`${name} does not open: ${error.message}`, { cause: error });
  }
}

/**
 * Open one of the two models that take faces.
 *
 * @param {string} name of the file
 * @param {"emotion" | "landmarks"} task what it must be for
 * @returns {Promise<{labels: string[], size: number, geometry: object, shift: number[],
 *   run: Function}>} `shift` is what the convention by which its labels are used adds to
 *   the logarithms of what it gives; `run` takes gray faces, each Uint8Array [size * size], and
 *   gives an array of numbers for each
 * @throws {Error} not a model of the contract that this page reads; names the file
 */
export async function openModel(name, task) {
  const { metadata, run } = await openNetwork(name);
  const format = metadata.get("fer_sdk.format");
  if (format !== FORMAT) {
    throw new Error(`${name}: its format is ${format ?? "unknown"}, this page reads ${FORMAT}`);
  }
  const read = (field, absent) => {
    const value = metadata.get(`fer_sdk.${field}`) ?? absent;
    if (value === undefined) throw new Error(`${name}: its metadata lack fer_sdk.${field}`);
    return JSON.parse(value);
  };
  if (read("task") !== task) {
    throw new Error(`${name}: a model for ${read("task")}, where one for ${task} is needed`);
  }
  const size = read("input_size");
  const labels = read("labels");
  // Files of before there were conventions have none.
  const shift = read("conventions", "{}")[read("convention", "null")] ?? labels.map(() => 0);
  return {
    labels,
    size,
    geometry: read("crop"),
    shift,
    async run(faces) {
      const values = new Uint8Array(faces.length * size * size);
      faces.forEach((face, place) => values.set(face, place * size * size));
      const [output] = Object.values(await run(values, [faces.length, size, size]));
      const length = output.data.length / faces.length;
      return faces.map((_, place) => [...output.data.slice(place * length, (place + 1) * length)]);
    },
  };
}
