// The composer: what to make, from which words or picture, with which settings.
import { Readings } from "./anagram.js";
import { PromptTools } from "./bank.js";
import { control } from "./controls.js";
import { Endless } from "./endless.js";
import { Area, described, Field } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { active, generate, sending } from "./jobs.js";
import { Settings } from "./settings.js";
import { Region, Source, SourceSettings } from "./source.js";
import { change, dialog, errors, form, MODES } from "./state.js";
import { S } from "./strings.js";
import { Tokens } from "./tokens.js";

const ICONS = { txt2img: "text", img2img: "image", inpaint: "brush", anagram: "turn", upscale: "enlarge" };

function Modes() {
  return html`
    <fieldset class="modes">
      <legend class="visually-hidden">${S.modesLabel}</legend>
      ${MODES.map(
        (mode) => html`
          <label key=${mode} title=${S.modes[mode].title}>
            <input type="radio" name="mode" value=${mode} checked=${form.value.mode === mode} onChange=${() => change({ mode })} />
            <span><${Icon} name=${ICONS[mode]} />${S.modes[mode].label}</span>
          </label>
        `,
      )}
    </fieldset>
  `;
}

/** One of the job's texts, with what the model makes of its length and syntax. */
const Text = ({ name, label, placeholder, rows }) => html`
  <${Field} name=${name} label=${label}>
    <${Area} ...${described(name)} rows=${rows} placeholder=${placeholder} maxlength=${control(name).maximum} value=${form.value[name]}
      onInput=${(e) => change({ [name]: e.currentTarget.value })} />
    <${Tokens} name=${name} text=${form.value[name]} />
  <//>
`;

export function Composer() {
  const { mode } = form.value;
  const prompted = mode !== "anagram" && mode !== "upscale";
  const submit = (event) => {
    event.preventDefault();
    generate();
  };
  return html`
    <form class="composer" id="composer" onSubmit=${submit} novalidate aria-label=${S.modesLabel}>
      <div class="composer-scroll">
        <${Modes} />
        <section class="group" aria-label=${S.modes[mode].title}>
          ${mode === "inpaint" && html`<${Region} />`}
          ${["img2img", "inpaint", "upscale"].includes(mode) && html`<${Source} />`}
          ${
            prompted &&
            html`<div class="prompt">
              <${Text} name="prompt" label=${S.prompt.label} placeholder=${S.prompt.placeholder} rows=${3} />
              <${PromptTools} />
            </div>`
          }
          ${mode === "anagram" && html`<${Readings} />`}
          ${mode !== "upscale" && html`<${Text} name="negative_prompt" label=${S.prompt.negative} placeholder=${S.prompt.negativePlaceholder} rows=${1} />`}
          <${SourceSettings} />
        </section>
        <${Settings} />
      </div>
      <${Submit} />
    </form>
  `;
}

function Submit() {
  const { mode } = form.value;
  const wrong = errors.value.form;
  const others = Object.keys(errors.value).length > 0 && !wrong;
  return html`
    <div class="submit">
      ${wrong && html`<p class="error form-error" role="alert" tabindex="-1">${wrong}</p>`}
      <div class="submit-row">
        <button type="submit" class="primary large" id="generate" disabled=${sending.value} aria-keyshortcuts="Control+Enter" data-wrong=${others}>
          <${Icon} name=${ICONS[mode]} />${sending.value ? S.run.sending : active.value.length ? S.run.queue : mode === "upscale" ? S.modes.upscale.label : S.run.generate}
        </button>
        <${Endless} />
        ${
          mode !== "upscale" &&
          html`<button type="button" class="secondary large" title=${S.grid.title} aria-label=${S.grid.open} onClick=${() => {
            dialog.value = { name: "grid" };
          }}><${Icon} name="grid" /></button>`
        }
      </div>
    </div>
  `;
}
