// A widget for every control, by its type or by its name.
import { choicesOf, hintOf, keyOf, labelOf } from "./controls.js";
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
import { sizeOf } from "./request.js";
import { change, form, model, options } from "./state.js";
import { S } from "./strings.js";
import { Tokens } from "./tokens.js";
import { chooseModel, chooseWeights } from "./weights.js";

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
const SHORT = 36; // characters of all of them together

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

/** Height and width of a second pass: the larger ones that the server makes with the chosen model. */
function HiresSize({ one }) {
  const [width, height] = sizeOf(form.value);
  const current = form.value.hires_size;
  const text = (size) => size && size.join("x");
  const sizes = (model.value?.hires_sizes ?? []).filter(([w, h]) => w * h > width * height).map(([w, h]) => [h, w]);
  if (current && !sizes.some((size) => text(size) === text(current))) sizes.push(current);
  if (!sizes.length) return null;
  const choices = [[null, S.controls.hires_size.none], ...sizes.map(([h, w]) => [text([h, w]), S.settings.size(w, h)])];
  const choose = (value) => change({ hires_size: value && value.split("x").map(Number) });
  return html`<${Select} name="hires_size" label=${labelOf(one)} hint=${hintOf(one)} value=${text(current)} choices=${choices} onChange=${choose} />`;
}

const SourcePrompt = ({ one }) => html`
  <${Field} name=${one.name} label=${labelOf(one)}>
    <${Area} ...${described(one.name)} rows="1" maxlength=${one.maximum} value=${form.value[one.name]}
      onInput=${(e) => change({ [one.name]: e.currentTarget.value })} />
    <${Tokens} name=${one.name} text=${form.value[one.name]} />
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
  hires_size: HiresSize,
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
      const isShort = choices.map(([, text]) => text).join("").length <= SHORT;
      const Widget = choices.length <= FEW && isShort && one.name !== "spacing" ? Segmented : Select;
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

/** The widget of a control. */
export function Widget({ one }) {
  const Special = SPECIAL[one.name] ?? Generic;
  return html`<${Special} one=${one} />`;
}
