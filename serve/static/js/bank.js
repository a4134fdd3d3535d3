// The prompt bank under the prompt: random prompts, and matching with its candidates.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api, Problem } from "./api.js";
import { Choice, IconButton, Switch } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { change, dialog, errors, form } from "./state.js";
import { load, save } from "./storage.js";
import { S } from "./strings.js";

/** The names of the bank's categories, once they were asked for. */
export const categories = signal([]);
const choice = signal({ category: null, split: "train", ...load("random", {}) });
const bank = signal(load("bank", "train"));
/** Which panel is open: null, "random" or "match". */
export const panel = signal(null);
const found = signal(null); // null, "loading", {error} or {matches, prompt}
/** The text that a chosen candidate replaced. */
const replaced = signal(null);

export const SPLITS = Object.entries(S.prompt.splits);
const toggle = (name) => {
  panel.value = panel.value === name ? null : name;
};

export async function randomPrompt() {
  try {
    const drawn = await api.random({ category: choice.value.category, split: choice.value.split });
    replaced.value = null;
    change({ prompt: drawn.prompt });
  } catch (problem) {
    errors.value = { ...errors.value, prompt: problem.message };
  }
}

/** Opens the candidates for the prompt as it is. */
export async function matchPrompt() {
  panel.value = "match";
  const prompt = form.value.prompt.trim();
  if (!prompt) {
    found.value = null;
    return;
  }
  found.value = "loading";
  try {
    const { matches } = await api.match({ prompt, bank: bank.value, k: 5 });
    found.value = { matches, prompt };
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    found.value = { error: problem.message };
  }
}

/** Puts a prompt of the bank into the form. */
export function use(prompt) {
  replaced.value = form.value.prompt;
  change({ prompt });
}

export async function loadCategories() {
  const { categories: found } = await api.categories().catch(() => ({ categories: categories.value }));
  categories.value = found;
}

/** A category as it is shown. */
export const categoryName = (name) => name.replaceAll("_", " ");

/** Opens the whole bank. */
export function browse() {
  dialog.value = { name: "bank" };
}

/** The buttons under the prompt, and what they open. */
export function BankTools() {
  const open = panel.value;
  return html`
    <div class="tools">
      <span class="split-button">
        <button type="button" class="quiet" title=${S.prompt.randomTitle} onClick=${randomPrompt}><${Icon} name="dice" />${S.prompt.random}</button>
        <${IconButton} icon="down" label=${S.prompt.randomOptions} aria-expanded=${open === "random"} onClick=${() => {
          toggle("random");
        }} />
      </span>
      <button type="button" class="quiet" title=${S.prompt.matchTitle} aria-expanded=${open === "match"}
        onClick=${() => (open === "match" ? toggle("match") : matchPrompt())}>
        <${Icon} name="match" />${S.prompt.match}
      </button>
      <button type="button" class="quiet" title=${S.prompt.browseTitle} aria-haspopup="dialog" onClick=${browse}><${Icon} name="list" />${S.prompt.browse}</button>
      ${form.value.prompt_matching && html`<span class="chip">${S.prompt.automatic}</span>`}
      ${
        replaced.value !== null &&
        html`<button type="button" class="quiet end" onClick=${() => {
          change({ prompt: replaced.value });
          replaced.value = null;
        }}><${Icon} name="undo" />${S.prompt.swap}</button>`
      }
    </div>
    ${open === "random" && html`<${RandomPanel} />`} ${open === "match" && html`<${MatchPanel} />`}
  `;
}

function RandomPanel() {
  useEffect(() => {
    if (!categories.value.length) loadCategories();
  }, []);
  const set = (patch) => {
    choice.value = { ...choice.value, ...patch };
    save("random", choice.value);
  };
  const names = [
    [null, S.prompt.anyCategory],
    ...categories.value.map((name) => [name, categoryName(name)]),
  ];
  return html`
    <div class="panel pair">
      <div class="field">
        <label for="random-category">${S.prompt.category}</label>
        <${Choice} id="random-category" value=${choice.value.category} choices=${names} onChange=${(category) => set({ category })} />
      </div>
      <div class="field">
        <label for="random-split">${S.prompt.split}</label>
        <${Choice} id="random-split" value=${choice.value.split} choices=${SPLITS} onChange=${(split) => set({ split })} />
      </div>
    </div>
  `;
}

function MatchPanel() {
  const state = found.value;
  const setBank = (name) => {
    bank.value = name;
    save("bank", name);
    if (form.value.prompt_matching) change({ prompt_matching: name });
    matchPrompt();
  };
  return html`
    <div class="panel">
      <div class="field row">
        <label for="match-bank">${S.prompt.bank}</label>
        <${Choice} id="match-bank" value=${bank.value} choices=${SPLITS} onChange=${setBank} />
        <${IconButton} icon="reset" label=${S.prompt.matchTitle} onClick=${matchPrompt} />
      </div>
      <div aria-live="polite">
        ${state === null && html`<p class="hint">${S.prompt.matchEmpty}</p>`}
        ${state === "loading" && html`<p class="hint">${S.prompt.matching}</p>`}
        ${state?.error && html`<p class="error">${state.error}</p>`}
        ${state?.matches && !state.matches.length && html`<p class="hint">${S.prompt.matchNone}</p>`}
        ${state?.matches?.length > 0 && html`<p class="hint">${S.prompt.matchHint}</p>`}
      </div>
      ${state?.matches?.length > 0 && html`<${Candidates} matches=${state.matches} />`}
      <${Switch} label=${S.prompt.automatic} checked=${form.value.prompt_matching !== null}
        onChange=${(on) => change({ prompt_matching: on ? bank.value : null })} />
    </div>
  `;
}

const Candidates = ({ matches }) => html`
  <ol class="candidates">
    ${matches.map(
      ({ prompt, score }) => html`
        <li key=${prompt}>
          <button type="button" title=${S.prompt.matchUse(prompt)}
            aria-pressed=${form.value.prompt === prompt} onClick=${() => use(prompt)}>
            <span>${prompt}</span>
            <span class="score">${score.toFixed(2)}</span>
            <meter min="0" max="1" value=${score} aria-hidden="true"></meter>
          </button>
        </li>
      `,
    )}
  </ol>
`;
