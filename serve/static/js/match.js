// Matching under the prompt: its nearest neighbours in the bank, which follow what is typed.
import { computed, effect, signal } from "@preact/signals";
import { api, Problem } from "./api.js";
import { Choice, IconButton, Switch } from "./fields.js";
import { html } from "./html.js";
import { use } from "./prompt_text.js";
import { change, form } from "./state.js";
import { load, save } from "./storage.js";
import { S } from "./strings.js";

const PAUSE_MS = 400; // after the last key
const START = { bank: "train", k: 5, temperature: 0, min_similarity: null }; // null: as the server usually does

const choice = signal({ ...START, ...load("match", {}) });
export const isOpen = signal(false);
/** null, "loading", {error} or the server's answer, with the `prompt` that was `asked` about. */
const found = signal(null);
const prompt = computed(() => form.value.prompt?.trim() ?? "");
let latest = 0;

/** Opens the candidates for the prompt as it is; asked again, a draw by temperature is a new one. */
export async function matchPrompt() {
  isOpen.value = true;
  const mine = ++latest;
  const asked = prompt.peek();
  if (!asked) {
    found.value = null;
    return;
  }
  if (!found.peek()?.matches) found.value = "loading";
  let answer;
  try {
    answer = { ...(await api.match({ prompt: asked, ...choice.peek() })), asked };
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    answer = { error: problem.message };
  }
  if (mine === latest) found.value = answer;
}

/** Edits are followed while the panel is open; a candidate that was taken leaves the others to choose from. */
const taken = (text) => [found.peek()?.asked, ...(found.peek()?.matches ?? []).map((one) => one.prompt)].includes(text);
let typing = 0;
effect(() => {
  const text = prompt.value;
  clearTimeout(typing);
  if (isOpen.peek() && !taken(text)) typing = setTimeout(matchPrompt, PAUSE_MS);
});

function set(patch) {
  choice.value = { ...choice.value, ...patch };
  save("match", choice.value);
  if (patch.bank && form.value.prompt_matching) change({ prompt_matching: patch.bank });
  clearTimeout(typing);
  typing = setTimeout(matchPrompt, "bank" in patch ? 0 : PAUSE_MS);
}

const SPLITS = Object.entries(S.prompt.splits);

export function MatchPanel() {
  const state = found.value;
  const few = state?.matches && !state.matched;
  return html`
    <div class="panel">
      <div class="field row">
        <label for="match-bank">${S.prompt.bank}</label>
        <${Choice} id="match-bank" value=${choice.value.bank} choices=${SPLITS} onChange=${(bank) => set({ bank })} />
        <${IconButton} icon="close" label=${S.prompt.matchClose} onClick=${() => {
          isOpen.value = false;
        }} />
      </div>
      <div class="numbers">
        <${Amount} name="k" min=${1} max=${100} step=${1} />
        <${Amount} name="temperature" min=${0} max=${100} step=${0.1} />
        <${Amount} name="min_similarity" min=${-1} max=${1} step=${0.01} />
      </div>
      <div aria-live="polite">
        ${state === null && html`<p class="hint">${S.prompt.matchEmpty}</p>`}
        ${state === "loading" && html`<p class="hint">${S.prompt.matching}</p>`}
        ${state?.error && html`<p class="error">${state.error}</p>`}
        ${state?.matches && html`<p class="hint">${!state.matches.length ? S.prompt.matchNone : few ? S.prompt.matchFar : S.prompt.matchHint}</p>`}
      </div>
      ${state?.matches?.length > 0 && html`<${Candidates} state=${state} />`}
      <${Switch} label=${S.prompt.automatic} checked=${form.value.prompt_matching !== null}
        onChange=${(on) => change({ prompt_matching: on ? choice.value.bank : null })} />
    </div>
  `;
}

/** A small box for one of the numbers; what is out of its range is not asked about. */
function Amount({ name, ...bounds }) {
  const [label, title] = S.prompt.matchBy[name];
  const onInput = ({ currentTarget: box }) =>
    box.validity.valid && set({ [name]: box.value === "" ? START[name] : box.valueAsNumber });
  return html`
    <label class="number-at" title=${title}>${label}
      <input class="number small" type="number" inputmode="decimal" autocomplete="off" ...${bounds} value=${choice.value[name]}
        placeholder=${START[name] ?? S.prompt.usual} onInput=${onInput} />
    </label>
  `;
}

const Candidates = ({ state }) => html`
  <ol class="candidates">
    ${state.matches.map(
      ({ prompt, score, probability }) => html`
        <li key=${prompt}>
          <button type="button" title=${S.prompt.matchUse(prompt)} data-drawn=${choice.value.temperature > 0 && state.matched && prompt === state.prompt}
            aria-pressed=${form.value.prompt === prompt} onClick=${() => use(prompt)}>
            <span>${prompt}</span>
            <span class="score">${score.toFixed(2)}${choice.value.temperature > 0 && html`<small>${Math.round(100 * probability)}%</small>`}</span>
            <meter min="0" max="1" value=${score} aria-hidden="true"></meter>
          </button>
        </li>
      `,
    )}
  </ol>
`;
