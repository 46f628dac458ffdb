"use strict";

const SIDE = 280; // of the paper, in its own pixels
const WIDTH = 20; // of a stroke
const STEP = 7; // of the pen under the arrow keys
const FAR = 28; // with Shift
const AGAIN = 500; // milliseconds before a busy server is asked again

const find = (id) => document.getElementById(id);
const canvas = find("drawing");
const paper = canvas.getContext("2d");
const pen = find("pen");
const bars = [];

let strokes = []; // each a list of points [x, y]
let picture = null; // an uploaded file, shown in place of strokes
let stroke = null; // the one that is being drawn
let pointer = null; // the finger, pen or mouse that draws it
let place = [SIDE / 2, SIDE / 4]; // of the keyboard's pen
let changes = 0; // of the paper
let asking = false;
let described = ""; // the MD5 of the model that the page names

// The paper

function paint() {
  paper.fillStyle = "#fff";
  paper.fillRect(0, 0, SIDE, SIDE);
  paper.strokeStyle = "#000";
  paper.lineWidth = WIDTH;
  paper.lineCap = paper.lineJoin = "round";
  for (const points of strokes) {
    paper.beginPath();
    paper.moveTo(...points[0]);
    points.slice(1).forEach((point) => paper.lineTo(...point));
    if (points.length === 1) paper.lineTo(...points[0]);
    paper.stroke();
  }
}

function changed() {
  changes += 1;
  find("undo").disabled = find("clear").disabled = !strokes.length && !picture;
  ask();
}

function begin(point) {
  if (picture) clear();
  stroke = [point];
  strokes.push(stroke);
  paint();
  changed();
}

function extend(points) {
  stroke.push(...points);
  paint();
  changed();
}

function end() {
  stroke = pointer = null;
  changed();
}

function undo() {
  if (picture) return clear();
  strokes.pop();
  stroke = null;
  paint();
  changed();
}

function clear() {
  strokes = [];
  stroke = picture = null;
  paint();
  changed();
}

async function show(file) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    return say("This is not a picture that can be read. Expected a PNG or JPEG.");
  }
  clear();
  picture = file;
  const scale = SIDE / Math.max(image.width, image.height);
  const [width, height] = [image.width * scale, image.height * scale];
  paper.drawImage(image, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  changed();
}

// Mouse, finger and pen

const at = (event) => {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
};

canvas.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return;
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  pen.hidden = true;
  begin(at(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer || !stroke) return;
  const events = event.getCoalescedEvents?.() ?? [];
  extend((events.length ? events : [event]).map(at));
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => event.pointerId === pointer && end());
}

// Keyboard

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function showPen() {
  pen.hidden = false;
  pen.style.left = `${(place[0] / SIDE) * 100}%`;
  pen.style.top = `${(place[1] / SIDE) * 100}%`;
  pen.classList.toggle("down", stroke !== null);
}

canvas.addEventListener("keydown", (event) => {
  if (event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z") || pointer !== null) return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const step = event.shiftKey ? FAR : STEP;
    place = place.map((value, axis) => Math.min(SIDE, Math.max(0, value + arrow[axis] * step)));
    if (stroke) extend([place]);
  } else if (event.key === " ") {
    if (stroke) end();
    else begin(place);
    say(stroke ? "Pen down." : "Pen lifted.");
  } else if (event.key === "Escape" && stroke) end();
  else if (event.key === "Backspace" || (event.ctrlKey && event.key === "z")) undo();
  else if (event.key === "Delete") clear();
  else return;
  event.preventDefault();
  showPen();
});
canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && showPen());
canvas.addEventListener("blur", () => {
  pen.hidden = true;
  if (stroke && pointer === null) end();
});

// Pictures from elsewhere

