// Serves the page, onnxruntime-web and the SDK's models to browsers: npm start -- --help

import { createReadStream } from "node:fs";
import { access, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const USAGE = `npm start -- [options]
  --port 8080             0 takes any free port
  --host localhost        0.0.0.0 lets other devices in; browsers keep the camera from them
  --emotion-model PATH    a model of your own, as fer-export writes it
  --landmarks-model PATH  the same`;

const here = (path) => new URL(path, import.meta.url);

// What each address stands for. Only files that lie directly in a folder are served.
const FOLDERS = {
  "/": here("page/"),
  "/onnxruntime/": here("node_modules/onnxruntime-web/dist/"),
};
const FILES = {
  "/astronaut.jpg": here("../astronaut.jpg"),
  "/models/blazeface.onnx": here("../../sdk/fer_sdk/models/files/face_detection_short_range.onnx"),
  "/models/emotion.onnx": here("../../sdk/fer_sdk/models/files/emotion.int8.onnx"),
  "/models/landmarks.onnx": here("../../sdk/fer_sdk/models/files/landmarks.int8.onnx"),
  "/models/yunet.onnx": here("../../sdk/fer_sdk/models/files/face_detection_yunet_n.onnx"),
};

const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".jpg": "image/jpeg",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".onnx": "application/octet-stream",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/** The file that an address stands for; undefined where it stands for none. */
function fileOf(path) {
  if (path in FILES) return FILES[path];
  const [, folder, name] = /^(\/(?:[a-z]+\/)?)([\w.-]*)$/.exec(path) ?? [];
  return folder in FOLDERS ? new URL(name || "index.html", FOLDERS[folder]) : undefined;
}

async function answer(request, response) {
  if (!["GET", "HEAD"].includes(request.method)) {
    response.writeHead(405, { Allow: "GET, HEAD" }).end();
    return;
  }
  const [path] = request.url.split("?", 1);
  const file = fileOf(path);
  const type = TYPES[extname(path) || ".html"];
  const found = file && type && (await stat(file).catch(() => undefined));
  if (!found?.isFile()) {
    response.writeHead(404, { "Content-Type": "text/plain" }).end("There is no such file.\n");
    return;
  }
  response.writeHead(200, {
    "Content-Type": type,
    "Content-Length": found.size,
    "Last-Modified": found.mtime.toUTCString(),
    "Cache-Control": "no-cache", // models are replaced by newer ones of the same name
    "X-Content-Type-Options": "nosniff",
  });
  if (request.method === "HEAD") response.end();
  else await pipeline(createReadStream(file), response);
}

function stop(message, status) {
  console.error(message);
  process.exit(status);
}

function settings() {
  try {
    const text = { type: "string" };
    const { values } = parseArgs({
      options: {
        port: { ...text, default: "8080" },
        host: { ...text, default: "localhost" },
        "emotion-model": text,
        "landmarks-model": text,
        help: { type: "boolean", default: false },
      },
    });
    if (!/^\d{1,5}$/.test(values.port) || values.port > 65535) {
      throw new Error(`--port must be from 0 to 65535, not ${values.port}`);
    }
    return values;
  } catch (error) {
    return stop(`${error.message}\n${USAGE}`, 2);
  }
}

const { port, host, help, ...models } = settings();
if (help) {
  console.log(USAGE);
  process.exit();
}
for (const task of ["emotion", "landmarks"]) {
  const path = models[`${task}-model`];
  if (path) FILES[`/models/${task}.onnx`] = pathToFileURL(path);
}
await access(FOLDERS["/onnxruntime/"]).catch(() =>
  stop("onnxruntime-web is not installed: run npm ci first", 1),
);
for (const file of Object.values(FILES)) {
  await access(file).catch(() => stop(`${fileURLToPath(file)}: there is no such file`, 1));
}
const server = createServer((request, response) => {
  // A browser that goes away while a file is sent is no reason to stop.
  answer(request, response).catch(() => response.destroy());
});
server.on("error", (error) =>
  stop(
    error.code === "EADDRINUSE"
      ? `port ${port} is taken: choose another with npm start -- --port 8081`
      : error.message,
    1,
  ),
);
server.listen(Number(port), host, () => {
  console.log(`http://${host}:${server.address().port}/ (Ctrl-C ends it)`);
});
