// The controls as the server declares them (`GET /options`): which there are, their bounds and names.
import { computed } from "@preact/signals";
import { model, options } from "./state.js";
import { S } from "./strings.js";

/** @typedef {{name: string, type: string, default: any, kind_defaults: object, minimum: number | null,
 *   maximum: number | null, choices: any[] | null, length: number | null, optional: boolean,
 *   group: string, advanced: boolean, kinds: string[], help: string}} Control */

/** What a picture shows, and which picture it is; all else is how it is made. */
const CONTENT = ["prompt", "negative_prompt", "prompt_matching", "styles", "source_prompt", "crop_position", "outpaint", "anagram"];
const ONE_PICTURE = ["seed", "model", "width", "height"];

/** All controls by name, in the order of their declaration. */
const byName = computed(() => new Map((options.value?.controls ?? []).map((one) => [one.name, one])));

/** @returns {Control | undefined} */
export const control = (name) => byName.value.get(name);

/** The controls of a kind of job. */
export const controlsOf = (kind) => [...byName.value.values()].filter((one) => one.kinds.includes(kind));

/** The form's field of a control: one of its own for a kind with a default of its own. */
export const keyOf = (one, kind) => (kind in one.kind_defaults ? `${kind}_${one.name}` : one.name);

/** The names of the controls that a preset keeps. */
export const presetNames = () =>
  [...byName.value.keys()].filter((name) => ![...CONTENT, ...ONE_PICTURE].includes(name) || name === "negative_prompt");

/** The fields that "Reset settings" leaves alone. */
export const isContent = (key) => CONTENT.includes(key);

/** A control's name for people: that of strings.js, else one made of its own name. */
export const labelOf = (one) => S.controls[one.name]?.label ?? sentence(one.name);

/** What is said below a control; the declaration's help text where strings.js does not know it. */
export const hintOf = (one) => (one.name in S.controls ? S.controls[one.name].hint : one.help);

/** The values to choose from, [[value, label], …]; null among them where it is allowed. */
export function choicesOf(one) {
  const { choices: labels = {}, none = S.settings.automatic } = S.controls[one.name] ?? {};
  const offered = offeredBy(one);
  const named = offered.map((value) => [value, labels[value] ?? String(value)]);
  return one.optional ? [[null, none], ...named] : named;
}

/** What the chosen model leaves of a control's choices. */
function offeredBy(one) {
  if (one.name === "weights") return model.value?.weights ?? one.choices;
  if (one.name === "preview_mode" && model.value?.lacks?.includes("decoder")) {
    return one.choices.filter((mode) => mode !== "taesd");
  }
  return one.choices;
}

const sentence = (name) => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");
