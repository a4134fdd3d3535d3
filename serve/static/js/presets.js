// Named settings: three that come with the page, and the user's own, kept in this browser.
import { signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { control, keyOf, presetNames } from "./controls.js";
import { IconButton } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { change, form, model, notify } from "./state.js";
import { load, save } from "./storage.js";
import { S } from "./strings.js";

const BUILT_IN = {
  draft: { num_inference_steps: 8, guidance_scale: 2.5, solver: "dpmpp_2m" },
  balanced: { num_inference_steps: 20, guidance_scale: 2.5, solver: "dpmpp_2m" },
  fine: { num_inference_steps: 60, guidance_scale: 3.5, solver: "dpmpp_2m" },
};

/** All fields of a preset that comes with the page: also those that Fast weights bring. */
const complete = (settings) => ({ ...settings, weights: model.value?.weights[0] ?? "ema", spacing: null });

/** The form's fields that a preset keeps: how pictures are made, not what they show. */
const kept = (form) =>
  Object.fromEntries(
    presetNames()
      .flatMap((name) => [name, ...Object.keys(control(name).kind_defaults).map((kind) => keyOf(control(name), kind))])
      .map((key) => [key, form[key]]),
  );

const own = signal(load("presets", {}));

const store = (presets) => {
  own.value = presets;
  save("presets", presets);
};

/** The menu of presets. */
export function Presets() {
  const details = useRef(null);
  const use = (name, settings) => {
    change(settings);
    details.current.open = false;
    details.current.querySelector("summary").focus();
    notify(S.presets.used(name));
  };
  const add = (event) => {
    event.preventDefault();
    const input = event.currentTarget.elements.preset;
    const name = input.value.trim();
    if (!name) return;
    store({ ...own.value, [name]: kept(form.value) });
    input.value = "";
  };
  return html`
    <details class="menu" ref=${details} onFocusOut=${(e) => {
      if (!e.currentTarget.contains(e.relatedTarget) && e.relatedTarget) e.currentTarget.open = false;
    }}>
      <summary class="quiet"><${Icon} name="bookmark" />${S.presets.label}<${Icon} name="down" /></summary>
      <div class="menu-body">
        <ul>
          ${Object.entries(BUILT_IN).map(
            ([
              key,
              settings,
            ]) => html`<li key=${key}><button type="button" onClick=${() => use(S.presets.builtin[key], complete(settings))}>
              ${S.presets.builtin[key]}<small>${settings.num_inference_steps} ${S.controls.num_inference_steps.label.toLowerCase()}</small>
            </button></li>`,
          )}
          ${Object.entries(own.value).map(
            ([name, settings]) => html`<li key=${`own ${name}`}>
              <button type="button" onClick=${() => use(name, settings)}>${name}<small>${settings.num_inference_steps} ${S.controls.num_inference_steps.label.toLowerCase()}</small></button>
              <${IconButton} icon="close" label=${S.presets.remove(name)} onClick=${() => {
                const { [name]: _, ...rest } = own.value;
                store(rest);
              }} />
            </li>`,
          )}
        </ul>
        <form onSubmit=${add}>
          <input type="text" name="preset" maxlength="40" autocomplete="off" aria-label=${S.presets.name} placeholder=${S.presets.save} />
          <button type="submit" class="secondary">${S.presets.add}</button>
        </form>
      </div>
    </details>
  `;
}
