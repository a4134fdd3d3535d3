// What the page knows: the form's draft (kept in this browser), its errors, the server's offer.
import { batch, computed, effect, signal } from "@preact/signals";
import { load, save } from "./storage.js";

export const MODES = ["txt2img", "img2img", "inpaint", "anagram", "upscale"];

/**
 * The fields that no control is, and what controls start with on a page. `image` and `control_image`
 * are stored pictures: {id, url, width, height}; `region` is what in-painting repaints: "mask" or "outpaint".
 */
const PAGE = {
  mode: "txt2img",
  seed_locked: false,
  image: null,
  control_image: null,
  region: "mask",
  mask: [],
  outpaint: [0, 0, 0, 0],
  anagram: [
    { prompt: "", view: "identity" },
    { prompt: "", view: "rot180" },
  ],
  prompt: "",
  preview_every: 1,
};

/** The form, kept in this browser; the controls' fields are in it once the server has said them. */
export const form = signal({ ...PAGE, ...load("draft", {}) });

/** `GET /options`, null until it is there. */
export const options = signal(null);

/** The model that the form asks for. */
export const model = computed(() => {
  const models = options.value?.models ?? [];
  return (
    models.find((m) => m.name === form.value.model) ?? models.find((m) => m.default) ?? models[0] ?? null
  );
});

/**
 * The form of a first visit: a field for each control, more for kinds with defaults of their own, and
 * what the model's usual weights bring.
 */
export const defaults = computed(() => {
  const fields = {};
  for (const one of options.value?.controls ?? []) {
    fields[one.name] = one.default;
    for (const [kind, value] of Object.entries(one.kind_defaults)) fields[`${kind}_${one.name}`] = value;
  }
  const { sampling = {}, weights = [] } = model.value ?? {};
  return { ...fields, ...PAGE, ...sampling[weights[0]] };
});

/** Takes what the server offers. */
export function receive(offer) {
  batch(() => {
    options.value = offer;
    form.value = { ...defaults.value, ...form.value };
  });
}

/** Changes some of the form's fields; their errors are taken back. */
export function change(patch) {
  form.value = { ...form.value, ...patch };
  const names = Object.keys(patch);
  if (Object.keys(errors.value).some((name) => names.includes(root(name)))) {
    errors.value = Object.fromEntries(
      Object.entries(errors.value).filter(([name]) => !names.includes(root(name))),
    );
  }
}

const root = (field) => field.split(".")[0];

/** Messages by field name; "form" is for what belongs to no field. */
export const errors = signal({});

/** `GET /health`, null while the server does not answer. */
export const server = signal({ ready: true, state: "unknown" });
export const connected = signal(true);

/** Which dialog is open: null or {name, …}. */
export const dialog = signal(null);
/** How many modal dialogs are open. */
export const modals = signal(0);

/** Short messages, [{id, text, kind, action}]; the newest last. */
export const toasts = signal([]);
const SECONDS = { info: 4.5, error: 9, action: 12 };

/**
 * Says something to everybody, screen readers included.
 *
 * @param {string} text
 * @param {"info" | "error"} kind
 * @param {{label: string, run: () => void} | null} action what a button beside it does
 * @returns {number} what `dismiss` takes it away by
 */
export function notify(text, kind = "info", action = null) {
  const id = Math.random();
  const others = toasts.value.filter((toast) => toast.text !== text);
  toasts.value = [...others.slice(-2), { id, text, kind, action }];
  setTimeout(() => dismiss(id), 1000 * SECONDS[action ? "action" : kind]);
  return id;
}

export function dismiss(id) {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

export const theme = signal(document.documentElement.dataset.theme ?? "system");

/** "light", "dark" or "system". */
export function setTheme(name) {
  theme.value = name;
  try {
    if (name === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("dg2.theme");
    } else {
      document.documentElement.dataset.theme = name;
      localStorage.setItem("dg2.theme", name);
    }
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
}

let saving = 0;
effect(() => {
  const draft = form.value;
  clearTimeout(saving);
  saving = setTimeout(() => save("draft", draft), 250);
});
addEventListener("pagehide", () => save("draft", form.value));
