// The settings: a widget for every control, by its type or by its name.
import { effect, signal } from "@preact/signals";
import { choicesOf, control, controlsOf, hintOf, isContent, keyOf, labelOf } from "./controls.js";
import { ControlNet } from "./controlnet.js";
import {
  Area,
  described,
  ErrorText,
  Field,
  IconButton,
  NumberAt,
  NumberInput,
  Segmented,
  Select,
  Slider,
  Switch,
} from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { Presets } from "./presets.js";
import { usedControls } from "./request.js";
import { change, defaults, errors, form, model, notify, options } from "./state.js";
import { S } from "./strings.js";
import { Tokens } from "./tokens.js";
import { chooseModel, chooseWeights } from "./weights.js";

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
/** The usual part of wide ranges, for the slider: [least, most, step]. The box beside it has all. */
const USUAL = {
  num_inference_steps: [1, 100, 1],
  guidance_scale: [1, 15, 0.1],
  num_images: [1, 16, 1],
  autoguidance_scale: [0, 5, 0.1],
  reuse_every: [1, 10, 1],
  preview_every: [1, 20, 1],
  apg_momentum: [-1, 1, 0.05],
  clip_skip: [0, 4, 1],
  variation_seed: [0, 1000, 1],
};
const FEW = 4; // choices that stand side by side

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

const drawSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** Locks the seed last used, or frees it. */
export function toggleSeed() {
  const { seed, seed_locked: locked } = form.value;
  change(locked ? { seed_locked: false } : { seed_locked: true, seed: seed ?? drawSeed() });
}

function Seed({ one }) {
  const { seed, seed_locked: locked } = form.value;
  const last = !locked && seed !== null && !Number.isNaN(seed);
  return html`
    <${Field} name="seed" label=${labelOf(one)}>
      <div class="seed">
        ${
          locked
            ? html`<${NumberInput} name="seed" min=${one.minimum} max=${one.maximum} />`
            : html`<input ...${described("seed")} class="number" readonly value="" placeholder=${S.settings.seedRandom} />`
        }
        <${IconButton} icon=${locked ? "lock" : "unlock"} label=${locked ? S.settings.seedUnlock : S.settings.seedLock} aria-pressed=${locked} onClick=${toggleSeed} />
        <${IconButton} icon="dice" label=${S.settings.seedDraw} onClick=${() => change({ seed: drawSeed(), seed_locked: true })} />
        <${IconButton} icon="back" label=${last ? `${S.settings.seedReuse}: ${seed}` : S.settings.seedReuse} disabled=${!last} onClick=${() => change({ seed_locked: true })} />
      </div>
    <//>
  `;
}

function Model({ one }) {
  const models = options.value.models;
  return models.length > 1
    ? html`<${Select} name="model" label=${labelOf(one)} choices=${models.map((m) => [m.default ? null : m.name, m.title])} onChange=${chooseModel} />`
    : null;
}

function Weights({ one }) {
  return html`<${Segmented} name="weights" label=${labelOf(one)} choices=${choicesOf(one)} onChange=${chooseWeights} />`;
}

/** Width and height in one: those that the server makes with the chosen model. */
function Size({ one }) {
  const sizes = model.value?.sizes ?? [];
  const { width, height } = form.value;
  if (sizes.length < 2 && width === null && height === null) return null;
  const own = model.value?.size;
  const text = ([w, h]) => `${w}x${h}`;
  const current = text([width ?? own, height ?? own]);
  const choices = sizes.map((size) => [text(size), S.settings.size(...size)]);
  if (!choices.some(([value]) => value === current)) choices.push([current, S.settings.size(width ?? own, height ?? own)]);
  const choose = (value) => {
    const [w, h] = value.split("x").map(Number);
    change(w === own && h === own ? { width: null, height: null } : { width: w, height: h });
  };
  return html`<${Select} name="width" label=${labelOf(one)} value=${current} choices=${choices} onChange=${choose} /><${ErrorText} name="height" />`;
}

const SourcePrompt = ({ one }) => html`
  <${Field} name=${one.name} label=${labelOf(one)}>
    <${Area} ...${described(one.name)} rows="1" maxlength=${one.maximum} value=${form.value[one.name]}
      onInput=${(e) => change({ [one.name]: e.currentTarget.value })} />
    <${Tokens} text=${form.value[one.name]} />
  <//>
`;

