// The source picture of img2img, in-painting and upscaling: dropped, pasted or chosen.
import { signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { useFile } from "./actions.js";
import { choicesOf, control, labelOf } from "./controls.js";
import { CropFrame, CropSlider, dragCrop } from "./crop.js";
import { ErrorText, Segmented, Select, Slider, Switch } from "./fields.js";
import { opened } from "./gallery_state.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { MaskThumb, Outside } from "./mask_editor.js";
import { chooseRegion, Outpaint } from "./outpaint.js";
import { isMasked } from "./request.js";
import { change, defaults, dialog, errors, form } from "./state.js";
import { S } from "./strings.js";
import { replaced, takeBack, uploads } from "./uploads.js";

const over = signal(false);

async function take(file) {
  if (!file || !(await useFile(file))) return;
  if (isMasked(form.value) && !dialog.value) dialog.value = { name: "mask" };
}

/** The picture, or a place for one. */
export function Source() {
  const input = useRef(null);
  const { image, mode, region } = form.value;
  const sent = uploads.value.image;
  const choose = () => input.current.click();
  const drop = {
    onDragOver: (e) => {
      e.preventDefault();
      over.value = true;
    },
    onDragLeave: () => {
      over.value = false;
    },
    onDrop: (e) => {
      e.preventDefault();
      e.stopPropagation();
      over.value = false;
      dispatchEvent(new Event("dg2-drop-over"));
      take(e.dataTransfer.files[0]);
    },
  };
  const around = image && !sent && region === "outpaint" && mode === "inpaint";
  return html`
    <div class="field source" data-over=${over.value} ...${drop}>
      ${!around && html`<div class="field-head"><span class="label">${S.source.label}</span></div>`}
      <input ref=${input} class="visually-hidden" id="source-file" type="file" accept="image/png,image/jpeg,image/webp" tabindex="-1" aria-label=${S.source.browse}
        onChange=${(e) => {
          take(e.currentTarget.files[0]);
          e.currentTarget.value = "";
        }} />
      ${sent ? html`<${Sent} url=${sent.url} />` : image ? html`<div class="source-picture" data-region=${mode === "inpaint" ? region : undefined}><${Shown} /><${Buttons} choose=${choose} /></div>` : html`<${Place} choose=${choose} />`}
      ${image && !sent && isMasked(form.value) && html`<${Outside} />`}
      <${ErrorText} name="image" /><${ErrorText} name="mask" />
    </div>
  `;
}

/** A picture that is on its way to the server. */
const Sent = ({ url }) => html`
  <div class="source-picture">
    <span class="thumb" data-busy="true"><img src=${url} alt="" /></span>
    <p class="hint" role="status">${S.source.sending}</p>
  </div>
`;

const Place = ({ choose }) => html`
  <button type="button" class="dropzone" aria-invalid=${errors.value.image ? "true" : undefined} onClick=${choose}>
    <${Icon} name="image" /><span>${S.source.drop}</span>
  </button>
  ${replaced.value && html`<div><${TakeBack} /></div>`}
`;

const TakeBack = () => html`
  <button type="button" class="quiet" title=${S.source.takeBackTitle} onClick=${takeBack}><${Icon} name="undo" />${S.source.takeBack}</button>
`;

const paint = () => {
  dialog.value = { name: "mask" };
};

/** The source as its kind of job takes it. */
function Shown() {
  const { image, mode, mask } = form.value;
  if (isMasked(form.value)) {
    const label = mask.length ? S.mask.edit : S.mask.open;
    return html`<button type="button" class="thumb" aria-label=${label} onClick=${paint}><${MaskThumb} /></button>`;
  }
  if (mode === "inpaint") return html`<${Outpaint} />`;
  return html`
    <span class="thumb" ...${dragCrop()}>
      <span class="mask-stack" style=${{ "--ratio": image.width ? image.width / image.height : 1 }}>
        <img src=${image.url} alt=${S.source.alt} draggable=${false} onError=${() => change({ image: null })} />
        <${CropFrame} />
      </span>
    </span>
  `;
}

function Buttons({ choose }) {
  const { mode, mask } = form.value;
  const extend = () => {
    change({ mode: "inpaint" });
    chooseRegion("outpaint");
  };
  return html`
    <div class="source-actions">
      ${
        isMasked(form.value) &&
        html`<button type="button" class=${mask.length ? "secondary" : "secondary strong"} aria-invalid=${errors.value.mask ? "true" : undefined} onClick=${paint}>
          <${Icon} name="brush" />${mask.length ? S.mask.edit : S.mask.open}
        </button>`
      }
      <button type="button" class="secondary" onClick=${choose}><${Icon} name="image" />${S.source.replace}</button>
      ${mode === "img2img" && html`<button type="button" class="secondary" title=${S.source.extendTitle} onClick=${extend}><${Icon} name="extend" />${S.source.extend}</button>`}
      <button type="button" class="quiet" onClick=${() => change({ image: null, mask: [] })}><${Icon} name="close" />${S.source.remove}</button>
      ${replaced.value && html`<${TakeBack} />`}
    </div>
  `;
}

/** What in-painting repaints: a part of the picture, or new pixels around it. */
export const Region = () => html`
  <${Segmented} name="region" label=${S.region.label} choices=${Object.entries(S.region.choices)} onChange=${chooseRegion} />
`;

const BLENDING = { num_resamples: 5, solver: "ddim", guidance_scale: 3 };

/** What makes the new part go well with the rest, or the usual settings. */
function blend(on) {
  change(on ? BLENDING : Object.fromEntries(Object.keys(BLENDING).map((name) => [name, defaults.value[name]])));
}

/** What belongs to the source of each kind. */
export function SourceSettings() {
  const { mode } = form.value;
  if (mode === "img2img") {
    return html`<${Slider} name="strength" label=${S.controls.strength.label} hint=${S.controls.strength.hint} min=${0} max=${1} step=${0.01} /><${CropSlider} />`;
  }
  if (mode === "inpaint") {
    return html`
      <${Slider} name="inpaint_strength" label=${S.controls.strength.label} hint=${S.controls.strength.hint} min=${0} max=${1} step=${0.01} />
      <${Slider} name="mask_feather" label=${S.controls.mask_feather.label} hint=${S.controls.mask_feather.hint} min=${0} max=${64} step=${1} />
      <${CropSlider} />
      <div class="field">
        <${Switch} label=${S.mask.blend} checked=${form.value.num_resamples > 1} onChange=${blend} />
        <p class="hint">${S.mask.blendHint}</p>
      </div>
    `;
  }
  if (mode === "upscale") {
    return html`
      <${Segmented} name="upscale_upscale" label=${S.source.factor} choices=${control("upscale").choices.map((f) => [f, S.controls.upscale.choices[f]])} />
      <${Select} name="upscaler" label=${labelOf(control("upscaler"))} choices=${choicesOf(control("upscaler"))} />
    `;
  }
  return null;
}

/** Takes a pasted picture. */
export function onPaste(event) {
  if (dialog.value || opened.value) return; // a dialog has its own work under way, such as a mask
  const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  take(file);
}