find("undo").addEventListener("click", undo);
find("clear").addEventListener("click", clear);
for (const [button, input] of [["upload", "file"], ["photograph", "camera"]]) {
  find(button).addEventListener("click", () => find(input).click());
  find(input).addEventListener("change", (event) => {
    if (event.target.files.length) show(event.target.files[0]);
    event.target.value = "";
  });
}
document.addEventListener("paste", (event) => event.clipboardData.files.length && show(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
});

// The model's reading

function say(text) {
  if (find("said").textContent !== text) find("said").textContent = text;
}

function content() {
  return picture ?? new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function post(path, body) {
  const response = await fetch(path, { method: "POST", body });
  return [response, await response.json()];
}

/* One request at a time: what changes meanwhile is asked for after the answer. */
async function ask() {
  if (asking) return;
  asking = true;
  let seen;
  do {
    seen = changes;
    if (!strokes.length && !picture) {
      display(null);
      say("Draw a digit.");
      continue;
    }
    try {
      const form = new FormData();
      form.append("images", await content(), "drawing");
      const [response, answer] = await post("predict?pixels=true", form);
      if (response.status === 503) {
        say("The server is busy; it is asked again.");
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
        seen = -1;
      } else {
        if (response.ok && answer.md5 !== described) await describe();
        const image = response.ok && answer.images.length ? answer.images[0] : null;
        display(image);
        // While somebody draws the bars move, and nothing is read out.
        if (!stroke && seen === changes) say(image ? sentence(image) : `Not read: ${response.ok ? answer.skipped[0].reason : answer.error}.`);
      }
    } catch {
      display(null);
      say("The server does not answer.");
    }
  } while (seen !== changes);
  asking = false;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

function sentence({ digit, confidence }) {
  const second = Object.keys(confidence)
    .filter((other) => Number(other) !== digit)
    .reduce((best, other) => (confidence[other] > confidence[best] ? other : best));
  return `This is a ${digit}: ${percent(confidence[digit])}. Next: ${second}, ${percent(confidence[second])}.`;
}

function display(image) {
  find("digit").textContent = image ? image.digit : "\u2013";
  for (const [digit, { row, bar, share }] of bars.entries()) {
    const probability = image ? image.confidence[digit] : 0;
    bar.style.transform = `scaleX(${probability})`;
    share.textContent = image ? percent(probability) : "";
    row.classList.toggle("best", image !== null && image.digit === digit);
  }
  const pixels = find("seen").getContext("2d").createImageData(28, 28);
  const shades = image ? atob(image.pixels) : "\0".repeat(784);
  for (let number = 0; number < 784; number += 1) {
    pixels.data.fill(shades.charCodeAt(number), 4 * number, 4 * number + 3);
    pixels.data[4 * number + 3] = 255;
  }
  find("seen").getContext("2d").putImageData(pixels, 0, 0);
}

function element(name, parent, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

for (let digit = 0; digit < 10; digit += 1) {
  const row = element("tr", find("bars"));
  element("th", row, digit).scope = "row";
  const track = element("div", element("td", row));
  track.className = "track";
  const bar = element("div", track);
  bar.className = "bar";
  bars.push({ row, bar, share: element("td", row) });

  const label = element("button", find("labels"), digit);
  label.type = "button";
  label.setAttribute("aria-label", `It is a ${digit}`);
  label.addEventListener("click", () => collect(digit));
}

async function collect(digit) {
  if (!strokes.length && !picture) return say("Draw a digit first.");
  try {
    const [response, answer] = await post(`collect?digit=${digit}`, await content());
    say(response.ok ? `Saved as a ${digit}. Thank you.` : `Not saved: ${answer.error}.`);
  } catch {
    say("Not saved: the server does not answer.");
  }
}

async function describe() {
  const model = await (await fetch("model")).json();
  described = model.md5;
  find("model").textContent = [model.name, model.version, `MD5 ${model.md5}`].filter(Boolean).join(", ");
  find("collect").hidden = !model.collects;
  find("card").hidden = !model.card;
  find("card").querySelector("pre").textContent = model.card ?? "";
}

paint();
display(null);
describe().catch(() => say("The server does not answer."));
