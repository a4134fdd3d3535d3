// A picture that can be enlarged and moved: wheel, two fingers, double click, drag; and swiped when it is not.
import { useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { html } from "./html.js";

const MOST = 8;
const STEP = 1.5;
const SWIPE = 48; // pixels
const HOME = { scale: 1, x: 0, y: 0 };

/** How the picture that is open lies in its place: enlarged by `scale`, moved by x and y pixels. */
export const view = signal(HOME);

export const zoomed = () => view.value.scale > 1;

export function fit() {
  view.value = HOME;
}

/** Enlarges around a point, given in pixels from the middle of the picture as it lay. */
function zoomAt(factor, x, y) {
  const { scale: old, x: left, y: top } = view.value;
  const scale = Math.min(MOST, Math.max(1, old * factor));
  const by = scale / old;
  view.value = scale === 1 ? HOME : { scale, x: x - by * (x - left), y: y - by * (y - top) };
}

export const zoomIn = () => zoomAt(STEP, 0, 0);
export const zoomOut = () => zoomAt(1 / STEP, 0, 0);

/** Parts of pictures that take the pointer themselves while nothing is enlarged. */
const takesPointer = (target) => target.closest(".anagram, .compare, button") !== null;

/** Whether the dialog scrolls, as it does where the picture stands above the text. */
function scrolls(element) {
  const { scrollHeight, clientHeight } = element.closest("dialog");
  return scrollHeight > clientHeight;
}

/** A place for a picture; `onSwipe` is called with -1 or 1. */
export function Zoom({ onSwipe, children }) {
  const fingers = useRef(new Map());
  const start = useRef(null);
  const centre = (element, x, y) => {
    const [box, content] = [element.getBoundingClientRect(), element.firstElementChild];
    const [left, top] = [box.left + content.offsetLeft, box.top + content.offsetTop];
    return [x - left - content.offsetWidth / 2, y - top - content.offsetHeight / 2];
  };
  const spread = () => {
    const [a, b] = [...fingers.current.values()];
    return { length: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };
  const onPointerDown = (event) => {
    if (event.button > 0 || (takesPointer(event.target) && !zoomed())) return;
    fingers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    start.current = fingers.current.size === 1 ? { x: event.clientX, y: event.clientY } : null;
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const onPointerMove = (event) => {
    const last = fingers.current.get(event.pointerId);
    if (!last) return;
    const before = fingers.current.size === 2 ? spread() : null;
    fingers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (before) {
      const now = spread();
      zoomAt(now.length / before.length, ...centre(event.currentTarget, now.x, now.y));
    }
    if (zoomed()) {
      const share = 1 / fingers.current.size;
      const { scale, x, y } = view.value;
      view.value = {
        scale,
        x: x + share * (event.clientX - last.x),
        y: y + share * (event.clientY - last.y),
      };
    }
  };
  const onPointerUp = (event) => {
    fingers.current.delete(event.pointerId);
    if (!start.current || zoomed() || event.pointerType === "mouse") return;
    const [x, y] = [event.clientX - start.current.x, event.clientY - start.current.y];
    start.current = null;
    const swiped = Math.abs(x) > SWIPE && Math.abs(x) > 2 * Math.abs(y);
    if (swiped) setTimeout(() => onSwipe(x < 0 ? 1 : -1)); // after touchend, whose target must still be there
  };
  const onPointerCancel = (event) => fingers.current.delete(event.pointerId);
  const { scale, x, y } = view.value;
  return html`
    <div class="zoomable" data-zoomed=${scale > 1} onPointerDown=${onPointerDown} onPointerMove=${onPointerMove} onPointerUp=${onPointerUp} onPointerCancel=${onPointerCancel}
      onWheel=${(e) => {
        if (!zoomed() && !e.ctrlKey && scrolls(e.currentTarget)) return;
        e.preventDefault();
        zoomAt(1.0015 ** -e.deltaY, ...centre(e.currentTarget, e.clientX, e.clientY));
      }}
      onDblClick=${(e) => {
        if (takesPointer(e.target)) return;
        if (zoomed()) fit();
        else zoomAt(STEP ** 2, ...centre(e.currentTarget, e.clientX, e.clientY));
      }}>
      <div class="zoom-content" style=${{ transform: `translate(${x}px, ${y}px) scale(${scale})` }}>${children}</div>
    </div>
  `;
}