/** Only where something is enlarged. */
const Upscaler = ({ one }) => (form.value.upscale ? html`<${Generic} one=${one} />` : null);

/** Widgets by name, for controls whose type does not say enough. */
const SPECIAL = {
  seed: Seed,
  model: Model,
  weights: Weights,
  width: Size,
  upscaler: Upscaler,
  controlnet: ControlNet,
  source_prompt: SourcePrompt,
};

/** A widget by the control's type. */
function Generic({ one }) {
  const name = keyOf(one, form.value.mode);
  const [label, hint] = [labelOf(one), hintOf(one)];
  const [low, high] = [one.minimum, one.maximum];
  switch (one.type) {
    case "integer":
    case "number": {
      if (one.optional) return html`<${Optional} one=${one}><${NumberInput} name=${name} label=${label} min=${low} max=${high} step="any" /><//>`;
      const whole = one.type === "integer";
      const [least, most, step] = USUAL[one.name] ?? [low, high, whole ? 1 : (high - low) / 20];
      const top = Math.min(most, high);
      return html`<${Slider} name=${name} label=${label} hint=${hint} min=${Math.max(least, low)} max=${top} step=${step} least=${low} most=${high} />`;
    }
    case "integers":
    case "numbers": {
      const at = { name, hint: Boolean(hint), min: low, max: high, step: one.type === "integers" ? 1 : 0.05 };
      const parts = S.controls[one.name]?.parts ?? [];
      return html`
        <${Optional} one=${one}>
          <div class="interval">
            ${Array.from({ length: one.length }, (_, i) => html`<${NumberAt} key=${i} ...${at} index=${i} label=${parts[i] ?? i + 1} />`)}
          </div>
        <//>
      `;
    }
    case "boolean":
      return html`<${Switch} label=${label} checked=${form.value[name]} onChange=${(on) => change({ [name]: on })} />`;
    case "choice": {
      const choices = choicesOf(one);
      const Widget = choices.length <= FEW && one.name !== "spacing" ? Segmented : Select;
      return html`<${Widget} name=${name} label=${label} hint=${hint} choices=${choices} />`;
    }
    case "text":
      return html`
        <${Field} name=${name} label=${label} hint=${hint}>
          <input type="text" ...${described(name, hint)} maxlength=${one.maximum} value=${form.value[name] ?? ""}
            onInput=${(e) => change({ [name]: e.currentTarget.value || one.default })} />
        <//>
      `;
    default:
      return null; // pairs have a widget of their own
  }
}

/** What an optional control is when it is switched on. */
const START = {
  guidance_interval: [0.2, 0.9],
  apg_norm_threshold: 10,
  original_size: [1024, 1024],
  target_size: [1024, 1024],
};
const startOf = (one) => START[one.name] ?? (one.length ? Array(one.length).fill(one.minimum) : one.minimum);

/** A control that may be off, as a switch with the rest below it. */
function Optional({ one, children }) {
  const name = keyOf(one, form.value.mode);
  const on = form.value[name] !== null;
  const hint = hintOf(one);
  return html`
    <div class="field">
      <${Switch} label=${labelOf(one)} checked=${on} onChange=${(yes) => change({ [name]: yes ? startOf(one) : null })} />
      ${on && children}
      ${on && hint && html`<p class="hint" id=${`h-${name}`}>${hint}</p>`}
      <${ErrorText} name=${name} />
    </div>
  `;
}

function Widget({ one }) {
  const Special = SPECIAL[one.name] ?? Generic;
  return html`<${Special} one=${one} />`;
}

/** All settings of a kind of job that samples. */
export function Settings() {
  return html`
    <section class="group" aria-labelledby="settings-title">
      <div class="group-head">
        <h2 id="settings-title">
          <button type="button" class="disclosure" aria-expanded=${open.value} onClick=${() => {
            open.value = !open.value;
          }}>${S.settings.title}</button>
        </h2>
        <${Presets} />
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

const KEPT = ["mode", "image", "region", "mask", "crop_position"];

function reset() {
  const fields = Object.entries(defaults.value).filter(([key]) => !KEPT.includes(key) && !isContent(key));
  change(Object.fromEntries(fields));
  notify(S.settings.resetDone);
}
