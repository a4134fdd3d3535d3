// One finished picture as it deserves: an anagram turns, an edit compares with what it came from.
import { useState } from "preact/hooks";
import { canVary, copyPrompt, downloadUrl, PARTS, reuse, sendTo, useOnly, vary } from "./actions.js";
import { AnagramPicture } from "./anagram.js";
import { pictureUrl } from "./api.js";
import { Compare } from "./compare.js";
import { controlsOf, labelOf } from "./controls.js";
import { isFavourite, remove, setFavourite } from "./gallery_state.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { Canvas, chooseRegion } from "./outpaint.js";
import { dialog } from "./state.js";
import { moment, S } from "./strings.js";

export const altOf = (image) => S.picture.alt(image.prompt, image.seed);

const readingsOf = (image) =>
  image.metadata.anagram?.map((pair) => (Array.isArray(pair) ? { prompt: pair[0], view: pair[1] } : pair));

/** What a picture was made from, where it lies in it. */
const beforeOf = ({ metadata, width, height }, id) =>
  metadata.outpaint
    ? html`<${Canvas} url=${pictureUrl(id)} outpaint=${metadata.outpaint} crop=${metadata.crop_position} width=${width / (metadata.upscale ?? 1)} height=${height / (metadata.upscale ?? 1)} alt=${S.picture.before} />`
    : html`<img src=${pictureUrl(id)} alt=${S.picture.before} draggable=${false} />`;

/** Shows a picture by what it is. */
export function Picture({ image }) {
  const [comparing, setComparing] = useState(image.kind === "upscale");
  const readings = readingsOf(image);
  if (readings?.length) return html`<${AnagramPicture} url=${image.url} readings=${readings} />`;
  const before = ["upscale", "img2img", "inpaint"].includes(image.kind) ? image.metadata.image : null;
  const small = image.width < 512;
  return html`
    <div class="picture" data-small=${small}>
      ${
        comparing && before
          ? html`<${Compare} before=${beforeOf(image, before)} after=${image.url} alt=${altOf(image)} />`
          : html`<img src=${image.url} width=${image.width} height=${image.height} alt=${altOf(image)} />`
      }
      ${
        before &&
        html`<button type="button" class="floating" aria-pressed=${comparing} onClick=${() => setComparing(!comparing)}>
          <${Icon} name="compare" />${S.picture.compare}
        </button>`
      }
    </div>
  `;
}

const isLong = (text) => text.length > 160;
const NARROW = 18; // characters that fit one column of the facts

/** A text that scrolls in its own box, and is reached by keyboard, where it is long. */
export const Scrolls = ({ text, label, children }) => {
  const reached = isLong(text) ? { tabindex: 0, role: "group", "aria-label": label } : {};
  return html`<div class="scrolls" dir="auto" ...${reached}>${children}</div>`;
};

export const Title = ({ text }) =>
  html`<${Scrolls} text=${text} label=${S.prompt.label}><h2 class="job-title">${text}</h2><//>`;

/** The buttons of a picture. */
export function Actions({ image }) {
  const button = (icon, label, onClick, extra = "", more = {}) =>
    html`<button type="button" class=${`secondary ${extra}`} onClick=${onClick} ...${more}><${Icon} name=${icon} />${label}</button>`;
  const favourite = isFavourite(image);
  const parts = PARTS.filter((part) => part.has(image));
  return html`
    <div class="actions">
      ${button("back", S.picture.reuse, () => reuse(image), "strong")}
      <a class="secondary button" href=${downloadUrl(image)} download><${Icon} name="download" />${S.picture.download}</a>
      ${button("heart", S.picture.favourite, () => setFavourite([image], !favourite), "favourite", { "aria-pressed": favourite })}
      ${canVary(image) && button("layers", S.picture.vary, () => vary(image))}
      ${button("image", S.picture.toImage, () => sendTo(image, "img2img"))}
      ${button("brush", S.picture.toMask, () => {
        sendTo(image, "inpaint", { region: "mask" });
        dialog.value = { name: "mask" };
      })}
      ${button("extend", S.source.extend, () => {
        sendTo(image, "inpaint");
        chooseRegion("outpaint");
      })}
      ${button("enlarge", S.picture.toUpscale, () => sendTo(image, "upscale"))}
      ${image.prompt && navigator.clipboard && button("copy", S.picture.copy, () => copyPrompt(image))}
      ${button("trash", S.picture.remove, () => remove([image]), "danger")}
    </div>
    ${
      parts.length > 0 &&
      html`<div class="parts" role="group" aria-label=${S.picture.only}>
        <span class="hint">${S.picture.only}</span>
        ${parts.map((part) => html`<button type="button" class="chip" key=${part.name} onClick=${() => useOnly(image, part)}>${S.picture.parts[part.name]}</button>`)}
      </div>`
    }
  `;
}

const SHOWN = ["num_inference_steps", "guidance_scale", "solver", "weights", "strength", "upscaler", "model"];
/** Controls that are told elsewhere. */
const ELSEWHERE = ["prompt", "negative_prompt", "seed", "width", "height", "anagram", "num_images"];

/** A control's value in words. */
export function worded(name, value) {
  const names = S.controls[name]?.choices ?? {};
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value === "boolean") return value ? S.details.yes : S.details.no;
  return names[value] ?? String(value);
}

const isSet = (value) => value !== undefined && value !== null;
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** What is known of a picture, or of the first of `count`, as pairs [label, text]; with `all` every setting that is not the default. */
export function facts(image, count = 1, all = false) {
  const { metadata } = image;
  const edited = ["img2img", "inpaint"].includes(image.kind);
  const skip = new Set([...(edited ? [] : ["strength"]), ...(metadata.upscale ? [] : ["upscaler"])]);
  const usual = SHOWN.filter((name) => isSet(metadata[name]) && !skip.has(name));
  const pairs = usual.map((name) => [S.details[name], worded(name, metadata[name])]);
  const last = count > 1 ? ` – ${image.seed + count - 1}` : "";
  const seed = image.seed === null ? [] : [[S.details.seed, `${image.seed}${last}`]];
  const own = all
    ? controlsOf(image.kind).filter((one) => !usual.includes(one.name) && differs(one, image))
    : [];
  return [
    ...seed,
    ...pairs,
    [S.details.size, `${image.width} × ${image.height}`],
    ...own.map((one) => [labelOf(one), worded(one.name, metadata[one.name])]),
  ];
}

function differs(one, { kind, metadata }) {
  const value = metadata[one.name];
  const usual = one.kind_defaults[kind] ?? one.default;
  return isSet(value) && one.group !== "preview" && !ELSEWHERE.includes(one.name) && !same(value, usual);
}

export const Facts = ({ image, count = 1, all = false }) => {
  const pairs = facts(image, count, all);
  if (all) {
    if (image.metadata.matched_from) pairs.push([S.details.matched_from, image.metadata.matched_from]);
    pairs.push([S.details.created_at, moment(image.created_at)]);
  }
  return html`<dl class="facts">${pairs.map(([name, text]) => html`<div key=${name} data-wide=${text.length > NARROW}><dt>${name}</dt><dd><${Scrolls} text=${text} label=${name}>${text}<//></dd></div>`)}</dl>`;
};
