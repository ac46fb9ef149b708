// What the page shows of faces: marks over the picture, and a card with the scores of each.

// In the order of the model's labels, as in sdk/fer_sdk/draw.py; more labels start again.
const PALETTE = ["#ef473c", "#7ab03c", "#a86ae8", "#ffcd38", "#4895ef", "#ff8f2d", "#cdd0d6"];

const percent = (fraction) => `${Math.round(100 * fraction)} %`;

function make(tag, className, ...content) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...content);
  return made;
}

/** Number the faces only where there are several. */
const numbered = (place, faces) => (faces.length > 1 ? [`${place + 1}`] : []);

const colorOf = (label, labels) => PALETTE[labels.indexOf(label) % PALETTE.length];

/** Boxes, landmarks and titles, to be laid over a picture of this width and height. */
export function marksOf(faces, labels, { width, height }) {
  const across = (x) => `${(100 * x) / width}%`;
  const down = (y) => `${(100 * y) / height}%`;
  return faces.map((face, place) => {
    const { box } = face;
    const emotion = make("span", "emotion", face.emotion);
    const sure = make("span", "sure", percent(face.confidence));
    const title = make("span", "title", ...numbered(place, faces), emotion, sure);
    const points = Object.entries(face.landmarks).map(([name, { x, y }]) => {
      const point = make("i", "landmark");
      point.title = name;
      point.style.left = `${(100 * (x - box.x)) / box.width}%`;
      point.style.top = `${(100 * (y - box.y)) / box.height}%`;
      return point;
    });
    const mark = make("div", "face", make("div", "box"), title, ...points);
    mark.style.cssText = `left: ${across(box.x)}; top: ${down(box.y)};
      width: ${across(box.width)}; height: ${down(box.height)}`;
    mark.style.setProperty("--color", colorOf(face.emotion, labels));
    mark.style.setProperty("--above", `${(100 * box.y) / box.height}%`);
    mark.classList.toggle("alone", faces.length === 1);
    // A title that would not fit to the right of the left side of its box moves in.
    mark.classList.toggle("at-right", box.x > 0.7 * width);
    return mark;
  });
}

/** A card for each face: all its scores, and how sure the detector is. */
export function cardsOf(faces, labels) {
  return faces.map((face, place) => {
    const bars = labels.map((label) => {
      const bar = make("i", "bar");
      bar.style.width = `${100 * face.scores[label]}%`;
      bar.style.background = colorOf(label, labels);
      const name = make("dt", "", label);
      const value = make("dd", "", make("span", "track", bar), percent(face.scores[label]));
      return make("div", label === face.emotion ? "score top" : "score", name, value);
    });
    const { width, height } = face.box;
    const size = `${Math.round(width)} × ${Math.round(height)} pixels`;
    const note = `${size}, detection score ${percent(face.detection_score)}`;
    return make(
      "article",
      "card",
      make("h2", "", [...numbered(place, faces), face.emotion, percent(face.confidence)].join(" ")),
      make("dl", "", ...bars),
      make("p", "note", note),
    );
  });
}
