// The gallery below the stage, and the dialog that shows one of its pictures.
import { useEffect } from "preact/hooks";
import { downloadUrl, save } from "./actions.js";
import { pictureUrl } from "./api.js";
import { Choice, IconButton } from "./fields.js";
import { Dialog } from "./dialog.js";
import {
  images,
  kind,
  loadMore,
  more,
  opened,
  place,
  refreshGallery,
  search,
  setKind,
  setSearch,
  status,
  step,
} from "./gallery_state.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { Actions, altOf, Facts, Picture, removeAfterAsking } from "./picture.js";
import { MODES } from "./state.js";
import { S } from "./strings.js";

const KINDS = [[null, S.gallery.all], ...MODES.map((mode) => [mode, S.modes[mode].label])];

export function Gallery() {
  const filtered = search.value || kind.value;
  if (status.value === "ready" && !images.value.length && !filtered) return null;
  return html`
    <section class="gallery" aria-labelledby="gallery-title">
      <div class="gallery-head">
        <h2 id="gallery-title">${S.gallery.title}</h2>
        <div class="search">
          <${Icon} name="search" />
          <input type="search" id="gallery-search" aria-label=${S.gallery.search} placeholder=${S.gallery.search} value=${search.value} maxlength="200"
            onInput=${(e) => setSearch(e.currentTarget.value)} />
        </div>
        <${Choice} aria-label=${S.gallery.kind} value=${kind.value} choices=${KINDS} onChange=${setKind} />
      </div>
      ${
        status.value === "failed" &&
        html`<p class="note">${S.gallery.failed} <button type="button" class="quiet" onClick=${refreshGallery}>${S.run.retry}</button></p>`
      }
      ${status.value === "ready" && !images.value.length && html`<p class="note">${search.value ? S.gallery.nothing(search.value) : S.gallery.none}</p>`}
      <ul class="thumbs">
        ${images.value.map(
          (image) => html`<li key=${image.id}>
            <button type="button" class="tile" aria-label=${S.picture.open(altOf(image))} onClick=${() => {
              opened.value = image;
            }}>
              <img src=${pictureUrl(image.id, "webp")} alt="" loading="lazy" decoding="async" />
              ${image.kind !== "txt2img" && html`<span class="badge">${S.modes[image.kind].label}</span>`}
            </button>
          </li>`,
        )}
      </ul>
      ${more.value && html`<button type="button" class="secondary wide" onClick=${loadMore}>${S.gallery.more}</button>`}
    </section>
  `;
}

/** The open picture: large, with what is known of it and what can be done. */
export function Viewer() {
  const image = opened.value;
  const at = place();
  const close = () => {
    opened.value = null;
  };
  const onKeyDown = (event) => {
    const image = opened.value;
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=range]")) return;
    const actions = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      d: () => save(downloadUrl(image), ""),
      Delete: () => removeAfterAsking(image),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  };
  useEffect(() => {
    addEventListener("keydown", onKeyDown); // of the window: a button that turns disabled loses the focus
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
  return html`
    <${Dialog} label=${altOf(image)} class="viewer" onClose=${close}>
      <div class="viewer-body">
        <div class="viewer-media">
          <${Picture} key=${image.id} image=${image} />
          ${at >= 0 && html`<${IconButton} icon="left" class="previous" label=${S.picture.previous} disabled=${at === 0} onClick=${() => step(-1)} />`}
          ${at >= 0 && html`<${IconButton} icon="right" class="next" label=${S.picture.next} disabled=${at >= images.value.length - 1} onClick=${() => step(1)} />`}
        </div>
        <div class="viewer-side">
          <${IconButton} icon="close" class="corner" label=${S.picture.close} onClick=${(e) => e.currentTarget.closest("dialog").close()} />
          ${image.prompt && html`<p class="eyebrow">${S.modes[image.kind].title}</p>`}
          <h2 class="job-title">${image.prompt || S.modes[image.kind].title}</h2>
          ${image.negative_prompt && html`<p class="hint">${S.prompt.negative}: ${image.negative_prompt}</p>`}
          <${Facts} image=${image} all />
          <${Actions} image=${image} />
        </div>
      </div>
    <//>
  `;
}
