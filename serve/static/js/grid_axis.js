// The text of a grid's axis as values; a pure function.
import { LIMITS } from "./request.js";
import { S } from "./strings.js";

const NOTHING = { label: "", values: [{ label: "", patch: {} }] };

/**
 * @param {{name: string | null, text: string}} axis what was chosen and typed
 * @param {object} form the settings that hold for all cells
 * @param {{solver?: string[], weights?: string[]}} choices what there is
 * @returns {{label: string, values: {label: string, patch: object}[], error?: string}}
 */
export function parseAxis(axis, form, choices) {
  if (!axis.name) return NOTHING;
  const label = S.grid.parameters[axis.name];
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
      label: S.prompt.label,
      values: texts.map((text) => ({ label: text, patch: { prompt: form.prompt.replaceAll(sought, text) } })),
    };
  }
  const allowed = { solver: choices.solver, weights: choices.weights }[axis.name];
  const values = [];
  for (const text of texts) {
    if (allowed) {
      if (!allowed.includes(text)) return fail(S.grid.choice(text, allowed.join(", ")));
      values.push({ label: text, patch: { [axis.name]: text } });
      continue;
    }
    const number = Number(text);
    const [low, high, whole] = LIMITS[axis.name];
    if (Number.isNaN(number)) return fail(S.grid.number(text));
    if (number < low || number > high) return fail(`${text}: ${S.errors.range(low, high)}`);
    if (whole && !Number.isInteger(number)) return fail(`${text}: ${S.errors.whole}`);
    values.push({ label: text, patch: { [axis.name]: number } });
  }
  return { label, values };
}
