// Jobs: sent once, watched while they run, found again after a reload by the address or the server's list.
import { batch, computed, signal } from "@preact/signals";
import { control, keyOf } from "./controls.js";
import { api, Problem, watch } from "./api.js";
import { refreshGallery, showInGallery } from "./gallery_state.js";
import { remember } from "./history.js";
import { maskPicture } from "./mask_strokes.js";
import { check, isMasked, neededPictures, toRequest } from "./request.js";
import { clientId } from "./storage.js";
import { change, connected, errors, form, notify, options, server } from "./state.js";
import { S } from "./strings.js";
import { arrived } from "./uploads.js";

export const FINAL = ["done", "failed", "cancelled"];
const POLL_MS = 1200;

/** All jobs this page has seen, by id. */
export const jobs = signal({});
/** The id of the job on the stage; null for none. */
export const shownId = signal(null);
export const shown = computed(() => jobs.value[shownId.value] ?? null);
/** The newest preview of the job shown: null or {step, num_steps, images: [{index, url}]}. */
export const preview = signal(null);
export const sending = signal(false);
/** The X/Y grid on the stage: null or as in grid.js. */
export const grid = signal(null);
/** Said by screen readers. */
export const announcement = signal("");

export const active = computed(() => Object.values(jobs.value).filter((job) => !FINAL.includes(job.status)));

let stopWatching = () => {};

const put = (job) => {
  jobs.value = { ...jobs.value, [job.id]: job };
};

const patch = (id, fields) => {
  if (jobs.value[id]) put({ ...jobs.value[id], ...fields });
};

/** Puts a job on the stage and watches it. */
export function show(job) {
  stopWatching();
  stopWatching = () => {};
  batch(() => {
    grid.value = null;
    if (shownId.value !== job.id) preview.value = null;
    put(job);
    shownId.value = job.id;
  });
  setAddress(`job=${job.id}`);
  if (FINAL.includes(job.status)) return;
  let lost = false;
  stopWatching = watch(
    job.id,
    (name, data) => onEvent(job.id, name, data),
    async (isConnected) => {
      connected.value = isConnected;
      if (!isConnected) lost = true;
      else if (lost) {
        lost = false;
        await refresh(job.id);
      }
    },
  );
}

function onEvent(id, name, data) {
  if (name === "queued" || name === "position") patch(id, { queue_position: data.position });
  else if (name === "waiting") waits(id, data.reason);
  else if (name === "notes") patch(id, data);
  else if (name === "started") patch(id, { status: "running", queue_position: null });
  else if (name === "progress") patch(id, { status: "running", progress: data });
  else if (name === "preview") preview.value = data;
  else if (name === "image") {
    const images = jobs.value[id].images.filter((image) => image.id !== data.id);
    patch(id, { images: [...images, data].sort((a, b) => a.index - b.index) });
    showInGallery(data);
  } else if (FINAL.includes(name)) finish(data);
}

/** The job waits because nothing can be stored, or for null goes on. */
async function waits(id, reason) {
  patch(id, reason ? { status: "queued", queue_position: null, notes: [reason] } : { notes: [] });
  server.value = await api.ready().catch(() => null);
}

function finish(job) {
  put(job);
  connected.value = true;
  if (job.id === shownId.value) preview.value = null;
  job.images.forEach(showInGallery);
  if (job.status === "done") announcement.value = `${S.run.finished}. ${job.request.prompt ?? ""}`;
  else if (job.status === "cancelled") announcement.value = S.run.cancelled;
  else announcement.value = `${S.run.failed}. ${job.error?.detail ?? ""}`;
  const seed = job.request.seed;
  if (!form.value.seed_locked && seed !== undefined && seed !== null) change({ seed });
}

async function refresh(id) {
  try {
    const job = await api.job(id);
    if (FINAL.includes(job.status)) finish(job);
    else put(job);
  } catch (problem) {
    if (problem.status === 404) {
      leave();
      notify(S.run.gone, "error");
    }
  }
}

/** Takes the job off the stage; it goes on. */
export function leave() {
  stopWatching();
  shownId.value = null;
  grid.value = null;
  preview.value = null;
  setAddress("");
}

/** `job=ID`, `grid=ID` or nothing, behind the # of the address. */
export function setAddress(text) {
  const hash = text && `#${text}`;
  if (location.hash !== hash) history.replaceState(null, "", location.pathname + location.search + hash);
}

