// A ControlNet and the picture that it follows.
import { useRef } from "preact/hooks";
import { choicesOf, labelOf } from "./controls.js";
import { ErrorText, Select } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { change, errors, form } from "./state.js";
import { S } from "./strings.js";
import { plain, upload, uploads } from "./uploads.js";

/** Which one, and its picture; nothing where the server has none. */
export function ControlNet({ one }) {
  if (!one.choices.length) return null;
  return html`
    <${Select} name="controlnet" label=${labelOf(one)} choices=${choicesOf(one)} />
    ${form.value.controlnet !== null && html`<${Picture} />`}
  `;
}

const take = (file) => file && upload("control_image", file, (stored) => change({ control_image: plain(stored) }));

function Picture() {
  const input = useRef(null);
  const sent = uploads.value.control_image;
  const image = sent ?? form.value.control_image;
  const choose = () => input.current.click();
  return html`
    <div class="field">
      <span class="label">${S.control.picture}</span>
      <input ref=${input} class="visually-hidden" id="control-file" type="file" accept="image/png,image/jpeg,image/webp" tabindex="-1" aria-label=${S.control.choose}
        onChange=${(e) => {
          take(e.currentTarget.files[0]);
          e.currentTarget.value = "";
        }} />
      ${
        image &&
        html`<span class="thumb" data-busy=${Boolean(sent)}>
          <img src=${image.url} alt=${S.control.picture} onError=${() => !sent && change({ control_image: null })} />
        </span>`
      }
      ${sent && html`<p class="hint" role="status">${S.source.sending}</p>`}
      <button type="button" class=${image ? "secondary" : "dropzone"} aria-invalid=${errors.value.control_image ? "true" : undefined} onClick=${choose}>
        <${Icon} name="image" /><span>${S.control.choose}</span>
      </button>
      <${ErrorText} name="control_image" />
    </div>
  `;
}
