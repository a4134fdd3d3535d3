// The prompts that were sent, kept in this browser: recalled from a list under the prompt.
import { signal } from "@preact/signals";
import { html } from "./html.js";
import { use } from "./prompt_text.js";
import { form } from "./state.js";
import { load, save } from "./storage.js";
import { S } from "./strings.js";

const KEPT = 100;
const SHOWN = 30;

const sent = signal(load("history", []));
const sought = signal("");

function store(prompts) {
  sent.value = prompts.slice(0, KEPT);
  save("history", sent.value);
}

/** Puts a prompt first in the list. */
export function remember(prompt) {
  const text = prompt?.trim();
  if (text) store([text, ...sent.value.filter((one) => one !== text)]);
}

export function EarlierPanel() {
  const found = sent.value.filter((prompt) => prompt.toLowerCase().includes(sought.value.trim().toLowerCase()));
  return html`
    <div class="panel">
      <div class="field row">
        <input type="search" aria-label=${S.earlier.search} placeholder=${S.gallery.search} value=${sought.value}
          onInput=${(e) => {
            sought.value = e.currentTarget.value;
          }} />
        <button type="button" class="quiet" disabled=${!sent.value.length} onClick=${() => store([])}>${S.earlier.clear}</button>
      </div>
      ${!found.length && html`<p class="hint">${S.earlier.none}</p>`}
      <ol class="candidates recalled">
        ${found.slice(0, SHOWN).map(
          (prompt) => html`<li key=${prompt}>
            <button type="button" dir="auto" aria-pressed=${form.value.prompt === prompt} onClick=${() => use(prompt)}><span>${prompt}</span></button>
          </li>`,
        )}
      </ol>
    </div>
  `;
}
