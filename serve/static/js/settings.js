// Steps, guidance, solver, seed, batch, weights, and what is seldom touched.
import { effect, signal } from "@preact/signals";
import {
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
import { Presets } from "./presets.js";
import { fieldsOf } from "./request.js";
import { change, DEFAULTS, errors, form, model, notify, options } from "./state.js";
import { S } from "./strings.js";
import { chooseWeights } from "./weights.js";

/** On a phone the settings would stand between the prompt and its picture. */
const open = signal(matchMedia("(min-width: 761px)").matches);
const advanced = signal(false);

const BASIC = ["num_inference_steps", "guidance_scale", "num_images", "solver", "weights", "seed", "model"];
const ADVANCED = [
  "guidance_interval",
  "guidance_rescale",
  "eta",
  "spacing",
  "strength_mode",
  "resize_mode",
  "inversion",
  "source_prompt",
  "num_resamples",
  "anagram_mode",
  "preview_mode",
  "preview_every",
  "embed_metadata",
];
const INTERVAL = [0.2, 0.9];

/** What is wrong is shown. */
effect(() => {
  const wrong = (name) => name in errors.value;
  if (ADVANCED.some(wrong)) advanced.value = true;
  if ([...BASIC, ...ADVANCED].some(wrong)) open.value = true;
});

const drawSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** Locks the seed last used, or frees it. */
export function toggleSeed() {
  const { seed, seed_locked: locked } = form.value;
  change(locked ? { seed_locked: false } : { seed_locked: true, seed: seed ?? drawSeed() });
}

function Seed() {
  const { seed, seed_locked: locked } = form.value;
  const last = !locked && seed !== null && !Number.isNaN(seed);
  return html`
    <${Field} name="seed" label=${S.settings.seed}>
      <div class="seed">
        ${
          locked
            ? html`<${NumberInput} name="seed" min=${0} max=${2 ** 32 - 1} />`
            : html`<input ...${described("seed")} class="number" readonly value="" placeholder=${S.settings.seedRandom} />`
        }
        <${IconButton} icon=${locked ? "lock" : "unlock"} label=${locked ? S.settings.seedUnlock : S.settings.seedLock} aria-pressed=${locked} onClick=${toggleSeed} />
        <${IconButton} icon="dice" label=${S.settings.seedDraw} onClick=${() => change({ seed: drawSeed(), seed_locked: true })} />
        <${IconButton} icon="back" label=${last ? `${S.settings.seedReuse}: ${seed}` : S.settings.seedReuse} disabled=${!last} onClick=${() => change({ seed_locked: true })} />
      </div>
    <//>
  `;
}

const names = (list, labels = {}) => (list ?? []).map((name) => [name, labels[name] ?? name]);

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
  const choices = options.value?.choices ?? {};
  const models = options.value?.models ?? [];
  const weights = model.value?.weights ?? ["ema", "raw"];
  const most = options.value?.limits?.max_images ?? 64;
  return html`
    <div class="group">
      <${Slider} name="num_inference_steps" label=${S.settings.steps} min=${1} max=${100} most=${1000} />
      <${Slider} name="guidance_scale" label=${S.settings.guidance} hint=${S.settings.guidanceHint} min=${1} max=${15} step=${0.1} most=${100} />
      <${Slider} name="num_images" label=${S.settings.images} min=${1} max=${Math.min(16, most)} most=${most} />
      <div class="pair">
        <${Select} name="solver" label=${S.settings.solver} choices=${names(choices.solver ?? [form.value.solver], S.solvers)} />
        <${Segmented} name="weights" label=${S.settings.weights} choices=${names(weights, S.settings.weightNames)} onChange=${chooseWeights} />
      </div>
      <${Seed} />
      ${models.length > 1 && html`<${Select} name="model" label=${S.settings.model} choices=${models.map((m) => [m.default ? null : m.name, m.title])} />`}
      <${Segmented} name="upscale" label=${S.settings.upscale} choices=${[[null, S.settings.off], ...(choices.upscale ?? [2, 4]).map((f) => [f, `${f}×`])]} />
      ${form.value.upscale && html`<${Select} name="upscaler" label=${S.settings.upscaler} choices=${names(choices.upscaler, S.upscalers)} />`}
      <${Advanced} choices=${choices} />
    </div>
  `;
}

