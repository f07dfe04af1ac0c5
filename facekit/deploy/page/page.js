// Looks an image up in the gallery: the same network, scores and threshold as in the kit.
import * as ort from "./runtime/ort.wasm.bundle.min.mjs";

const SHOWN = 5;  // ranks
const LONGEST = 1024;  // pixels of a side that the network gets; it takes far fewer itself
const at = id => document.getElementById(id);
let network, gallery, vectors;  // vectors: float32, a row of gallery.length for each name
let threshold, found, truth;

async function get(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return answer;
}

async function load() {
  ort.env.wasm.numThreads = 1;  // several need headers that a plain server does not send
  gallery = await (await get("gallery.json")).json();
  vectors = new Float32Array(await (await get("gallery.bin")).arrayBuffer());
  const file = await (await get("model.onnx")).arrayBuffer();
  network = await ort.InferenceSession.create(new Uint8Array(file));
  threshold = gallery.threshold;
  const [low, high] = gallery.range;
  Object.assign(at("threshold"), { min: low, max: high, step: (high - low) / 2000 });
  at("threshold").value = threshold;
  at("measure").textContent = gallery.measure === "cosine" ? "cosine" : "negative distance";
  at("column").hidden = !gallery.images;
  at("started").textContent = `The kit chose ${threshold.toFixed(3)}. A score equal to the threshold is accepted.`;
  at("invitation").hidden = !gallery.probes.length;
  gallery.probes.forEach(offer);
  at("state").textContent = `Ready: ${gallery.names.length} people in the gallery.`;
}

function offer(probe, place) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(image(probe.file, `Probe ${place + 1}`));
  button.addEventListener("click", () =>
    begin(async () => look(await (await get(probe.file)).blob(), probe.truth)));
  const item = document.createElement("li");
  item.append(button);
  at("probes").append(item);
}

function image(source, words) {
  return Object.assign(document.createElement("img"), { src: source, alt: words });
}

// RGB, as the kit opens a file: upright, colours as they are stored, white where it is transparent.
async function pixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);  // red, green, blue, alpha
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0; i < rgb.length; i++) rgb[i] = data[Math.floor(i / 3) * 4 + i % 3];
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

function score(embedding, row) {
  let product = 0, distance = 0;
  for (let i = 0; i < gallery.length; i++) {
    const other = vectors[row * gallery.length + i];
    product += embedding[i] * other;
    distance += (embedding[i] - other) ** 2;
  }
  return gallery.measure === "cosine" ? product : -Math.sqrt(distance);
}

async function look(blob, itsTruth) {
  let images;
  try {
    images = await pixels(blob);
  } catch {
    throw new Error("This file is no image that the browser can open.");
  }
  const { embedding } = await network.run({ images }, ["embedding"]);
  found = gallery.names.map((name, row) => ({ name, row, score: score(embedding.data, row) }));
  found.sort((a, b) => b.score - a.score);  // of equal ones the first stays first, as in the kit
  truth = itsTruth;
  URL.revokeObjectURL(at("shown").src);
  at("shown").src = URL.createObjectURL(blob);
  at("result").hidden = false;
  at("state").textContent = "Done.";
  show();
}

function show() {
  at("value").textContent = threshold.toFixed(3);
  if (!found) return;
  const best = found[0];
  const name = best.score >= threshold ? best.name : "nobody we know";
  at("said").textContent = name + (truth ? ` (in truth: ${truth})` : "");
  at("ranks").replaceChildren(...found.slice(0, SHOWN).map(line));
}

function line({ name, row, score }, rank) {
  const tr = document.createElement("tr");
  const cells = [rank + 1, name, score.toFixed(4), score >= threshold ? "yes" : "no"];
  cells.forEach(text => { tr.insertCell().textContent = text; });
  if (gallery.images) tr.insertCell(1).append(image(gallery.images[row], `Image of ${name}`));
  return tr;
}

// One thing after the other: the network answers one question at a time.
let work = Promise.resolve();
function begin(task) {
  if (network) at("state").textContent = "Looking it up.";
  work = work.then(task).catch(error => { at("state").textContent = String(error.message); });
}

at("threshold").addEventListener("input", event => {
  threshold = Number(event.target.value);
  show();
});
at("file").addEventListener("change", event => {
  const [file] = event.target.files;
  if (file) begin(() => look(file));
});
document.addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) begin(() => look(file));
});
begin(load);
