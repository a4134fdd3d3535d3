// What can be done with a picture, wherever it is shown.
import { api, pictureUrl, Problem } from "./api.js";
import { opened } from "./gallery_state.js";
import { jobs } from "./jobs.js";
import { change, form, notify } from "./state.js";
import { toForm } from "./request.js";
import { S } from "./strings.js";

/** Puts all settings of a picture into the form, its own seed among them. */
export async function reuse(image) {
  try {
    const job = jobs.value[image.job_id] ?? (await api.job(image.job_id));
    change(toForm(job.request, image.seed, 1));
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
  const { id, url, width, height } = image;
  const prompt = form.value.prompt || image.prompt;
  const source = { id, url, width, height };
  change({ mode, image: source, mask: [], ...(mode === "upscale" ? {} : { prompt }), ...more });
  opened.value = null;
  document.querySelector("#composer")?.scrollIntoView({ block: "start" });
}

/** Stores a file as the source picture; returns whether it could be read. */
export async function useFile(file, mode = form.value.mode) {
  try {
    const stored = await api.upload(file);
    const fits = ["img2img", "inpaint", "upscale"].includes(mode);
    change({ image: stored, mask: [], mode: fits ? mode : "img2img" });
    return true;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    notify(problem.status === 422 ? S.drop.not : problem.message, "error");
    return false;
  }
}

/** A picture dropped on the page: its settings if it has any, else it becomes the source. */
export async function dropped(file) {
  try {
    const info = await api.pngInfo(file);
    if (info.request) {
      change(toForm(info.request, info.metadata?.seed, 1));
      notify(S.drop.restored);
    } else if (await useFile(file)) notify(S.drop.source);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    notify(problem.status === 422 ? S.drop.not : problem.message, "error");
  }
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
