// What the page knows: the form's draft (kept in this browser), its errors, the server's offer.
import { computed, effect, signal } from "@preact/signals";
import { load, save } from "./storage.js";

export const MODES = ["txt2img", "img2img", "inpaint", "anagram", "upscale"];

/**
 * The form of a first visit. `image` is a stored picture: {id, url, width, height}; `region` is what
 * in-painting repaints: "mask" or "outpaint".
 */
export const DEFAULTS = {
  mode: "txt2img",
  prompt: "",
  negative_prompt: "",
  prompt_matching: null,
  num_images: 1,
  num_inference_steps: 20,
  guidance_scale: 2.5,
  solver: "dpmpp_2m",
  seed: null,
  seed_locked: false,
  weights: "ema",
  model: null,
  eta: 0,
  guidance_rescale: 0,
  guidance_interval: null,
  spacing: null,
  upscale: null,
  upscaler: "x4plus",
  preview_mode: "linear",
  preview_every: 1,
  embed_metadata: true,
  image: null,
  strength: 0.75,
  strength_mode: "partial",
  resize_mode: "crop",
  inversion: null,
  source_prompt: "",
  inpaint_strength: 1,
  region: "mask",
  mask: [],
  mask_feather: 4,
  num_resamples: 1,
  outpaint: [0, 0, 0, 0],
  factor: 4,
  anagram: [
    { prompt: "", view: "identity" },
    { prompt: "", view: "rot180" },
  ],
  anagram_mode: "latent",
};

export const form = signal({ ...DEFAULTS, ...load("draft", {}) });

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

/** `GET /options`, null until it is there. */
export const options = signal(null);
/** `GET /ready`, null while the server does not answer. */
export const server = signal({ ready: true, state: "unknown" });
export const connected = signal(true);

/** The model that the form asks for. */
export const model = computed(() => {
  const models = options.value?.models ?? [];
  return (
    models.find((m) => m.name === form.value.model) ?? models.find((m) => m.default) ?? models[0] ?? null
  );
});

/** Which dialog is open: null or {name, …}. */
export const dialog = signal(null);

/** Short messages, [{id, text, kind}]; the newest last. */
export const toasts = signal([]);

/** Says something to everybody, screen readers included. */
export function notify(text, kind = "info") {
  const id = Math.random();
  toasts.value = [...toasts.value.slice(-2), { id, text, kind }];
  setTimeout(
    () => {
      toasts.value = toasts.value.filter((toast) => toast.id !== id);
    },
    kind === "error" ? 9000 : 4500,
  );
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
