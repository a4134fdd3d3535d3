// The mask editor: a full-screen dialog over the source picture, for mouse, touch, pen and keyboard.
import { useEffect, useRef, useState } from "preact/hooks";
import { CropFrame, cropOf, moveCrop } from "./crop.js";
import { Dialog } from "./dialog.js";
import { html } from "./html.js";
import { INK, pointerHandlers } from "./mask_pointer.js";
import { add, brush, outlined, percentOutside, percentPainted, redo, resize, tool, undo, view } from "./mask_state.js";
import { draw, loadPictures } from "./mask_strokes.js";
import { Toolbar } from "./mask_toolbar.js";
import { change, dialog, form } from "./state.js";
import { S } from "./strings.js";

const SHARP = 1024; // canvas pixels of the longer side

/** Draws the mask whenever it changes. */
function useMask(canvas) {
  const { mask, image } = form.value;
  useEffect(() => {
    let current = true;
    const paint = () => current && canvas.current && draw(canvas.current.getContext("2d"), mask, INK);
    if (mask.some((o) => o.op === "picture")) loadPictures(mask).then(paint);
    else paint();
    return () => {
      current = false;
    };
  }, [mask, image?.width, image?.height]);
}

const canvasSize = ({ width, height }) => {
  const scale = SHARP / Math.max(width, height);
  return { width: Math.round(width * scale), height: Math.round(height * scale) };
};

const ratioOf = (image) => (image.width ? image.width / image.height : 1);

/** The source with its mask, small. */
export function MaskThumb() {
  const canvas = useRef(null);
  const { image } = form.value;
  useMask(canvas);
  return html`
    <span class="mask-stack" style=${{ "--ratio": ratioOf(image) }}>
      <img src=${image.url} alt=${S.mask.alt} onError=${() => change({ image: null, mask: [] })} />
      ${image.width && html`<canvas ref=${canvas} ...${canvasSize(image)} aria-hidden="true"></canvas>`}
      <${CropFrame} />
    </span>
  `;
}

/** What the paint means for the picture: how much of it, and how much of that is lost. */
export const Painted = () => html`
  <span class="hint" aria-live="polite">${form.value.mask.length ? S.mask.painted(percentPainted.value) : S.mask.nothing}</span>
  <${Outside} />
`;

export const Outside = () =>
  percentOutside.value > 0 && html`<p class="note warning" role="status">${S.mask.outside(percentOutside.value)}</p>`;

const close = () => {
  dialog.value = null;
};

export function MaskEditor() {
  const canvas = useRef(null);
  const [cursor, setCursor] = useState(null);
  const { image } = form.value;
  useMask(canvas);
  const pointer = useRef(null);
  pointer.current ??= pointerHandlers(canvas);
  const ratio = ratioOf(image);
  useEffect(() => {
    view.fit();
    if (tool.value === "frame" && !cropOf(form.value)) tool.value = "brush";
  }, []);

  const onKeyDown = (event) => {
    const key = event.key.toLowerCase();
    const command = event.ctrlKey || event.metaKey;
    const moves = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
    const onCanvas = event.target === canvas.current;
    const actions = {
      b: () => (tool.value = "brush"),
      e: () => (tool.value = "eraser"),
      l: () => (tool.value = "lasso"),
      r: () => (tool.value = "rectangle"),
      h: () => (tool.value = "hand"),
      i: () => add({ op: "invert" }),
      "[": () => resize(1 / 1.2),
      "]": () => resize(1.2),
      ...view.keys,
    };
    if (command && key === "z") (event.shiftKey ? redo : undo)();
    else if (command && key === "y") redo();
    else if (command || event.target.matches("input")) return;
    else if (onCanvas && key in moves) {
      const by = event.shiftKey ? 0.08 : 0.02;
      const [dx, dy] = moves[key].map((way) => way * by);
      const [x, y] = cursor ?? [0.5, 0.5 / ratio];
      const clamp = (value, high) => Math.min(high, Math.max(0, value));
      if (tool.value === "frame") moveCrop(dx, dy);
      else setCursor([clamp(x + dx, 1), clamp(y + dy, 1 / ratio)]);
    } else if (onCanvas && key === " ") {
      const [x, y] = cursor ?? [0.5, 0.5 / ratio];
      setCursor([x, y]);
      add({ op: "stroke", erase: tool.value === "eraser", size: brush.value, points: [x, y, 1] });
    } else if (key in actions) actions[key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const hover = (event) => {
    const box = canvas.current?.getBoundingClientRect();
    if (box && event.pointerType !== "touch")
      setCursor([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width]);
  };

  return html`
    <${Dialog} label=${S.mask.title} class="mask-dialog" onClose=${close}>
      <div class="mask-editor" onKeyDown=${onKeyDown}>
        <header class="dialog-head">
          <h2>${S.mask.title}</h2>
          <${Painted} />
          <button type="button" class="primary" onClick=${close}>${S.mask.done}</button>
        </header>
        <${Toolbar} />
        <div class="mask-stage" onWheel=${(e) => view.wheel(e, e.currentTarget.firstElementChild)} data-tool=${tool.value}>
          <div class="mask-stack" style=${{ "--ratio": ratio, ...view.style }}>
            <img src=${image.url} alt="" draggable=${false} />
            ${
              image.width &&
              html`<canvas ref=${canvas} id="mask-canvas" ...${canvasSize(image)} tabindex="0" role="img" aria-label=${S.mask.canvas}
                ...${pointer.current} onPointerEnter=${hover} onPointerLeave=${() => setCursor(null)}
                onPointerMove=${(e) => {
                  pointer.current.onPointerMove(e);
                  hover(e);
                }}></canvas>`
            }
            <${CropFrame} />
            <${Outline} ratio=${ratio} />
            ${
              cursor &&
              ["brush", "eraser"].includes(tool.value) &&
              html`<span class="brush-cursor" aria-hidden="true"
                style=${{ left: `${100 * cursor[0]}%`, top: `${100 * cursor[1] * ratio}%`, width: `${100 * brush.value}%` }}></span>`
            }
          </div>
        </div>
        <p class="hint mask-help">${S.mask.help}</p>
      </div>
    <//>
  `;
}

/** The area that is being drawn. */
const Outline = ({ ratio }) =>
  outlined.value &&
  html`<svg class="outline" viewBox=${`0 0 1 ${1 / ratio}`} aria-hidden="true"><polygon points=${outlined.value.points.join(" ")} /></svg>`;
