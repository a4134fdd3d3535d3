// The text of a grid's axis as values; a pure function.
import { choicesOf, control, keyOf, labelOf } from "./controls.js";
import { checkValue, usedControls } from "./request.js";
import { S } from "./strings.js";

const NOTHING = { label: "", values: [{ label: "", patch: {} }] };
const NUMBERS = ["integer", "number"];
const VARIED = [...NUMBERS, "choice"];

/** What a grid may vary, [[name, label], …]: the controls of one value, and words of the prompt. */
export const axisNames = (form) => [
  ...usedControls({ ...form, seed_locked: true })
    .filter((one) => VARIED.includes(one.type) && one.name !== "num_images")
    .map((one) => [one.name, labelOf(one)]),
  ...(form.mode === "anagram" ? [] : [["prompt", S.grid.prompt]]),
];

/** What the values of a control with choices are called; null for others. */
export const axisChoices = (name) =>
  control(name)?.type === "choice" ? choicesOf(control(name)).map(([, label]) => label) : null;

const MOST = 256; // values of a range

/** Numbers from one to another, as "1-5" or "10-50 (+10)" say; null for a text that is no range. */
function range(text) {
  const found = /^(-?[\d.]+)\s*[-–]\s*(-?[\d.]+)(?:\s*\(\+\s*([\d.]+)\))?$/.exec(text);
  if (!found) return null;
  const [from, to, by] = [Number(found[1]), Number(found[2]), Number(found[3] ?? 1)];
  const count = Math.floor((to - from) / by + 1e-9) + 1;
  if (!(count >= 1 && count <= MOST)) return null;
  return Array.from({ length: count }, (_, i) => String(Number((from + i * by).toPrecision(12))));
}

/**
 * @param {{name: string | null, text: string}} axis what was chosen and typed
 * @param {object} form the settings that hold for all cells
 * @returns {{label: string, values: {label: string, patch: object}[], error?: string}}
 */
export function parseAxis(axis, form) {
  const one = control(axis.name);
  if (!one) return NOTHING;
  const label = labelOf(one);
  const texts = axis.text
    .split(",")
    .map((text) => text.trim())
    .filter(Boolean);
  const fail = (error) => ({ label, values: texts.map((text) => ({ label: text, patch: {} })), error });
  if (!texts.length) return fail(S.grid.values0);
  if (axis.name === "prompt") {
    const [sought] = texts;
    if (!form.prompt.includes(sought)) return fail(S.grid.missing(sought));
    return {
      label,
      values: texts.map((text) => ({ label: text, patch: { prompt: form.prompt.replaceAll(sought, text) } })),
    };
  }
  const key = keyOf(one, form.mode);
  const values = [];
  for (const text of texts.flatMap((text) => (NUMBERS.includes(one.type) && range(text)) || [text])) {
    const { value, label, error } = read(one, text);
    if (error) return fail(error);
    values.push({ label, patch: { [key]: value } });
  }
  return { label, values };
}

/** The value that a text means for a control, by its own name or its label, or what is wrong with it. */
function read(one, text) {
  if (one.type === "choice") {
    const sought = text.toLowerCase();
    const [found] = choicesOf(one).filter(([value, label]) => [String(value ?? "none").toLowerCase(), label.toLowerCase()].includes(sought));
    return found ? { value: found[0], label: found[1] } : { error: S.grid.choice(text, axisChoices(one.name).join(", ")) };
  }
  const number = Number(text);
  if (Number.isNaN(number)) return { error: S.grid.number(text) };
  const wrong = checkValue(one, number);
  return wrong ? { error: `${text}: ${wrong}` } : { value: number, label: text };
}
