// What an ONNX file says about itself: its metadata_props.
//
// onnxruntime-web does not hand them out, so they are read from the file, which is a protobuf
// message: https://protobuf.dev/programming-guides/encoding/ and onnx.proto of the ONNX project.

const METADATA_PROPS = 14; // the field of ModelProto
const KEY = 1; // and those of each of its entries
const VALUE = 2;

/**
 * Read the metadata of an ONNX file.
 *
 * @param {Uint8Array} model content of the file
 * @returns {Map<string, string>} values by their names
 * @throws {Error} the file is damaged, or no ONNX file
 */
export function metadataOf(model) {
  const text = new TextDecoder();
  const metadata = new Map();
  for (const [field, entry] of fields(model)) {
    if (field !== METADATA_PROPS) continue;
    const parts = new Map(fields(entry));
    metadata.set(text.decode(parts.get(KEY)), text.decode(parts.get(VALUE)));
  }
  return metadata;
}

/** The fields of a message that have a length (texts, bytes, messages), with their numbers. */
function* fields(message) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let unit = 1; at < message.length; unit *= 128) {
      const byte = message[at++];
      value += (byte % 128) * unit;
      if (byte < 128) return value;
    }
    throw new Error("it ends too early");
  };
  while (at < message.length) {
    const tag = varint();
    const wireType = tag % 8;
    if (wireType === 0) varint();
    else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else if (wireType === 2) {
      const length = varint();
      yield [Math.floor(tag / 8), message.subarray(at, at + length)];
      at += length;
    } else throw new Error("it is not an ONNX file");
  }
  if (at > message.length) throw new Error("it ends too early");
}