/** Shows a refusal: next to the fields it names, and the rest above the button. */
export function explain(problem) {
  const found = {};
  for (const { field, message } of problem.fields ?? []) {
    const name = field.replace(/^body\./, "");
    const [root] = name.split(".");
    const one = control(root);
    const key = one ? keyOf(one, form.value.mode) : root;
    found[root === "anagram" ? name : key in form.value ? key : "form"] = message;
  }
  if (!Object.keys(found).length) {
    const busy = problem.retryAfter && [429, 503, 507].includes(problem.status);
    found.form = busy ? `${problem.message}. ${S.errors.busy(problem.retryAfter)}` : problem.message;
  }
  errors.value = found;
  focusError();
}

const focusError = () =>
  requestAnimationFrame(() => {
    const wrong = document.querySelector("[aria-invalid=true], .form-error");
    /** @type {HTMLElement | null} */ (wrong)?.focus();
  });

/** Sends a request; returns the job, or null after saying what was wrong. */
export async function send(request) {
  sending.value = true;
  try {
    const job = await api.submit(request);
    put(job);
    poll();
    return job;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    explain(problem);
    return null;
  } finally {
    sending.value = false;
  }
}

/** Sends what the form says, with the pictures that are still on their way, and shows it. */
export async function generate() {
  if (sending.value || !options.value) return;
  const asked = form.value;
  sending.value = true;
  const there = await arrived(neededPictures(asked));
  sending.value = false;
  const { image, control_image, mask } = form.value;
  const wanted = { ...asked, image, control_image, mask };
  if (there) errors.value = check(wanted);
  if (!there || Object.keys(errors.value).length) {
    focusError();
    return;
  }
  const painted = isMasked(wanted) ? await maskPicture(mask, image) : null;
  const job = await send(toRequest(wanted, painted));
  if (!job) return;
  remember(wanted.prompt);
  show(job);
  const stage = document.querySelector("#stage");
  if (matchMedia("(max-width: 760px)").matches) stage.scrollIntoView({ behavior: "smooth", block: "start" });
}

export async function cancel(id) {
  patch(id, { cancelling: true });
  try {
    const job = await api.cancel(id);
    if (FINAL.includes(job.status)) finish(job);
    else put({ ...job, cancelling: true });
  } catch (problem) {
    patch(id, { cancelling: false });
    notify(problem.message, "error");
  }
}

/** Sends a job's request again. */
export async function retry(job) {
  const again = await send(job.request);
  if (again) show(again);
}

let polling = 0;

/** Keeps the jobs that are not watched up to date, by one call for all of them. */
export function poll() {
  clearTimeout(polling);
  polling = setTimeout(async () => {
    const waiting = active.value.filter((job) => job.id !== shownId.value);
    if (!waiting.length) return;
    try {
      const found = await api.jobs({ client: clientId, limit: 200 });
      for (const job of found.jobs.filter((j) => waiting.some((w) => w.id === j.id))) {
        if (FINAL.includes(job.status)) finish(job);
        else put({ ...job, cancelling: jobs.value[job.id].cancelling });
      }
    } catch {
      // The next round asks again.
    }
    poll();
  }, POLL_MS);
}

/** After a reload: the job of the address, else one that still runs. */
export async function restore() {
  const named = /^#job=([\w.-]+)$/.exec(location.hash)?.[1];
  const mine = await api.jobs({ client: clientId, limit: 30 }).catch(() => ({ jobs: [] }));
  for (const job of mine.jobs.filter((j) => !FINAL.includes(j.status))) put(job);
  if (named) {
    try {
      show(await api.job(named));
    } catch (problem) {
      if (problem.status === 404) setAddress("");
      notify(problem.status === 404 ? S.run.gone : problem.message, "error");
    }
  } else if (active.value.length && !location.hash) show(active.value[0]);
  poll();
  await refreshGallery();
}

/** How long a finished job took, in words. */
export const took = (job) =>
  S.run.done(job.images.length, (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000 || 0);

/** What a job is doing, in words. */
export function describe(job) {
  if (job.status === "queued") return job.notes?.[0] ?? S.run.queued(job.queue_position);
  const { step, num_steps: steps, images_done: done, num_images: all, eta_seconds: eta } = job.progress;
  if (!step && !done) return S.run.starting;
  const parts = [S.run.step(step, steps)];
  if (all > 1 && done > 0) parts.push(S.run.images(done, all));
  if (eta !== null && eta !== undefined) parts.push(S.run.left(eta));
  return parts.join(" · ");
}
