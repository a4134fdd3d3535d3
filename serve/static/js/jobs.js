// Jobs: sent once, watched while they run, found again after a reload by the address or the server's list.
import { batch, computed, signal } from "@preact/signals";
import { control, keyOf } from "./controls.js";
import { api, Problem, watch } from "./api.js";
import { refreshGallery, showInGallery } from "./gallery_state.js";
import { remember } from "./earlier.js";
import { lookAt } from "./look_at.js";
import { maskPicture } from "./mask_strokes.js";
import { check, isMasked, neededPictures, toRequest } from "./request.js";
import { watchServer } from "./server.js";
import { change, connected, errors, form, notify, options, server } from "./state.js";
import { S } from "./strings.js";
import { arrived } from "./uploads.js";

export const FINAL = ["done", "failed", "cancelled"];
const BUSY_MS = 1200; // between looks at the queue, while jobs of it are under way
const IDLE_MS = 3000;

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
/** The ids of this client's unfinished jobs as the server has them: those that run, then the others. */
export const order = signal([]);
/** Whether this client's jobs wait until they are resumed. */
export const paused = signal(false);
/** Called with each job of this page that ends. */
export const onEnd = { handler: (_job) => {} };
/** Said by screen readers. */
export const announcement = signal("");

export const active = computed(() => Object.values(jobs.value).filter((job) => !FINAL.includes(job.status)));

/** Whether what is on the stage is not finished. */
export const busy = computed(() =>
  grid.value
    ? grid.value.jobs.flat().some((id) => active.value.some((job) => job.id === id))
    : shown.value !== null && !FINAL.includes(shown.value.status),
);

let stopWatching = () => {};
const sent = new Set(); // from this page

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
      if (!isConnected) {
        lost = true;
        watchServer();
      } else if (lost) {
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
  server.value = await api.health().catch(() => null);
}

function finish(job) {
  const known = FINAL.includes(jobs.value[job.id]?.status);
  put(job);
  connected.value = true;
  if (job.id === shownId.value) preview.value = null;
  if (known) return;
  job.images.forEach(showInGallery);
  if (!sent.has(job.id) && job.id !== shownId.value) return; // of another tab
  if (job.status === "done") announcement.value = `${S.run.finished}. ${job.request.prompt ?? ""}`;
  else if (job.status === "cancelled") announcement.value = S.run.cancelled;
  else announcement.value = `${S.run.failed}. ${job.error?.detail ?? ""}`;
  const seed = job.request.seed;
  if (!form.value.seed_locked && seed !== undefined && seed !== null) change({ seed });
  onEnd.handler(job);
}

/** Looks at a job anew. */
async function refresh(id) {
  try {
    const job = await api.job(id);
    if (FINAL.includes(job.status)) finish(job);
    else put({ ...job, cancelling: jobs.value[id]?.cancelling });
  } catch (problem) {
    if (problem.status !== 404) return;
    const { [id]: _, ...others } = jobs.value;
    if (id === shownId.value) {
      leave();
      notify(S.run.gone, "error");
    }
    jobs.value = others;
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
    sent.add(job.id);
    put(job);
    sync();
    return job;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    explain(problem);
    return null;
  } finally {
    sending.value = false;
  }
}

/** The request of the form, with some fields of its own, once its pictures have arrived; null after saying what is wrong. */
export async function requestOf(more = {}) {
  const asked = { ...form.value, ...more };
  sending.value = true;
  const there = await arrived(neededPictures(asked));
  sending.value = false;
  const { image, mask, crop_position, control_image } = form.value;
  const wanted = { ...asked, image, mask, crop_position, control_image };
  if (there) errors.value = check(wanted);
  if (!there || Object.keys(errors.value).length) {
    focusError();
    return null;
  }
  return toRequest(wanted, isMasked(wanted) ? await maskPicture(mask, image) : null);
}

/** Sends what the form says, and shows it unless something shown is still under way. */
export async function generate() {
  if (sending.value || !options.value) return;
  const request = await requestOf();
  if (!request) return;
  remember(request.prompt);
  const job = await send(request);
  if (!job) return;
  if (busy.value) notify(S.run.queued);
  else show(job);
  lookAt("stage");
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
  if (!again) return;
  show(again);
  lookAt("stage");
}

/** Takes the queue as the server tells it; jobs that are no longer in it have ended. */
export function takeQueue(found) {
  batch(() => {
    paused.value = found.paused;
    order.value = found.jobs.map((job) => job.id);
    for (const job of found.jobs) {
      const known = jobs.value[job.id];
      const watched = known && job.id === shownId.value;
      if (!watched && !FINAL.includes(known?.status)) put({ ...job, cancelling: known?.cancelling });
    }
  });
  for (const job of active.value) {
    if (job.id !== shownId.value && !order.value.includes(job.id)) refresh(job.id);
  }
}

let looking = 0;

/** Keeps the jobs that are not watched up to date, those of other tabs too. */
export function sync() {
  clearTimeout(looking);
  looking = setTimeout(look, 0);
}

async function look() {
  await api.queue().then(takeQueue, () => {}); // the next look asks again
  clearTimeout(looking);
  looking = setTimeout(look, active.value.some((job) => job.id !== shownId.value) ? BUSY_MS : IDLE_MS);
}

/** After a reload: the job of the address, else one that still runs. */
export async function restore() {
  await api.queue().then(takeQueue, () => {});
  const named = /^#job=([\w.-]+)$/.exec(location.hash)?.[1];
  if (named) {
    try {
      show(await api.job(named));
    } catch (problem) {
      if (problem.status === 404) setAddress("");
      notify(problem.status === 404 ? S.run.gone : problem.message, "error");
    }
  } else if (active.value.length && !location.hash) show(jobs.value[order.value[0]]);
  sync();
  await refreshGallery();
}
