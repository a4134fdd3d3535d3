// The sets of weights of the chosen model, and the settings that go with each.
import { batch, effect } from "@preact/signals";
import { change, defaults, form, model, notify } from "./state.js";
import { load, save } from "./storage.js";
import { S } from "./strings.js";

const FIELDS = ["num_inference_steps", "guidance_scale", "solver", "spacing"];

/** What the form had before weights brought settings of their own; kept over a reload, as the form is. */
let before = load("before-weights", {});

function keep(settings) {
  before = settings;
  save("before-weights", settings);
}

/** Whether the settings in the form are not those of the usual weights. */
const brought = (weights) =>
  model.value !== null && (weights in model.value.sampling || !model.value.weights.includes(weights));

const picked = (from) => Object.fromEntries(FIELDS.map((name) => [name, from[name]]));

/**
 * The form's fields for other weights: their own settings, or those of before.
 *
 * @param {object} current the form
 * @param {string} weights to be chosen
 */
export function withWeights(current, weights) {
  const usual = brought(current.weights) ? { ...picked(defaults.value), ...before } : {};
  return { ...usual, ...model.value?.sampling[weights], weights };
}

/** Chooses weights in the form. */
export function chooseWeights(weights) {
  if (weights === form.value.weights) return;
  if (!brought(form.value.weights)) keep(picked(form.value));
  change(withWeights(form.value, weights));
}

/** Chooses a model in the form, with the settings that it brings. */
export function chooseModel(name) {
  batch(() => {
    change({ model: name });
    const { weights = ["ema"], sizes = [], sampling = {} } = model.value ?? {};
    const asked = form.value.weights ?? weights[0];
    const kept = weights.includes(asked) ? asked : weights[0];
    const fits = sizes.some(([w, h]) => w === form.value.width && h === form.value.height);
    keep({});
    change({
      ...picked(defaults.value),
      ...sampling[kept],
      weights: kept,
      ...(fits ? {} : { width: null, height: null }),
    });
    if (kept !== asked) notify(S.settings.noWeights(S.controls.weights.choices[asked] ?? asked));
  });
}

/** Weights that the model does not have, of a draft, a preset or a picture, cannot stay chosen. */
effect(() => {
  const sets = model.value?.weights ?? [];
  const { weights } = form.value;
  if (weights === undefined || sets.length === 0 || sets.includes(weights)) return;
  notify(S.settings.noWeights(S.controls.weights.choices[weights] ?? weights));
  chooseWeights(sets[0]);
});
