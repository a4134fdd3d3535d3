// Between the form and what is posted: pure functions of the form and the controls, both ways.
import { pictureUrl } from "./api.js";
import { control, controlsOf, keyOf } from "./controls.js";
import { S } from "./strings.js";
import { defaults, model } from "./state.js";

const EDITED = ["img2img", "inpaint", "upscale"];

const inverts = (form) => form.mode === "img2img" && form.inversion !== null;

/** Whether a form's job has a ControlNet. */
function followsPicture(form) {
  const lacks = (model.value?.lacks ?? []).includes("controlnet");
  const has = control("controlnet")?.kinds.includes(form.mode) && !lacks;
  return Boolean(has && USED.controlnet() && (form.controlnet ?? null) !== null);
}

/** Whether a form's job has a painted mask. */
export const isMasked = (form) => form.mode === "inpaint" && form.region === "mask";

/** Whether a form's job works on the region around its mask alone. */
const isRegional = (form) => isMasked(form) && form.inpaint_area === "only_masked";

/** Whether a form's job has a second pass. */
const isTwofold = (form) => (form.hires_size ?? null) !== null;

/** When controls are used that not every job of their kind uses. */
const USED = {
  seed: (form) => form.seed_locked,
  eta: (form) => form.solver === "ddim" && !inverts(form),
  autoguidance_scale: (form) => form.autoguidance_model !== null,
  source_prompt: inverts,
  resize_mode: (form) => form.mode === "img2img" || isMasked(form),
  inpaint_area: isMasked,
  inpaint_padding: isRegional,
  inpaint_upscaler: isRegional,
  outpaint: (form) => !isMasked(form),
  hires_method: isTwofold,
  hires_strength: isTwofold,
  hires_steps: isTwofold,
  preview_every: (form) => form.preview_mode !== "none",
  controlnet: () => control("controlnet").choices.length > 0,
  controlnet_conditioning_scale: followsPicture,
  control_guidance_start: followsPicture,
  control_guidance_end: followsPicture,
  control_preprocessor: followsPicture,
};

/** The controls that a form's job has a use for, and its model has. */
export const usedControls = (form) => {
  const lacking = model.value?.lacks ?? [];
  return controlsOf(form.mode).filter(
    (one) => !lacking.includes(one.name) && (USED[one.name]?.(form) ?? true),
  );
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
  for (const one of usedControls(form)) {
    const value = form[keyOf(one, kind)];
    if (value !== null && value !== undefined) request[one.name] = value;
  }
  if (EDITED.includes(kind)) request.image = form.image?.id;
  if (isMasked(form)) request.mask = mask;
  if (followsPicture(form)) request.control_image = form.control_image?.id;
  return request;
}

/** The fields of the pictures that a form's job is made from. */
export const neededPictures = (form) => [
  ...(EDITED.includes(form.mode) ? ["image"] : []),
  ...(followsPicture(form) ? ["control_image"] : []),
];

/** Width and height in pixels of what a form asks for. */
export const sizeOf = (form) => {
  const own = model.value?.size ?? 128;
  return [form.width ?? own, form.height ?? own];
};

/** What is wrong with a form, by field; empty if nothing is. */
export function check(form) {
  const wrong = {};
  for (const one of usedControls(form)) {
    const key = keyOf(one, form.mode);
    const error = checkValue(one, form[key]) ?? CHECKS[one.name]?.(form);
    if (error) wrong[key] = error;
  }
  if (EDITED.includes(form.mode) && !form.image) wrong.image = S.errors.image;
  if (followsPicture(form) && !form.control_image) wrong.control_image = S.errors.image;
  if (isMasked(form) && form.image && !form.mask.length) wrong.mask = S.errors.mask;
  if (form.mode === "anagram") {
    form.anagram.forEach((reading, i) => {
      if (!reading.prompt.trim()) wrong[`anagram.${i}.prompt`] = S.errors.reading;
    });
  }
  return wrong;
}

/** Checks of more than the bounds. */
const CHECKS = {
  guidance_interval: ({ guidance_interval: levels }) => levels?.[0] > levels?.[1] && S.errors.order,
  outpaint: checkOutpaint,
  anagram: ({ anagram }) =>
    new Set(anagram.map((reading) => reading.view)).size < anagram.length && S.errors.views,
};

/** What is wrong with a value by its control's type and bounds, undefined if nothing is. */
export function checkValue(one, value) {
  if (value === null && one.optional) return undefined;
  const [low, high] = [one.minimum, one.maximum];
  if (["integer", "number"].includes(one.type)) return checkNumber(value, low, high, one.type === "integer");
  if (["integers", "numbers"].includes(one.type)) {
    return value.map((number) => checkNumber(number, low, high, one.type === "integers")).find(Boolean);
  }
  return undefined;
}

function checkNumber(value, low, high, whole) {
  if (typeof value !== "number" || Number.isNaN(value)) return S.errors.number;
  if (value < low || value > high) return S.errors.range(low, high);
  return whole && !Number.isInteger(value) ? S.errors.whole : undefined;
}

/** Some pixels are new, and at least an eighth of each side is not. */
function checkOutpaint(form) {
  const [left, top, right, bottom] = form.outpaint;
  if (left + top + right + bottom === 0) return S.errors.sides;
  const [width, height] = sizeOf(form).map((side) => side - Math.max(1, Math.floor(side / 8)));
  if (left + right > width) return S.errors.outpaint(width);
  return top + bottom > height && S.errors.outpaint(height);
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
  for (const one of controlsOf(kind)) {
    const key = keyOf(one, kind);
    form[key] = request[one.name] ?? defaults.value[key];
  }
  if (request.anagram) form.anagram = request.anagram.map(({ prompt, view }) => ({ prompt, view }));
  if (kind !== "upscale") form.num_images = count;
  if (control("model")?.choices[0] === form.model) form.model = null; // the default one
  delete form.seed;
  const exact = seed ?? request.seed;
  if (exact !== null && exact !== undefined) Object.assign(form, { seed: exact, seed_locked: true });
  if (request.image) form.image = picture(request.image);
  form.control_image = request.control_image ? picture(request.control_image) : null;
  if (kind === "inpaint") {
    form.region = request.outpaint ? "outpaint" : "mask";
    form.mask = request.mask ? [{ op: "picture", id: request.mask }] : [];
  }
  delete form.prompt_matching; // the request is about the matched prompt
  return form;
}
