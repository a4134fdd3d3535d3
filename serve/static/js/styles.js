// Styles under the prompt: named texts that the server stores and puts around the prompts of a job.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { api, Problem } from "./api.js";
import { Area, IconButton } from "./fields.js";
import { html } from "./html.js";
import { change, form } from "./state.js";
import { S } from "./strings.js";

const styles = signal([]);

async function refresh() {
  styles.value = (await api.styles().catch(() => ({ styles: styles.value }))).styles;
}

const chosen = () => form.value.styles ?? [];

const toggle = (name) =>
  change({ styles: chosen().includes(name) ? chosen().filter((one) => one !== name) : [...chosen(), name] });

/** The styles that are chosen, each with a button that takes it away. */
export const ChosenStyles = () =>
  chosen().map(
    (name) => html`<span class="chip" key=${name}>${name}
      <${IconButton} icon="close" label=${S.styles.unchoose(name)} onClick=${() => toggle(name)} />
    </span>`,
  );

export function StylesPanel() {
  useEffect(() => {
    refresh();
  }, []);
  return html`
    <div class="panel">
      ${!styles.value.length && html`<p class="hint">${S.styles.none}</p>`}
      <ul class="candidates styles">
        ${styles.value.map((style) => html`<${Row} key=${style.name} style_=${style} />`)}
      </ul>
      <${NewStyle} />
    </div>
  `;
}

function Row({ style_: { name, prompt, negative_prompt: negative } }) {
  const remove = async () => {
    try {
      await api.removeStyle(name);
    } catch (problem) {
      if (problem.status !== 404) throw problem;
    }
    if (chosen().includes(name)) toggle(name);
    await refresh();
  };
  return html`
    <li>
      <button type="button" aria-pressed=${chosen().includes(name)} onClick=${() => toggle(name)}>
        <b dir="auto">${name}</b><small dir="auto">${[prompt, negative && S.styles.without(negative)].filter(Boolean).join(" · ")}</small>
      </button>
      <${IconButton} icon="trash" label=${S.styles.remove(name)} onClick=${remove} />
    </li>
  `;
}

/** A form for one more style, which begins as the prompt that stands there. */
function NewStyle() {
  const [draft, setDraft] = useState(null);
  const [wrong, setWrong] = useState(null);
  const set = (patch) => {
    setWrong(null);
    setDraft({ ...draft, ...patch });
  };
  if (!draft) {
    const start = () => setDraft({ name: "", prompt: form.value.prompt, negative_prompt: form.value.negative_prompt });
    return html`<button type="button" class="quiet" onClick=${start}>${S.styles.add}</button>`;
  }
  const save = async () => {
    const { name, ...texts } = draft;
    if (!name.trim()) {
      setWrong(S.styles.nameless);
      return;
    }
    try {
      await api.putStyle(name.trim(), texts);
      setDraft(null);
      await refresh();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      setWrong(problem.message);
    }
  };
  return html`
    <div class="group new-style">
      <div class="field">
        <label for="style-name">${S.styles.name}</label>
        <input type="text" id="style-name" maxlength="100" autocomplete="off" value=${draft.name} onInput=${(e) => set({ name: e.currentTarget.value })} />
      </div>
      <div class="field">
        <label for="style-prompt">${S.styles.prompt}</label>
        <${Area} id="style-prompt" rows="2" maxlength="4000" aria-describedby="style-hint" value=${draft.prompt} onInput=${(e) => set({ prompt: e.currentTarget.value })} />
        <p class="hint" id="style-hint">${S.styles.hint}</p>
      </div>
      <div class="field">
        <label for="style-negative">${S.styles.negative}</label>
        <${Area} id="style-negative" rows="1" maxlength="4000" value=${draft.negative_prompt} onInput=${(e) => set({ negative_prompt: e.currentTarget.value })} />
      </div>
      ${wrong && html`<p class="error" role="alert">${wrong}</p>`}
      <div class="row">
        <button type="button" class="primary" onClick=${save}>${S.styles.save}</button>
        <button type="button" class="quiet" onClick=${() => setDraft(null)}>${S.styles.cancel}</button>
      </div>
    </div>
  `;
}
