// The server's interface: calls with readable errors, and the events of a job with resume.
import { clientId, uniqueName } from "./storage.js";
import { S } from "./strings.js";

const ROOT = "/api/v1";
const FINAL = ["done", "failed", "cancelled"];
const EVENTS = ["queued", "position", "started", "waiting", "notes", "progress", "preview", "image", ...FINAL];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What the server refused, or that it was not there: `status` 0. */
export class Problem extends Error {
  constructor(status, detail, fields = [], retryAfter = null) {
    super(detail);
    this.status = status;
    this.fields = fields;
    this.retryAfter = retryAfter;
  }
}

/** Called when the server asks for its key. */
export const onUnauthorised = { handler: () => {} };
/** Called when the server did not answer. */
export const onLost = { handler: () => {} };

/**
 * @param {string} path
 * @param {{method?: string, json?: any, body?: any, headers?: object}} options
 */
async function once(path, { method = "GET", json, body, headers = {} }) {
  let reply;
  try {
    reply = await fetch(ROOT + path, {
      method,
      body: json === undefined ? body : JSON.stringify(json),
      headers: {
        "X-Client-ID": clientId,
        ...(json === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
    });
  } catch {
    onLost.handler();
    throw new Problem(0, S.errors.offline);
  }
  if (reply.status === 204) return null;
  if (reply.ok && reply.headers.get("Content-Type") === "application/zip") return reply.blob();
  const data = await reply.json().catch(() => null);
  if (reply.ok) return data;
  if (reply.status === 401 && path !== "/login") onUnauthorised.handler();
  const seconds = Number(reply.headers.get("Retry-After")) || null;
  throw new Problem(reply.status, data?.detail ?? S.errors.status(reply.status), data?.errors ?? [], seconds);
}

/** One call; what may be repeated is, when the connection fails. */
async function call(path, options = {}, tries = 1) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await once(path, options);
    } catch (problem) {
      if (problem.status !== 0 || attempt >= tries) throw problem;
      await pause(400 * 2 ** attempt);
    }
  }
}

const query = (parameters) => {
  const given = Object.entries(parameters).filter(
    ([, value]) => value !== null && value !== "" && value !== undefined,
  );
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

export const api = {
  options: () => call("/options", {}, 4),
  health: () => call("/health"),
  login: () => call("/login", {}, 4),
  sendKey: (key) => call("/login", { method: "POST", json: { key } }),

  /** Repeating a submission is harmless: the server knows it by its key. */
  submit: (request) =>
    call("/jobs", { method: "POST", json: request, headers: { "Idempotency-Key": uniqueName() } }, 4),
  job: (id) => call(`/jobs/${encodeURIComponent(id)}`, {}, 4),
  jobs: (parameters) => call(`/jobs${query(parameters)}`),
  cancel: (id) => call(`/jobs/${encodeURIComponent(id)}`, { method: "DELETE" }, 3),

  queue: () => call("/queue"),
  pause: (paused) => call("/queue", { method: "PATCH", json: { paused } }),
  arrange: (ids) => call("/queue/order", { method: "PUT", json: { jobs: ids } }),
  clearQueue: () => call("/queue", { method: "DELETE" }),

  tokens: (prompt, model, name) => call("/tokens", { method: "POST", json: { prompt, model, name } }),
  images: (parameters) => call(`/images${query(parameters)}`, {}, 2),
  /** Marks, deletes or gives back: `change` is {favourite} or {deleted}. */
  changeImages: (ids, change) => call("/images", { method: "PATCH", json: { ids, ...change } }, 2),
  /** Pictures as one file: a blob. */
  zip: (wanted) => call("/images/zip", { method: "POST", json: wanted }),
  upload: (file) => {
    const body = new FormData();
    body.append("file", file, file.name || "picture.png");
    return call("/inputs", { method: "POST", body }, 2);
  },

  styles: () => call("/styles", {}, 2),
  putStyle: (name, style) => call(`/styles/${encodeURIComponent(name)}`, { method: "PUT", json: style }),
  removeStyle: (name) => call(`/styles/${encodeURIComponent(name)}`, { method: "DELETE" }),

  categories: () => call("/bank/categories", {}, 2),
  match: (request) => call("/bank/match", { method: "POST", json: request }),
  random: (parameters) => call(`/bank/random${query(parameters)}`),
  prompts: (parameters) => call(`/bank/prompts${query(parameters)}`, {}, 2),
  addPrompt: (prompt) => call("/bank/prompts", { method: "POST", json: prompt }),
  removePrompt: (id) => call(`/bank/prompts/${encodeURIComponent(id)}`, { method: "DELETE" }),
};

/** Where a stored picture is. */
export const pictureUrl = (id, suffix = "png") => `${ROOT}/images/${encodeURIComponent(id)}.${suffix}`;

/**
 * Watches a job until it ends.
 *
 * The browser resumes a dropped stream by itself with Last-Event-ID; a stream that the server
 * refused is opened anew here, after a growing pause.
 *
 * @param {string} id the job
 * @param {(name: string, data: any) => void} onEvent
 * @param {(connected: boolean) => void} onConnection
 * @returns {() => void} stops watching
 */
export function watch(id, onEvent, onConnection) {
  let source = null;
  let timer = 0;
  let failures = 0;
  let last = "";
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    source = new EventSource(`${ROOT}/jobs/${encodeURIComponent(id)}/events${last && `?after=${last}`}`);
    source.onopen = () => {
      failures = 0;
      onConnection(true);
    };
    source.onerror = () => {
      onConnection(false);
      if (source?.readyState !== EventSource.CLOSED) return;
      close();
      timer = setTimeout(open, Math.min(15000, 500 * 2 ** failures++));
    };
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        last = event.lastEventId;
        const data = JSON.parse(event.data);
        if (FINAL.includes(name)) close();
        onEvent(name, data);
      });
    }
  };
  open();
  return close;
}
