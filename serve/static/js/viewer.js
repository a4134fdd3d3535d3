// The dialog that shows one picture of the gallery: large, with what is known of it and what can be done.
import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { downloadUrl, save } from "./actions.js";
import { Dialog } from "./dialog.js";
import { IconButton } from "./fields.js";
import {
  images,
  isFavourite,
  opened,
  place,
  remove,
  setFavourite,
  step,
  undoRemoval,
} from "./gallery_state.js";
import { html } from "./html.js";
import { Actions, altOf, Facts, Picture, Scrolls, Title } from "./picture.js";
import { short, S } from "./strings.js";
import { View, Zoom, ZoomButtons } from "./zoom.js";

const view = new View();

/** Whether the picture alone takes the whole screen. */
const whole = signal(false);

/** The browser's full screen where it has one, else its window. */
function setWhole(on) {
  whole.value = on;
  if (on) document.documentElement.requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) document.exitFullscreen();
}

const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  d: () => save(downloadUrl(opened.value), ""),
  f: () => setFavourite([opened.value], !isFavourite(opened.value)),
  w: () => setWhole(!whole.value),
  Delete: () => remove([opened.value]),
  ...view.keys,
};

function onKeyDown(event) {
  const undoes = (event.ctrlKey || event.metaKey) && event.key === "z";
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  const slides = event.key.startsWith("Arrow") && event.target.matches("input[type=range]");
  if (!undoes && (!plain || !(event.key in KEYS) || slides)) return;
  event.preventDefault();
  if (undoes) undoRemoval();
  else KEYS[event.key]();
}

export function Viewer() {
  const image = opened.value;
  const at = place();
  const body = useRef(null);
  const close = () => {
    setWhole(false);
    opened.value = null;
  };
  useLayoutEffect(() => {
    const onFullscreen = () => {
      if (!document.fullscreenElement) whole.value = false;
    };
    addEventListener("keydown", onKeyDown); // of the window: a button that turns disabled loses the focus
    addEventListener("fullscreenchange", onFullscreen);
    return () => {
      removeEventListener("keydown", onKeyDown);
      removeEventListener("fullscreenchange", onFullscreen);
    };
  }, []);
  useEffect(() => {
    view.fit();
    body.current.querySelector(".viewer-side").scrollTop = 0;
  }, [image.id]);
  return html`
    <${Dialog} label=${short(altOf(image))} class="viewer" onClose=${close}>
      <div class="viewer-body" ref=${body} data-whole=${whole.value}>
        <div class="viewer-media">
          <${Zoom} view=${view} onSwipe=${step}><${Picture} key=${image.id} image=${image} /><//>
          ${at >= 0 && html`<${IconButton} icon="left" class="previous" label=${S.picture.previous} disabled=${at === 0} onClick=${() => step(-1)} />`}
          ${at >= 0 && html`<${IconButton} icon="right" class="next" label=${S.picture.next} disabled=${at >= images.value.length - 1} onClick=${() => step(1)} />`}
          <div class="viewer-tools" role="group" aria-label=${S.picture.view}>
            <${ZoomButtons} view=${view} />
            <${IconButton} icon="wholeScreen" label=${S.picture.whole} aria-pressed=${whole.value} onClick=${() => setWhole(!whole.value)} />
          </div>
        </div>
        <div class="viewer-side">
          <${IconButton} icon="close" class="corner" label=${S.picture.close} onClick=${(e) => e.currentTarget.closest("dialog").close()} />
          ${image.prompt && html`<p class="eyebrow">${S.modes[image.kind].title}</p>`}
          <${Title} text=${image.prompt || S.modes[image.kind].title} />
          ${image.negative_prompt && html`<${Scrolls} text=${image.negative_prompt} label=${S.prompt.negative}><p class="hint">${S.prompt.negative}: ${image.negative_prompt}</p><//>`}
          <${Facts} image=${image} all />
          <${Actions} image=${image} />
        </div>
      </div>
    <//>
  `;
}
