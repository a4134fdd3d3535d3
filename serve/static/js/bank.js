// The tools under the prompt: random prompts, matching, the whole bank, styles, earlier prompts, a file of them.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { api } from "./api.js";
import { Choice, IconButton } from "./fields.js";
import { Insertions } from "./insertions.js";
import { EarlierPanel } from "./earlier.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { isOpen, MatchPanel, matchPrompt } from "./match.js";
import { FilePanel, openFile, opened } from "./prompt_file.js";
import { takeBack, typed, use } from "./prompt_text.js";
import { dialog, errors, form } from "./state.js";
import { load, save } from "./storage.js";
import { S } from "./strings.js";
import { ChosenStyles, StylesPanel } from "./styles.js";

/** The names of the bank's categories, once they were asked for. */
export const categories = signal([]);
const choice = signal({ category: null, split: "train", ...load("random", {}) });
/** Which of the panels without a state of their own is open: null, "random", "earlier" or "styles". */
const panel = signal(null);
const toggle = (name) => {
  panel.value = panel.value === name ? null : name;
};

export const SPLITS = Object.entries(S.prompt.splits);

export async function randomPrompt() {
  try {
    const drawn = await api.random({ category: choice.value.category, split: choice.value.split });
    use(drawn.prompt);
  } catch (problem) {
    errors.value = { ...errors.value, prompt: problem.message };
  }
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
export function PromptTools() {
  const file = useRef(null);
  return html`
    <div class="tools">
      <span class="split-button">
        <button type="button" class="quiet" title=${S.prompt.randomTitle} onClick=${randomPrompt}><${Icon} name="dice" />${S.prompt.random}</button>
        <${IconButton} icon="down" label=${S.prompt.randomOptions} aria-expanded=${panel.value === "random"} onClick=${() => toggle("random")} />
      </span>
      <button type="button" class="quiet" title=${S.prompt.matchTitle} aria-expanded=${isOpen.value} onClick=${matchPrompt}>
        <${Icon} name="match" />${S.prompt.match}
      </button>
      <button type="button" class="quiet" title=${S.prompt.browseTitle} aria-haspopup="dialog" onClick=${browse}><${Icon} name="list" />${S.prompt.browse}</button>
      ${
        typed.value !== null &&
        html`<${IconButton} icon="undo" class="end" label=${S.prompt.swap} title=${S.prompt.swapTitle(typed.value)} onClick=${takeBack} />`
      }
    </div>
    <div class="tools">
      <${Opener} name="styles" icon="palette" label=${S.styles.title} />
      <${Opener} name="earlier" icon="clock" label=${S.earlier.title} />
      <button type="button" class="quiet" title=${S.file.openTitle} onClick=${() => file.current.click()}><${Icon} name="file" />${S.file.open}</button>
      <input ref=${file} class="visually-hidden" id="prompt-file" type="file" accept="text/plain,.txt" tabindex="-1" aria-label=${S.file.openTitle}
        onChange=${(e) => {
          if (e.currentTarget.files[0]) openFile(e.currentTarget.files[0]);
          e.currentTarget.value = "";
        }} />
      <${Insertions} />
    </div>
    ${(form.value.prompt_matching || form.value.styles?.length > 0) && html`<div class="chips">${form.value.prompt_matching && html`<span class="chip">${S.prompt.automatic}</span>`}<${ChosenStyles} /></div>`}
    ${isOpen.value && html`<${MatchPanel} />`}
    ${panel.value && html`<${PANELS[panel.value]} />`} ${opened.value && html`<${FilePanel} />`}
  `;
}

const Opener = ({ name, icon, label }) => html`
  <button type="button" class="quiet" aria-expanded=${panel.value === name} onClick=${() => toggle(name)}><${Icon} name=${icon} />${label}</button>
`;

const PANELS = { random: RandomPanel, earlier: EarlierPanel, styles: StylesPanel };

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
