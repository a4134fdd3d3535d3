// A mask as a list of operations, and how it is drawn. Undo takes the last operation away.
//
// Operations, in units of the picture's width (so that a mask fits the picture at any resolution):
//   {op: "stroke", erase, size, points: [x, y, pressure, x, y, pressure, …]}
//   {op: "invert"}, {op: "clear"}, {op: "fill"}, {op: "picture", id}: a stored mask
import { pictureUrl } from "./api.js";

const LONGEST = 1024; // pixels a side of the mask that is sent

const pictures = new Map(); // stored masks by id, loaded once

/** Loads the stored masks that operations name. */
export async function loadPictures(operations) {
  const ids = operations.filter((o) => o.op === "picture" && !pictures.has(o.id)).map((o) => o.id);
  await Promise.all(
    ids.map(async (id) => {
      const image = new Image();
      image.src = pictureUrl(id);
      await image.decode().catch(() => {});
      pictures.set(id, image);
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
  else drawStroke(context, operation, ink);
  context.globalCompositeOperation = "source-over";
}

/** A stored mask's brightness becomes coverage. */
function drawPicture(context, image, ink) {
  if (!image?.naturalWidth) return;
  const { width, height } = context.canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d");
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

function drawStroke(context, { erase, size, points }, ink) {
  const scale = context.canvas.width;
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.strokeStyle = ink;
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
  const context = maskCanvas(width, height, 96).getContext("2d", { willReadFrequently: true });
  draw(context, operations);
  const { data } = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
  let sum = 0;
  for (let i = 3; i < data.length; i += 4) sum += data[i];
  return sum / (255 * (data.length / 4));
}

/** The mask of a picture as a PNG in a data: URI, white on black. */
export async function maskPicture(operations, image) {
  await loadPictures(operations);
  const { width, height } = image.width ? image : await size(image);
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

async function size(image) {
  const loaded = new Image();
  loaded.src = image.url;
  await loaded.decode();
  return { width: loaded.naturalWidth, height: loaded.naturalHeight };
}
