// Pictures that are enlarged and moved: by wheel, fingers, double click, keys and buttons.
import { signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { IconButton } from "./fields.js";
import { html } from "./html.js";
import { S } from "./strings.js";

const MOST = 8;
const STEP = 1.5;
const WHEEL = 1.0015; // per pixel of a wheel's turn
const SWIPE = 48; // pixels
const HOME = { scale: 1, x: 0, y: 0 };

/** A point of the window in pixels from the middle of an element, as that lies without its transform. */
function fromMiddle(element, x, y) {
  const box = element.offsetParent.getBoundingClientRect();
  const [left, top] = [box.left + element.offsetLeft, box.top + element.offsetTop];
  return [x - left - element.offsetWidth / 2, y - top - element.offsetHeight / 2];
}

/** How a picture lies in its place: enlarged by `scale`, moved by pixels. */
export class View {
  #lies = signal(HOME);

  get scale() {
    return this.#lies.value.scale;
  }

  get zoomed() {
    return this.scale > 1;
  }

  /** The style of the element that is enlarged. */
  get style() {
    const { scale, x, y } = this.#lies.value;
    return { transform: `translate(${x}px, ${y}px) scale(${scale})` };
  }

  /** What keys do. */
  get keys() {
    return {
      "+": () => this.zoom(STEP),
      "=": () => this.zoom(STEP),
      "-": () => this.zoom(1 / STEP),
      0: () => this.fit(),
    };
  }

  fit() {
    this.#lies.value = HOME;
  }

  /** Enlarges around a point, given in pixels from the middle of the picture as it lay. */
  zoom(factor, x = 0, y = 0) {
    const { scale: old, x: left, y: top } = this.#lies.value;
    const scale = Math.min(MOST, Math.max(1, old * factor));
    const by = scale / old;
    this.#lies.value = scale === 1 ? HOME : { scale, x: x - by * (x - left), y: y - by * (y - top) };
  }

  /** Enlarges `element`, which this view is of, around the place of a pointer or wheel. */
  zoomAt(factor, element, { clientX, clientY }) {
    this.zoom(factor, ...fromMiddle(element, clientX, clientY));
  }

  /** Does what a wheel asks for. */
  wheel(event, element) {
    event.preventDefault();
    this.zoomAt(WHEEL ** -event.deltaY, element, event);
  }

  /** Does what `Fingers.move` told. */
  follow({ x, y, factor, middle }, element) {
    this.zoomAt(factor, element, middle);
    const { scale, x: left, y: top } = this.#lies.value;
    if (scale > 1) this.#lies.value = { scale, x: left + x, y: top + y };
  }
}

/** The fingers, pens and buttons that are down on something. */
export class Fingers {
  #at = new Map();

  get count() {
    return this.#at.size;
  }

  down(event) {
    this.#at.set(event.pointerId, event);
  }

  up(event) {
    this.#at.delete(event.pointerId);
  }

  /**
   * What a move means.
   *
   * @returns {{x: number, y: number, factor: number, middle: {clientX: number, clientY: number}} | null}
   *   by how much it moves and enlarges, and around where; null for a pointer that is not down
   */
  move(event) {
    const last = this.#at.get(event.pointerId);
    if (!last) return null;
    const { length, ...middle } = this.#spread();
    this.#at.set(event.pointerId, event);
    const share = 1 / this.count;
    return {
      x: share * (event.clientX - last.clientX),
      y: share * (event.clientY - last.clientY),
      factor: this.count === 2 ? this.#spread().length / Math.max(1, length) : 1,
      middle,
    };
  }

  /** The distance of the first and the last of them, and the point between them. */
  #spread() {
    const all = [...this.#at.values()];
    const [a, b] = [all[0], all.at(-1)];
    return {
      length: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
      clientX: (a.clientX + b.clientX) / 2,
      clientY: (a.clientY + b.clientY) / 2,
    };
  }
}

/** Buttons for a view. */
export const ZoomButtons = ({ view }) => html`
  <${IconButton} icon="minus" label=${S.zoom.out} disabled=${!view.zoomed} onClick=${view.keys["-"]} />
  <span class="zoom-scale" aria-live="polite">${Math.round(100 * view.scale)}%</span>
  <${IconButton} icon="plus" label=${S.zoom.in} disabled=${view.scale >= MOST} onClick=${view.keys["+"]} />
  <${IconButton} icon="fit" label=${S.zoom.fit} disabled=${!view.zoomed} onClick=${view.keys[0]} />
`;

/** Parts of pictures that take the pointer themselves while nothing is enlarged. */
const takesPointer = (target) => target.closest(".anagram, .compare, button") !== null;

/** Whether the dialog scrolls, as it does where the picture stands above the text. */
function scrolls(element) {
  const { scrollHeight, clientHeight } = element.closest("dialog");
  return scrollHeight > clientHeight;
}

/** A place for a picture, which is also swiped; `onSwipe` is called with -1 or 1. */
export function Zoom({ view, onSwipe, children }) {
  const fingers = useRef(null);
  fingers.current ??= new Fingers();
  const start = useRef(null);
  const content = (event) => event.currentTarget.firstElementChild;
  const onPointerDown = (event) => {
    if (event.button > 0 || (takesPointer(event.target) && !view.zoomed)) return;
    fingers.current.down(event);
    start.current = fingers.current.count === 1 ? event : null;
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const onPointerMove = (event) => {
    const told = fingers.current.move(event);
    if (told) view.follow(told, content(event));
  };
  const onPointerUp = (event) => {
    fingers.current.up(event);
    if (!start.current || view.zoomed || event.pointerType === "mouse") return;
    const [x, y] = [event.clientX - start.current.clientX, event.clientY - start.current.clientY];
    start.current = null;
    const swiped = Math.abs(x) > SWIPE && Math.abs(x) > 2 * Math.abs(y);
    if (swiped) setTimeout(() => onSwipe(x < 0 ? 1 : -1)); // after touchend, whose target must still be there
  };
  return html`
    <div class="zoomable" data-zoomed=${view.zoomed} onPointerDown=${onPointerDown} onPointerMove=${onPointerMove} onPointerUp=${onPointerUp}
      onPointerCancel=${(e) => fingers.current.up(e)}
      onWheel=${(e) => {
        if (view.zoomed || e.ctrlKey || !scrolls(e.currentTarget)) view.wheel(e, content(e));
      }}
      onDblClick=${(e) => {
        if (takesPointer(e.target)) return;
        if (view.zoomed) view.fit();
        else view.zoomAt(STEP ** 2, content(e), e);
      }}>
      <div class="zoom-content" style=${view.style}>${children}</div>
    </div>
  `;
}
