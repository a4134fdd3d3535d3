// The mask editor's tools, and the mask's operations: added, undone, done again.
import { computed, effect, signal } from "@preact/signals";
import { api, Problem } from "./api.js";
import { cropOf } from "./crop.js";
import { coverage, readMask, shareOutside } from "./mask_strokes.js";
import { change, form, notify } from "./state.js";
import { S } from "./strings.js";
import { View } from "./zoom.js";

/** Those that paint, and those that move. */
export const TOOLS = ["brush", "eraser", "lasso", "rectangle", "hand", "frame"];
export const AREAS = ["lasso", "rectangle"];

export const tool = signal("brush");
export const brush = signal(0.12); // diameter, of the picture's width
/** The area that is being drawn, as an operation; null for none. */
export const outlined = signal(null);
export const undone = signal([]);
/** How the picture lies in the editor. */
export const view = new View();

const source = computed(() => form.value.image?.id);
effect(() => {
  source.value;
  undone.value = []; // what was undone belongs to another picture
});

export function add(operation) {
  undone.value = [];
  change({ mask: [...form.value.mask, operation] });
}

export function undo() {
  const { mask } = form.value;
  if (!mask.length) return;
  undone.value = [...undone.value, mask.at(-1)];
  change({ mask: mask.slice(0, -1) });
}

export function redo() {
  const next = undone.value.at(-1);
  if (!next) return;
  undone.value = undone.value.slice(0, -1);
  change({ mask: [...form.value.mask, next] });
}

export const resize = (factor) => {
  brush.value = Math.min(0.6, Math.max(0.01, brush.value * factor));
};

const painted = computed(() => form.value.mask);
const image = computed(() => form.value.image);
const crop = computed(() => JSON.stringify(cropOf(form.value)));

/** Share of the picture that is painted, in percent. */
export const percentPainted = computed(() =>
  image.value?.width ? Math.round(100 * coverage(painted.value, image.value.width, image.value.height)) : 0,
);

/** Share of the paint that lies outside of the crop frame, in percent, at least 1 where there is any. */
export const percentOutside = computed(() => {
  const frame = JSON.parse(crop.value);
  if (!frame || !painted.value.length) return 0;
  const share = shareOutside(painted.value, frame, image.value);
  return share < 0.002 ? 0 : Math.max(1, Math.round(100 * share));
});

/** Adds a picture file to the mask: white, or what is opaque, is repainted. */
export async function addFile(file) {
  const { image } = form.value;
  const read = await readMask(file);
  const unlike = read && Math.abs(read.width * image.height - image.width * read.height) > Math.max(read.width, image.width, read.height, image.height);
  if (!read || unlike) {
    notify(read ? S.mask.unlike(image.width, image.height, read.width, read.height) : S.drop.not, "error");
    return;
  }
  try {
    const { id } = await api.upload(read.blob);
    if (form.value.image?.id === image.id) add({ op: "picture", id });
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    notify(problem.message, "error");
  }
}
