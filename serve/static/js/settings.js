// The settings: the widgets of all controls that a job has a use for, in order.
import { effect, signal } from "@preact/signals";
import { control, controlsOf, hintOf, isContent, keyOf, labelOf } from "./controls.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { Presets } from "./presets.js";
import { usedControls } from "./request.js";
import { change, defaults, errors, form, notify } from "./state.js";
import { S } from "./strings.js";
import { Widget } from "./widgets.js";

/** On a phone the settings would stand between the prompt and its picture. */
const open = signal(matchMedia("(min-width: 761px)").matches);
const advanced = signal(false);
const sought = signal("");

/** The usual order; controls that are not here follow in that of their declaration. */
const ORDER = [
  "num_inference_steps",
  "guidance_scale",
  "num_images",
  "solver",
  "weights",
  "seed",
  "model",
  "width",
  "upscale",
  "upscaler",
];
/** Controls with a place of their own outside the settings; and those that upscaling has there. */
const ELSEWHERE = ["prompt", "negative_prompt", "prompt_matching", "styles", "strength", "mask_feather", "crop_position", "outpaint", "anagram", "height"];
const LAST = ["preview", "output"]; // groups

const place = (one) =>
  ORDER.includes(one.name) ? ORDER.indexOf(one.name) : ORDER.length + LAST.indexOf(one.group);

const isElsewhere = ({ name }) =>
  ELSEWHERE.includes(name) || (form.value.mode === "upscale" && name.startsWith("upscale"));

/** The controls of the settings that a form has a use for, in order. */
const shown = (isAdvanced) =>
  usedControls({ ...form.value, seed_locked: true })
    .filter((one) => one.advanced === isAdvanced && !isElsewhere(one))
    .sort((a, b) => place(a) - place(b));

/** What is wrong is shown. */
effect(() => {
  const wrong = controlsOf(form.value.mode).filter((one) => keyOf(one, form.value.mode) in errors.value);
  if (wrong.some((one) => one.advanced)) {
    advanced.value = true;
    sought.value = "";
  }
  if (wrong.some((one) => !isElsewhere(one))) open.value = true;
});

/** All settings of a kind of job. */
export function Settings() {
  return html`
    <section class="group" aria-labelledby="settings-title">
      <div class="group-head">
        <h2 id="settings-title">
          <button type="button" class="disclosure" aria-expanded=${open.value} onClick=${() => {
            open.value = !open.value;
          }}>${S.settings.title}</button>
        </h2>
        ${form.value.mode !== "upscale" && html`<${Presets} />`}
      </div>
      ${open.value && html`<${AllSettings} />`}
    </section>
  `;
}

function AllSettings() {
  const pair = ["solver", "weights"].filter((name) => control(name).kinds.includes(form.value.mode));
  const widget = (one) => html`<${Widget} key=${one.name} one=${one} />`;
  const single = shown(false).filter((one) => !pair.includes(one.name));
  const before = single.filter((one) => place(one) < ORDER.indexOf("solver"));
  return html`
    <div class="group">
      ${before.map(widget)}
      ${pair.length > 0 && html`<div class="pair">${pair.map((name) => widget(control(name)))}</div>`}
      ${single.filter((one) => !before.includes(one)).map(widget)}
      <${Advanced} />
    </div>
  `;
}

/** Whether a control is about all words that are sought, by what the page and its declaration say of it. */
function isSought(one) {
  const said = [labelOf(one), hintOf(one), S.settings.groups[one.group], one.name, one.help].join(" ").toLowerCase();
  return sought.value.toLowerCase().split(/\s+/).every((word) => said.includes(word));
}

/** What is seldom touched, by groups; the closed part says how much of it was. */
function Advanced() {
  const used = shown(true);
  const isChanged = (key) => JSON.stringify(form.value[key]) !== JSON.stringify(defaults.value[key]);
  const changed = used.filter((one) => isChanged(keyOf(one, form.value.mode)));
  const groups = Map.groupBy(used.filter(isSought), (one) => one.group);
  return html`
    <details class="advanced" open=${advanced.value} onToggle=${(e) => {
      advanced.value = e.currentTarget.open;
    }}>
      <summary>${S.settings.advanced}${changed.length > 0 && html`<span class="count">${S.settings.changed(changed.length)}</span>`}</summary>
      <div class="group">
        <span class="search">
          <${Icon} name="search" />
          <input type="search" id="settings-search" aria-label=${S.settings.search} placeholder=${S.settings.search} autocomplete="off" value=${sought.value}
            onInput=${(e) => {
              sought.value = e.currentTarget.value;
            }} />
        </span>
        ${[...groups].map(
          ([name, controls]) => html`
            <section class="group" key=${name} aria-label=${S.settings.groups[name] ?? name}>
              <h3>${S.settings.groups[name] ?? name}</h3>
              ${controls.map((one) => html`<div key=${one.name} data-control=${one.name}><${Widget} one=${one} /></div>`)}
            </section>
          `,
        )}
        ${groups.size === 0 && html`<p class="hint">${S.settings.nothing(sought.value)}</p>`}
        <button type="button" class="quiet" onClick=${reset}>${S.settings.reset}</button>
      </div>
    </details>
  `;
}

const KEPT = ["mode", "image", "region", "mask"];

function reset() {
  const fields = Object.entries(defaults.value).filter(([key]) => !KEPT.includes(key) && !isContent(key));
  change(Object.fromEntries(fields));
  notify(S.settings.resetDone);
}
