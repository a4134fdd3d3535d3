// What can be done with a picture, wherever it is shown.
import { api, pictureUrl } from "./api.js";
import { control } from "./controls.js";
import { opened } from "./gallery_state.js";
import { keepGrid } from "./grid.js";
import { busy, jobs, send } from "./jobs.js";
import { fileNames } from "./preferences.js";
import { lookAt } from "./look_at.js";
import { change, dismiss, errors, form, model, notify, options } from "./state.js";
import { uniqueName } from "./storage.js";
import { toForm } from "./request.js";
import { S } from "./strings.js";
import { setImage, upload } from "./uploads.js";

/** Puts all settings of a picture into the form, its own seed among them. */
export async function reuse(image) {
  const request = await requestOf(image);
  if (!request) return;
  change(toForm(request, image.seed, 1));
  opened.value = null;
  lookAt("composer");
  notify(S.picture.reused);
}

/** The request that made a picture; null after saying why it cannot be had. */
async function requestOf(image) {
  try {
    const { request } = jobs.value[image.job_id] ?? (await api.job(image.job_id));
    return { ...request, prompt: image.prompt, negative_prompt: image.negative_prompt }; // as its wildcards were drawn
  } catch (problem) {
    if (problem.status === 404) return fromMetadata(image); // its job was forgotten
    notify(problem.message, "error");
    return null;
  }
}

/** The parts of a picture's settings that can be used alone: whether it has them, and the form's fields. */
export const PARTS = [
  {
    name: "prompt",
    has: (image) => Boolean(image.prompt) && image.kind !== "anagram",
    fields: ({ prompt, negative_prompt }) => ({
      prompt,
      negative_prompt,
      mode: ["anagram", "upscale"].includes(form.value.mode) ? "txt2img" : form.value.mode,
    }),
  },
  {
    name: "seed",
    has: (image) => image.seed !== null,
    fields: ({ seed }) => ({ seed, seed_locked: true }),
  },
  {
    name: "size",
    has: (image) => offersSize(sizeIn(image)),
    fields: (image) => {
      const [width, height] = sizeIn(image);
      const own = width === model.value.size && height === model.value.size;
      return own ? { width: null, height: null } : { width, height };
    },
  },
];

/** The size that the model made, before any enlarging. */
const sizeIn = ({ metadata }) => [metadata.width, metadata.height];
const offersSize = (size) => (model.value?.sizes ?? []).some((one) => one.join() === size.join());

/** Puts one part of a picture's settings into the form. */
export function useOnly(image, part) {
  change(part.fields(image));
  opened.value = null;
  lookAt("composer");
  notify(S.picture.used[part.name]);
}

const VARIATIONS = 4;
const VARIATION_STRENGTH = 0.2;

/** Whether a picture's noise can be moved towards that of another seed. */
export function canVary(image) {
  const made = options.value?.models.find((one) => one.name === image.metadata.model) ?? model.value;
  const kinds = control("variation_strength")?.kinds ?? [];
  return kinds.includes(image.kind) && !made?.lacks.includes("variation_strength");
}

/** Makes a few pictures that differ a little from one. */
export async function vary(image) {
  const request = await requestOf(image);
  if (!request) return;
  opened.value = null;
  const [first] = crypto.getRandomValues(new Uint32Array(1));
  const ids = [];
  for (let i = 0; i < VARIATIONS; i++) {
    const own = { seed: image.seed, num_images: 1, variation_strength: VARIATION_STRENGTH };
    const job = await send({ ...request, ...own, variation_seed: (first + i) % 2 ** 32 });
    if (!job) break;
    ids.push(job.id);
  }
  if (!ids.length) return;
  const values = ids.map((_, i) => String(i + 1));
  const made = {
    id: uniqueName(),
    x: { name: S.picture.variation, values },
    y: { name: "", values: [""] },
    jobs: [ids],
  };
  if (busy.value) notify(S.run.queued);
  else keepGrid(made);
}

function fromMetadata(image) {
  const { anagram, upscale, ...fields } = image.metadata;
  const pairs = anagram?.map(([prompt, view]) => ({ prompt, view }));
  const factor = upscale ?? 1; // a picture tells its size after enlarging, a request the one before
  const size = fields.hires_size ? {} : { width: image.width / factor, height: image.height / factor };
  return { ...fields, upscale, ...size, kind: image.kind, ...(pairs ? { anagram: pairs } : {}) };
}

/** Makes a picture the source of a kind of job; `more` are further fields of the form. */
export function sendTo(image, mode, more = {}) {
  const { prompt, negative_prompt } = image;
  const texts = mode === "upscale" || !prompt ? {} : { prompt, negative_prompt };
  setImage(image, { mode, ...texts, ...more });
  opened.value = null;
  lookAt("composer");
}

const EDITED = ["img2img", "inpaint", "upscale"];

/** Makes a file the source picture of whatever kind of job is chosen when it arrives; returns whether it did. */
export function useFile(file) {
  if (!EDITED.includes(form.value.mode)) change({ mode: "img2img" });
  return upload("image", file, setImage);
}

/** A picture dropped on the page: its settings if it has any, else it becomes the source. */
export async function dropped(file) {
  const { mode } = form.value;
  const sending = notify(S.source.sending);
  const take = (stored) => {
    const stays = EDITED.includes(mode) || form.value.mode !== mode;
    if (stored.request) change(toForm(stored.request, stored.metadata?.seed, 1));
    else setImage(stored, stays ? {} : { mode: "img2img" });
    notify(stored.request ? S.drop.restored : S.drop.source);
  };
  const taken = await upload("image", file, take);
  dismiss(sending);
  if (!taken && errors.value.image) notify(errors.value.image, "error");
}

export const downloadUrl = (image) =>
  `${pictureUrl(image.id)}?download=true&name=${encodeURIComponent(fileNames.value)}`;

/** Saves several pictures as one file. */
export async function saveAll(images) {
  const packing = notify(S.gallery.packing(images.length));
  try {
    const ids = images.map((image) => image.id);
    saveBlob(await api.zip({ ids, name: fileNames.value }), S.gallery.zip);
  } catch (problem) {
    notify(problem.message, "error");
  }
  dismiss(packing);
}

/** Lets the browser save what the page holds. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  save(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Lets the browser save something. */
export function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

export async function copyPrompt(image) {
  await navigator.clipboard.writeText(image.prompt);
  notify(S.picture.copied);
}
