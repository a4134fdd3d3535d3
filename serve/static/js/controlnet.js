// A ControlNet and the picture that it follows.
import { useRef } from "preact/hooks";
import { api, Problem } from "./api.js";
import { choicesOf, labelOf } from "./controls.js";
import { ErrorText, Select } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { change, errors, form, notify } from "./state.js";
import { S } from "./strings.js";

/** Which one, and its picture; nothing where the server has none. */
export function ControlNet({ one }) {
  if (!one.choices.length) return null;
  return html`
    <${Select} name="controlnet" label=${labelOf(one)} choices=${choicesOf(one)} />
    ${form.value.controlnet !== null && html`<${Picture} />`}
  `;
}

async function take(file) {
  if (!file) return;
  try {
    change({ control_image: await api.upload(file) });
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    notify(problem.status === 422 ? S.drop.not : problem.message, "error");
  }
}

function Picture() {
  const input = useRef(null);
  const image = form.value.control_image;
  const choose = () => input.current.click();
  return html`
    <div class="field">
      <span class="label">${S.control.picture}</span>
      <input ref=${input} class="visually-hidden" id="control-file" type="file" accept="image/png,image/jpeg,image/webp" tabindex="-1" aria-label=${S.control.choose}
        onChange=${(e) => {
          take(e.currentTarget.files[0]);
          e.currentTarget.value = "";
        }} />
      ${image && html`<img class="thumb" src=${image.url} alt=${S.control.picture} onError=${() => change({ control_image: null })} />`}
      <button type="button" class=${image ? "secondary" : "dropzone"} aria-invalid=${errors.value.control_image ? "true" : undefined} onClick=${choose}>
        <${Icon} name="image" /><span>${S.control.choose}</span>
      </button>
      <${ErrorText} name="control_image" />
    </div>
  `;
}
