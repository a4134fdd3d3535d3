// What can be done with a picture, wherever it is shown.
import { api, pictureUrl } from "./api.js";
import { opened } from "./gallery_state.js";
import { jobs } from "./jobs.js";
import { change, errors, form, notify } from "./state.js";
import { toForm } from "./request.js";
import { S } from "./strings.js";
import { setImage, upload } from "./uploads.js";

/** Puts all settings of a picture into the form, its own seed among them. */
export async function reuse(image) {
  try {
    const job = jobs.value[image.job_id] ?? (await api.job(image.job_id));
    const drawn = { prompt: image.prompt, negative_prompt: image.negative_prompt }; // what its wildcards came to
    change(toForm({ ...job.request, ...drawn }, image.seed, 1));
  } catch (problem) {
    if (problem.status !== 404) {
      notify(problem.message, "error");
      return;
    }
    change(toForm(fromMetadata(image), image.seed, 1)); // its job was forgotten
  }
  opened.value = null;
  notify(S.picture.reused);
}

function fromMetadata(image) {
  const { anagram, upscale, ...fields } = image.metadata;
  const pairs = anagram?.map(([prompt, view]) => ({ prompt, view }));
  const factor = upscale ?? 1; // a picture tells its size after enlarging, a request the one before
  const size = { width: image.width / factor, height: image.height / factor };
  return { ...fields, upscale, ...size, kind: image.kind, ...(pairs ? { anagram: pairs } : {}) };
}

/** Makes a picture the source of a kind of job; `more` are further fields of the form. */
export function sendTo(image, mode, more = {}) {
  const prompt = form.value.prompt || image.prompt;
  setImage(image, { mode, ...(mode === "upscale" ? {} : { prompt }), ...more });
  opened.value = null;
  document.querySelector("#composer")?.scrollIntoView({ block: "start" });
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
  notify(S.source.sending);
  const take = (stored) => {
    const stays = EDITED.includes(mode) || form.value.mode !== mode;
    if (stored.request) change(toForm(stored.request, stored.metadata?.seed, 1));
    else setImage(stored, stays ? {} : { mode: "img2img" });
    notify(stored.request ? S.drop.restored : S.drop.source);
  };
  if (!(await upload("image", file, take)) && errors.value.image) notify(errors.value.image, "error");
}

export const downloadUrl = (image) => `${pictureUrl(image.id)}?download=true`;

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
