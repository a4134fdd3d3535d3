// A mask as a list of operations, and how it is drawn. Undo takes the last operation away.
//
// Operations, in units of the picture's width (so that a mask fits the picture at any resolution):
//   {op: "stroke", erase, size, points: [x, y, pressure, x, y, pressure, …]}
//   {op: "area", erase, points: [x, y, x, y, …]}: what a closed line surrounds
//   {op: "invert"}, {op: "clear"}, {op: "fill"}, {op: "picture", id}: a stored mask
import { signal } from "@preact/signals";
import { pictureUrl } from "./api.js";

const LONGEST = 1024; // pixels a side of the mask that is sent
const OPAQUE = 128; // of 255: what covers less of a pixel leaves it

const pictures = new Map(); // stored masks by id, loaded once
const loaded = signal(0); // how many

/** Loads the stored masks that operations name. */
export async function loadPictures(operations) {
  const ids = operations.filter((o) => o.op === "picture" && !pictures.has(o.id)).map((o) => o.id);
  await Promise.all(
    ids.map(async (id) => {
      const image = new Image();
      image.src = pictureUrl(id);
      await image.decode().catch(() => {});
      pictures.set(id, image);
      loaded.value = pictures.size;
    }),
  );
}

/**
 * Draws operations: what has colour is repainted, what is transparent is kept.
 *
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} context its canvas is cleared first
 * @param {object[]} operations
 * @param {string} ink the colour, of seven characters
 */
export function draw(context, operations, ink = "#ffffff") {
  const { width, height } = context.canvas;
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, width, height);
  for (const operation of operations) apply(context, operation, ink);
}

/** Draws one more operation. */
export function apply(context, operation, ink = "#ffffff") {
  const { width, height } = context.canvas;
  context.globalCompositeOperation = "source-over";
  context.fillStyle = ink;
  if (operation.op === "clear") context.clearRect(0, 0, width, height);
  else if (operation.op === "fill") context.fillRect(0, 0, width, height);
  else if (operation.op === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillRect(0, 0, width, height);
  } else if (operation.op === "picture") drawPicture(context, pictures.get(operation.id), ink);
  else drawShape(context, operation, ink);
  context.globalCompositeOperation = "source-over";
}

/** A stored mask's brightness becomes coverage. */
function drawPicture(context, image, ink) {
  if (!image?.naturalWidth) return;
  const { width, height } = context.canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d");
  copy.imageSmoothingEnabled = width < image.naturalWidth; // it grows by repetition, as in the library
  copy.drawImage(image, 0, 0, width, height);
  const data = copy.getImageData(0, 0, width, height);
  for (let i = 0; i < data.data.length; i += 4) {
    data.data[i + 3] = data.data[i];
  }
  copy.putImageData(data, 0, 0);
  copy.globalCompositeOperation = "source-in";
  copy.fillStyle = ink;
  copy.fillRect(0, 0, width, height);
  context.drawImage(copy.canvas, 0, 0);
}

/**
 * Draws a stroke or area with hard edges: what an eraser left of pixels in part would be repainted in part.
 * (The softness of the repainted part is `mask_feather`.)
 */
function drawShape(context, operation, ink) {
  const { canvas } = context;
  const [left, top, right, bottom] = bounds(operation, canvas);
  if (right <= left || bottom <= top) return;
  const shape = new OffscreenCanvas(right - left, bottom - top).getContext("2d", { willReadFrequently: true });
  shape.translate(-left, -top);
  shape.fillStyle = ink;
  shape.strokeStyle = ink;
  if (operation.op === "area") fillArea(shape, operation, canvas.width);
  else strokeLine(shape, operation, canvas.width);
  const pixels = shape.getImageData(0, 0, right - left, bottom - top);
  for (let i = 3; i < pixels.data.length; i += 4) pixels.data[i] = pixels.data[i] < OPAQUE ? 0 : 255;
  shape.putImageData(pixels, 0, 0);
  context.globalCompositeOperation = operation.erase ? "destination-out" : "source-over";
  context.drawImage(shape.canvas, left, top);
}

