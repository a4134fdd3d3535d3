// Between the form and what is posted: pure functions, both ways.
import { pictureUrl } from "./api.js";
import { S } from "./strings.js";
import { DEFAULTS } from "./state.js";

const SAMPLING = [
  "negative_prompt",
  "num_images",
  "num_inference_steps",
  "guidance_scale",
  "solver",
  "weights",
  "model",
  "eta",
  "guidance_rescale",
  "guidance_interval",
  "spacing",
  "upscale",
  "upscaler",
  "preview_mode",
  "preview_every",
  "embed_metadata",
];
const PROMPTED = ["prompt", "prompt_matching", ...SAMPLING];
const EDITING = [...PROMPTED, "strength_mode", "resize_mode"];
const FIELDS = {
  txt2img: PROMPTED,
  img2img: [...EDITING, "strength", "inversion", "source_prompt"],
  inpaint: [...EDITING, "mask_feather", "num_resamples", "outpaint"],
  anagram: [...SAMPLING, "anagram", "anagram_mode"],
  upscale: ["upscaler", "embed_metadata"],
};

const inverts = (form) => form.mode === "img2img" && form.inversion !== null;

/** Whether a form's job has a painted mask. */
export const isMasked = (form) => form.mode === "inpaint" && form.region === "mask";

/** When fields are used that not every job of their kind uses. */
const USED = {
  eta: (form) => form.solver === "ddim" && !inverts(form),
  source_prompt: inverts,
  resize_mode: (form) => form.mode === "img2img" || isMasked(form),
  outpaint: (form) => !isMasked(form),
  preview_every: (form) => form.preview_mode !== "none",
};

/** The fields that a form's job takes as they are. */
export const fieldsOf = (form) => FIELDS[form.mode].filter((name) => USED[name]?.(form) ?? true);

/** Limits of numbers, as the server has them: [low, high, whole]. */
export const LIMITS = {
  num_images: [1, 64, true],
  num_inference_steps: [1, 1000, true],
  guidance_scale: [0, 100, false],
  seed: [0, 2 ** 32 - 1, true],
  strength: [0, 1, false],
  inpaint_strength: [0, 1, false],
  eta: [0, 1, false],
  guidance_rescale: [0, 1, false],
  mask_feather: [0, 64, false],
  num_resamples: [1, 20, true],
  preview_every: [1, 1000, true],
};

/**
 * The job that a form asks for.
 *
 * @param {object} form as in state.js
 * @param {string | null} mask the painted mask as a data: URI, if the job has one
 */
export function toRequest(form, mask = null) {
  const kind = form.mode;
  const request = { kind };
  for (const name of fieldsOf(form)) {
    if (form[name] !== null) request[name] = form[name];
  }
  if (kind !== "upscale" && form.seed_locked && form.seed !== null) request.seed = form.seed;
  if (["img2img", "inpaint", "upscale"].includes(kind)) request.image = form.image?.id;
  if (kind === "inpaint") request.strength = form.inpaint_strength;
  if (isMasked(form)) request.mask = mask;
  if (kind === "upscale") request.upscale = form.factor;
  return request;
}

/**
 * What is wrong with a form, by field; empty if nothing is.
 *
 * @param {object} form as in state.js
 * @param {object | undefined} limits of the server
 * @param {number | undefined} size pixels a side of the model's pictures
 */
export function check(form, limits, size) {
  const found = {};
  const used = [...fieldsOf(form), ...(form.mode === "inpaint" ? ["inpaint_strength"] : [])];
  if (form.seed_locked && form.mode !== "upscale") used.push("seed");
  for (const name of used.filter((field) => field in LIMITS)) {
    const [low, most, whole] = LIMITS[name];
    const high = name === "num_images" ? Math.min(most, limits?.max_images ?? most) : most;
    const wrong = checkNumber(form[name], low, high, whole);
    if (wrong) found[name] = wrong;
  }
  const interval = used.includes("guidance_interval") && form.guidance_interval;
  if (interval) {
    const wrong = interval.map((level) => checkNumber(level, 0, 1)).find(Boolean);
    if (wrong || interval[0] > interval[1]) found.guidance_interval = wrong ?? S.errors.order;
  }
  if (used.includes("outpaint")) {
    const wrong = checkOutpaint(form.outpaint, size);
    if (wrong) found.outpaint = wrong;
  }
  if (["img2img", "inpaint", "upscale"].includes(form.mode) && !form.image) found.image = S.errors.image;
  if (isMasked(form) && form.image && !form.mask.length) found.mask = S.errors.mask;
  if (form.mode === "anagram") {
    form.anagram.forEach((reading, i) => {
      if (!reading.prompt.trim()) found[`anagram.${i}.prompt`] = S.errors.reading;
    });
    if (new Set(form.anagram.map((reading) => reading.view)).size < form.anagram.length) {
      found.anagram = S.errors.views;
    }
  }
  return found;
}

function checkNumber(value, low, high, whole = false) {
  if (typeof value !== "number" || Number.isNaN(value)) return S.errors.number;
  if (value < low || value > high) return S.errors.range(low, high);
  return whole && !Number.isInteger(value) ? S.errors.whole : undefined;
}

/** Some pixels are new, and at least an eighth of each side is not. */
function checkOutpaint(sides, size) {
  const wrong = sides.map((pixels) => checkNumber(pixels, 0, 4096, true)).find(Boolean);
  if (wrong) return wrong;
  const [left, top, right, bottom] = sides;
  if (left + top + right + bottom === 0) return S.errors.sides;
  const most = size - Math.max(1, Math.floor(size / 8)); // NaN where the size is not known
  return Math.max(left + right, top + bottom) > most ? S.errors.outpaint(most) : undefined;
}

const picture = (id) => ({ id, url: pictureUrl(id) });

/**
 * The form that makes a job's request again.
 *
 * @param {object} request as a job or a PNG tells it
 * @param {number | null} seed of the picture meant, the request's own if null
 * @param {number} count pictures to make
 */
export function toForm(request, seed = null, count = request.num_images ?? 1) {
  const kind = request.kind ?? "txt2img";
  const form = { mode: kind };
  for (const name of FIELDS[kind]) {
    if (name in request) form[name] = request[name] ?? DEFAULTS[name];
  }
  if (form.anagram) form.anagram = form.anagram.map(({ prompt, view }) => ({ prompt, view }));
  if (kind === "upscale") form.factor = request.upscale;
  else form.num_images = count;
  const exact = seed ?? request.seed;
  if (exact !== null && exact !== undefined) Object.assign(form, { seed: exact, seed_locked: true });
  if (request.image) form.image = picture(request.image);
  if (kind === "inpaint") {
    form.inpaint_strength = request.strength ?? 1;
    form.region = request.outpaint ? "outpaint" : "mask";
    form.mask = request.mask ? [{ op: "picture", id: request.mask }] : [];
  }
  delete form.prompt_matching; // the request is about the prompt that was found
  return form;
}
