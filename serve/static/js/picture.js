// One finished picture as it deserves: an anagram turns, an edit compares with what it came from.
import { useState } from "preact/hooks";
import { copyPrompt, downloadUrl, reuse, sendTo } from "./actions.js";
import { AnagramPicture } from "./anagram.js";
import { pictureUrl } from "./api.js";
import { Compare } from "./compare.js";
import { opened, remove } from "./gallery_state.js";
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

/** The buttons of a picture. */
export function Actions({ image, onRemoved = () => {} }) {
  const button = (icon, label, onClick, extra = "") =>
    html`<button type="button" class=${`secondary ${extra}`} onClick=${onClick}><${Icon} name=${icon} />${label}</button>`;
  return html`
    <div class="actions">
      ${button("back", S.picture.reuse, () => reuse(image), "strong")}
      <a class="secondary button" href=${downloadUrl(image)} download><${Icon} name="download" />${S.picture.download}</a>
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
      ${button("trash", S.picture.remove, () => removeAfterAsking(image, onRemoved), "danger")}
    </div>
  `;
}

/** Deletes a picture when its user is sure. */
export async function removeAfterAsking(image, onRemoved = () => {}) {
  if (!confirm(S.picture.confirm)) return;
  if (await remove(image)) {
    if (opened.value?.id === image.id) opened.value = null;
    onRemoved();
  }
}

const SHOWN = ["num_inference_steps", "guidance_scale", "solver", "weights", "strength", "upscaler", "model"];

/** What is known of a picture, or of the first of `count`, as pairs [label, text]. */
export function facts(image, count = 1) {
  const { metadata } = image;
  const edited = ["img2img", "inpaint"].includes(image.kind);
  const skip = new Set([...(edited ? [] : ["strength"]), ...(metadata.upscale ? [] : ["upscaler"])]);
  const pairs = SHOWN.filter(
    (name) => metadata[name] !== undefined && metadata[name] !== null && !skip.has(name),
  ).map((name) => {
    const names = S.controls[name]?.choices ?? {};
    return [S.details[name], names[metadata[name]] ?? String(metadata[name])];
  });
  const last = count > 1 ? ` – ${image.seed + count - 1}` : "";
  const seed = image.seed === null ? [] : [[S.details.seed, `${image.seed}${last}`]];
  return [...seed, ...pairs, [S.details.size, `${image.width} × ${image.height}`]];
}

export const Facts = ({ image, count = 1, all = false }) => {
  const pairs = facts(image, count);
  if (all) {
    if (image.metadata.matched_from) pairs.push([S.details.matched_from, image.metadata.matched_from]);
    pairs.push([S.details.created_at, moment(image.created_at)]);
  }
  return html`<dl class="facts">${pairs.map(([name, text]) => html`<div key=${name}><dt>${name}</dt><dd>${text}</dd></div>`)}</dl>`;
};