/** The canvas's pixels that a stroke or area may reach: [left, top, right, bottom]. */
function bounds({ op, size = 0, points }, { width, height }) {
  const step = op === "area" ? 2 : 3;
  const reach = Math.max(1, size * width) / 2 + 1;
  const at = (from) => points.filter((_, i) => i % step === from).map((value) => value * width);
  const [xs, ys] = [at(0), at(1)];
  const low = (values) => Math.max(0, Math.floor(values.reduce((a, b) => Math.min(a, b)) - reach));
  const high = (values, end) => Math.min(end, Math.ceil(values.reduce((a, b) => Math.max(a, b)) + reach));
  return [low(xs), low(ys), high(xs, width), high(ys, height)];
}

function fillArea(context, { points }, scale) {
  context.beginPath();
  for (let i = 0; i < points.length; i += 2) context.lineTo(points[i] * scale, points[i + 1] * scale);
  context.fill();
}

function strokeLine(context, { size, points }, scale) {
  context.lineCap = "round";
  context.lineJoin = "round";
  for (let i = 0; i < points.length; i += 3) {
    const [x, y, pressure] = [points[i] * scale, points[i + 1] * scale, points[i + 2]];
    const before = Math.max(0, i - 3);
    context.lineWidth = Math.max(1, size * scale * pressure);
    context.beginPath();
    context.moveTo(points[before] * scale, points[before + 1] * scale);
    context.lineTo(x, i === 0 ? y + 0.001 : y); // a line of no length is not drawn
    context.stroke();
  }
}

/** A canvas of the mask's own size for a picture of width and height. */
export function maskCanvas(width, height, longest = LONGEST) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
}

/** Share of the picture that is painted, 0 to 1. */
export function coverage(operations, width, height) {
  loaded.value; // counted anew once a stored mask is there
  const context = maskCanvas(width, height, 96).getContext("2d", { willReadFrequently: true });
  draw(context, operations);
  const { data } = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
  let sum = 0;
  for (let i = 3; i < data.length; i += 4) sum += data[i];
  return sum / (255 * (data.length / 4));
}

/** What part of a mask lies outside of a part of the picture, 0 to 1 of all that is painted. */
export function shareOutside(operations, { left, top, width, height }, image) {
  const down = image.height / image.width;
  const [right, bottom] = [left + width, (top + height) * down];
  const inside = { op: "area", erase: true, points: [left, top * down, right, top * down, right, bottom, left, bottom] };
  const all = coverage(operations, image.width, image.height);
  return all && coverage([...operations, inside], image.width, image.height) / all;
}

/**
 * A mask from a picture file, as a PNG: its opacity where that differs, else its lightness.
 *
 * @param {File} file
 * @returns {Promise<{width: number, height: number, blob: Blob} | null>} null where it is no picture; the file's own size
 */
export async function readMask(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return null;
  const { width, height } = bitmap;
  const context = maskCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, context.canvas.width, context.canvas.height);
  const pixels = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
  const { data } = pixels;
  let transparent = false;
  for (let i = 3; i < data.length; i += 4) transparent ||= data[i] < 255;
  for (let i = 0; i < data.length; i += 4) {
    const light = 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
    data.fill(transparent ? data[i + 3] : light, i, i + 3);
    data[i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return { width, height, blob: await context.canvas.convertToBlob({ type: "image/png" }) };
}

/** The mask of a picture as a PNG in a data: URI, white on black. */
export async function maskPicture(operations, image) {
  await loadPictures(operations);
  const { width, height } = image.width ? image : await pictureSize(image.url);
  const mask = maskCanvas(width, height).getContext("2d");
  draw(mask, operations);
  const { canvas } = mask;
  mask.globalCompositeOperation = "destination-over";
  mask.fillStyle = "#000";
  mask.fillRect(0, 0, canvas.width, canvas.height);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(blob);
  });
}

/** Width and height of the picture at an address. */
export async function pictureSize(url) {
  const loaded = new Image();
  loaded.src = url;
  await loaded.decode();
  return { width: loaded.naturalWidth, height: loaded.naturalHeight };
}