/** What is seldom touched; the closed part says how much of it was. */
function Advanced({ choices }) {
  const used = fieldsOf(form.value).filter((name) => ADVANCED.includes(name));
  const changed = used.filter((name) => String(form.value[name]) !== String(DEFAULTS[name]));
  const parts = {
    guidance_interval: Interval,
    guidance_rescale: () =>
      html`<${Slider} name="guidance_rescale" label=${S.settings.rescale} hint=${S.settings.rescaleHint} min=${0} max=${1} step=${0.05} />`,
    eta: () => html`<${Slider} name="eta" label=${S.settings.eta} min=${0} max=${1} step=${0.05} />`,
    spacing: () =>
      html`<${Select} name="spacing" label=${S.settings.spacing} choices=${[[null, S.settings.automatic], ...names(choices.spacing, S.spacings)]} />`,
    strength_mode: () =>
      html`<${Segmented} name="strength_mode" label=${S.source.strengthMode} choices=${names(choices.strength_mode, S.source.strengthModes)} />`,
    resize_mode: () =>
      html`<${Segmented} name="resize_mode" label=${S.source.fit} choices=${names(choices.resize_mode, S.source.fits)} />`,
    inversion: () =>
      html`<${Segmented} name="inversion" label=${S.source.inversion} choices=${[[null, S.settings.off], ...names(choices.inversion, S.source.inversions)]} />`,
    source_prompt: SourcePrompt,
    num_resamples: () =>
      html`<${Slider} name="num_resamples" label=${S.mask.resamples} hint=${S.mask.resamplesHint} min=${1} max=${20} />`,
    anagram_mode: () =>
      html`<${Segmented} name="anagram_mode" label=${S.anagram.mode} choices=${names(choices.anagram_mode, S.anagram.modes)} />`,
    preview_mode: () =>
      html`<${Segmented} name="preview_mode" label=${S.settings.preview} choices=${names(choices.preview_mode ?? ["none", "linear", "vae"], S.settings.previews)} />`,
    preview_every: () =>
      html`<${Slider} name="preview_every" label=${S.settings.every} min=${1} max=${20} most=${1000} />`,
    embed_metadata: () =>
      html`<${Switch} label=${S.settings.embed} checked=${form.value.embed_metadata} onChange=${(on) => change({ embed_metadata: on })} />`,
  };
  return html`
    <details class="advanced" open=${advanced.value} onToggle=${(e) => {
      advanced.value = e.currentTarget.open;
    }}>
      <summary>${S.settings.advanced}${changed.length > 0 && html`<span class="count">${S.settings.changed(changed.length)}</span>`}</summary>
      <div class="group">
        ${ADVANCED.filter((name) => used.includes(name)).map((name) => html`<div key=${name}>${parts[name]()}</div>`)}
        <button type="button" class="quiet" onClick=${reset}>${S.settings.reset}</button>
      </div>
    </details>
  `;
}

/** The noise levels between which guidance acts; off for all of them. */
function Interval() {
  const level = { name: "guidance_interval", hint: true, min: 0, max: 1, step: 0.05 };
  return html`
    <div class="field">
      <${Switch} label=${S.settings.interval} checked=${form.value.guidance_interval !== null}
        onChange=${(on) => change({ guidance_interval: on ? INTERVAL : null })} />
      ${
        form.value.guidance_interval &&
        html`
          <div class="interval">
            <${NumberAt} ...${level} index=${0} label=${S.settings.intervalFrom} />
            <${NumberAt} ...${level} index=${1} label=${S.settings.intervalTo} />
          </div>
          <p class="hint" id="h-guidance_interval">${S.settings.intervalHint}</p>
        `
      }
      <${ErrorText} name="guidance_interval" />
    </div>
  `;
}

const SourcePrompt = () => html`
  <${Field} name="source_prompt" label=${S.source.sourcePrompt}>
    <input type="text" ...${described("source_prompt")} maxlength=${options.value?.limits?.max_prompt ?? 4000} value=${form.value.source_prompt}
      onInput=${(e) => change({ source_prompt: e.currentTarget.value })} />
  <//>
`;

const KEPT = [
  "mode",
  "prompt",
  "negative_prompt",
  "image",
  "region",
  "mask",
  "outpaint",
  "anagram",
  "source_prompt",
];

function reset() {
  change(Object.fromEntries(Object.entries(DEFAULTS).filter(([name]) => !KEPT.includes(name))));
  notify(S.settings.resetDone);
}
