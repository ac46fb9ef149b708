// The page: what its buttons do, and what it says.

import { cardsOf, marksOf } from "./draw.js";
import { openCamera, readPicture } from "./picture.js";
import { openPipeline } from "./pipeline.js";

const [status, stage, canvas, marks, cards, json, details, pick, camera, example] = [
  "status", "stage", "canvas", "marks", "cards", "json", "details", "pick", "camera", "example",
].map((id) => document.getElementById(id));

const opened = openPipeline();
let turn = 0; // of what the user asked for last: what comes late from before is not shown
let stopTrack = () => {};

function say(text, kind = "") {
  status.textContent = text;
  status.className = kind;
}

function stopCamera() {
  stopTrack();
  stopTrack = () => {};
  camera.textContent = "Use the camera";
  camera.setAttribute("aria-pressed", "false");
}

/** Do what the user asks for now, and nothing else any more. */
async function begin(text, work) {
  const mine = ++turn;
  const current = () => mine === turn;
  stopCamera();
  stage.hidden = details.hidden = true;
  cards.replaceChildren();
  say(text, "busy");
  try {
    await work(current);
  } catch (error) {
    if (current()) {
      stopCamera();
      stage.hidden = true;
      say(error.message, "error");
    }
  }
}

function show(picture, faces, labels, name) {
  const { width, height } = picture;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  stage.style.setProperty("--ratio", width / height);
  stage.hidden = details.hidden = false;
  marks.replaceChildren(...marksOf(faces, labels, picture));
  cards.replaceChildren(...cardsOf(faces, labels));
  json.textContent = JSON.stringify({ image: name, width, height, faces }, null, 2);
  const count = faces.length === 1 ? "1 face" : `${faces.length} faces`;
  if (faces.length > 0) say(`${count} in ${name}`);
  else say(`No face found in ${name}. A face should look this way.`, "warning");
}

const usePicture = (name, content) =>
  begin(`Looking at ${name} …`, async (current) => {
    const picture = await readPicture(await content(), name);
    const { labels, predict } = await opened;
    const faces = await predict(picture);
    if (current()) show(picture, faces, labels, name);
  });

const useFile = (file) => file && usePicture(file.name, () => file);

const useExample = () =>
  usePicture("the example", async () => {
    const response = await fetch("astronaut.jpg");
    if (!response.ok) throw new Error("The example photo is not on this server.");
    return response.blob();
  });

const useCamera = () =>
  begin("Waiting for the camera …", async (current) => {
    const { next, stop } = await openCamera();
    if (!current()) {
      stop();
      return;
    }
    stopTrack = stop;
    camera.textContent = "Stop the camera";
    camera.setAttribute("aria-pressed", "true");
    const { labels, predict } = await opened;
    while (current()) {
      const picture = await next();
      const faces = await predict(picture);
      if (current()) show(picture, faces, labels, "the camera");
    }
  });

const GREETING = "Pick a picture, drop one here, or start the camera.";

pick.addEventListener("change", () => {
  useFile(pick.files[0]);
  pick.value = ""; // so that the same file can be picked again
});
example.addEventListener("click", useExample);
camera.addEventListener("click", () => {
  if (camera.getAttribute("aria-pressed") === "true") begin(GREETING, () => say(GREETING));
  else useCamera();
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  useFile(event.dataTransfer.files[0]);
});

begin("Loading the models …", async (current) => {
  await opened;
  if (current()) say(GREETING);
});
