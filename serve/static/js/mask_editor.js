// The mask editor: a full-screen dialog over the source picture, for mouse, touch, pen and keyboard.
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { Dialog } from "./dialog.js";
import { IconButton } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { apply, coverage, draw, loadPictures } from "./mask_strokes.js";
import { change, dialog, form } from "./state.js";
import { S } from "./strings.js";

const SHARP = 1024; // canvas pixels of the longer side
const MAX_ZOOM = 8;
const INK = "#e0186e"; // seen on every landscape

const tool = signal("brush"); // "brush", "eraser" or "hand"
const brush = signal(0.12); // diameter, of the picture's width
const undone = signal([]);

const add = (operation) => {
  undone.value = [];
  change({ mask: [...form.value.mask, operation] });
};

function undo() {
  const { mask } = form.value;
  if (!mask.length) return;
  undone.value = [...undone.value, mask.at(-1)];
  change({ mask: mask.slice(0, -1) });
}

function redo() {
  const last = undone.value.at(-1);
  if (!last) return;
  undone.value = undone.value.slice(0, -1);
  change({ mask: [...form.value.mask, last] });
}

const resize = (factor) => {
  brush.value = Math.min(0.6, Math.max(0.01, brush.value * factor));
};

/** Draws the mask whenever it changes. */
function useMask(canvas, size) {
  const { mask } = form.value;
  useEffect(() => {
    let current = true;
    const paint = () => current && canvas.current && draw(canvas.current.getContext("2d"), mask, INK);
    if (mask.some((o) => o.op === "picture")) loadPictures(mask).then(paint);
    else paint();
    return () => {
      current = false;
    };
  }, [mask, size?.width, size?.height]);
}

function useSize(image) {
  const [size, setSize] = useState(image?.width ? image : null);
  const onLoad = (event) =>
    setSize({ width: event.currentTarget.naturalWidth, height: event.currentTarget.naturalHeight });
  return [size, onLoad];
}

const canvasSize = ({ width, height }) => {
  const scale = SHARP / Math.max(width, height);
  return { width: Math.round(width * scale), height: Math.round(height * scale) };
};

/** The source with its mask, small. */
export function MaskThumb() {
  const canvas = useRef(null);
  const { image } = form.value;
  const [size, onLoad] = useSize(image);
  useMask(canvas, size);
  return html`
    <span class="mask-stack">
      <img src=${image.url} alt=${S.mask.alt} onLoad=${onLoad} onError=${() => change({ image: null, mask: [] })} />
      ${size && html`<canvas ref=${canvas} ...${canvasSize(size)} aria-hidden="true"></canvas>`}
    </span>
  `;
}

/** Strokes by pointer: one finger, pen or mouse paints, two fingers or the hand move and zoom. */
function pointerHandlers(canvas, view, setView) {
  const pointers = new Map();
  let stroke = null;
  const position = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const pressure = event.pointerType === "pen" && event.pressure > 0 ? 0.3 + 0.7 * event.pressure : 1;
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width, pressure];
  };
  const paint = () => {
    const context = canvas.current.getContext("2d");
    apply(context, { ...stroke, points: stroke.points.slice(-6) }, INK);
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, distance: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
  };
  return {
    onPointerDown(event) {
      event.preventDefault();
      canvas.current.focus();
      canvas.current.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (pointers.size === 2 && stroke) {
        stroke = null; // a second finger: it was a gesture, not a stroke
        draw(canvas.current.getContext("2d"), form.value.mask, INK);
      } else if (pointers.size === 1 && tool.value !== "hand" && event.button !== 1) {
        const erase =
          tool.value === "eraser" ||
          event.button === 2 ||
          (event.pointerType === "pen" && event.button === 5);
        stroke = { op: "stroke", erase, size: brush.value, points: position(event) };
        paint();
      }
    },
    onPointerMove(event) {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const after = { x: event.clientX, y: event.clientY };
      if (stroke) {
        const events = event.getCoalescedEvents?.() ?? [];
        for (const point of events.length ? events : [event]) {
          stroke.points.push(...position(point));
          paint();
        }
      } else if (pointers.size === 2) {
        const old = spread();
        pointers.set(event.pointerId, after);
        const now = spread();
        setView((v) => zoomAt(v, now.distance / old.distance, now.x - old.x, now.y - old.y));
      } else setView((v) => ({ ...v, x: v.x + after.x - before.x, y: v.y + after.y - before.y }));
      pointers.set(event.pointerId, after);
    },
    onPointerUp(event) {
      pointers.delete(event.pointerId);
      if (!stroke) return;
      const round = (value) => Math.round(value * 1e4) / 1e4;
      add({ ...stroke, points: stroke.points.map(round) });
      stroke = null;
    },
    onPointerCancel(event) {
      pointers.delete(event.pointerId);
      stroke = null;
      draw(canvas.current.getContext("2d"), form.value.mask, INK);
    },
    onContextMenu: (event) => event.preventDefault(),
  };
}

const zoomAt = (view, factor, dx = 0, dy = 0) => {
  const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
  if (zoom === 1) return { zoom, x: 0, y: 0 };
  const ratio = zoom / view.zoom;
  return { zoom, x: view.x * ratio + dx, y: view.y * ratio + dy };
};

export function MaskEditor() {
  const canvas = useRef(null);
  const [view, setView] = useState({ zoom: 1, x: 0, y: 0 });
  const [cursor, setCursor] = useState(null);
  const { image, mask } = form.value;
  const [size, onLoad] = useSize(image);
  useMask(canvas, size);
  const pointer = useRef(null);
  pointer.current ??= pointerHandlers(canvas, view, setView);
  const ready = size && canvasSize(size);
  const ratio = size ? size.width / size.height : 1;

  const onKeyDown = (event) => {
    const key = event.key.toLowerCase();
    const command = event.ctrlKey || event.metaKey;
    const moves = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
    const onCanvas = event.target === canvas.current;
    const actions = {
      b: () => (tool.value = "brush"),
      e: () => (tool.value = "eraser"),
      h: () => (tool.value = "hand"),
      i: () => add({ op: "invert" }),
      "[": () => resize(1 / 1.2),
      "]": () => resize(1.2),
      "+": () => setView((v) => zoomAt(v, 1.4)),
      "-": () => setView((v) => zoomAt(v, 1 / 1.4)),
    };
    if (command && key === "z") (event.shiftKey ? redo : undo)();
    else if (command && key === "y") redo();
    else if (command || event.target.matches("input")) return;
    else if (onCanvas && key in moves) {
      const by = event.shiftKey ? 0.08 : 0.02;
      const [x, y] = cursor ?? [0.5, 0.5 / ratio];
      const clamp = (value, high) => Math.min(high, Math.max(0, value));
      setCursor([clamp(x + moves[key][0] * by, 1), clamp(y + moves[key][1] * by, 1 / ratio)]);
    } else if (onCanvas && key === " ") {
      const [x, y] = cursor ?? [0.5, 0.5 / ratio];
      setCursor([x, y]);
      add({ op: "stroke", erase: tool.value === "eraser", size: brush.value, points: [x, y, 1] });
    } else if (key in actions) actions[key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const onWheel = (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    setView((v) => zoomAt(v, Math.exp(-event.deltaY / 300)));
  };
  const hover = (event) => {
    const box = canvas.current?.getBoundingClientRect();
    if (box && event.pointerType !== "touch")
      setCursor([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width]);
  };
  const share = size ? Math.round(100 * coverage(mask, size.width, size.height)) : 0;

  return html`
    <${Dialog} label=${S.mask.title} class="mask-dialog" onClose=${() => {
      dialog.value = null;
    }}>
      <div class="mask-editor" onKeyDown=${onKeyDown}>
        <header class="dialog-head">
          <h2>${S.mask.title}</h2>
          <span class="hint" aria-live="polite">${mask.length ? S.mask.painted(share) : S.mask.nothing}</span>
          <button type="button" class="primary" onClick=${() => {
            dialog.value = null;
          }}>${S.mask.done}</button>
        </header>
        <${Toolbar} setView=${setView} view=${view} />
        <div class="mask-stage" onWheel=${onWheel} data-tool=${tool.value}>
          <div class="mask-stack" style=${{ "--ratio": ratio, transform: `translate(${view.x}px, ${view.y}px) scale(${view.zoom})` }}>
            <img src=${image.url} alt="" draggable=${false} onLoad=${onLoad} />
            ${
              ready &&
              html`<canvas ref=${canvas} id="mask-canvas" ...${ready} tabindex="0" role="img" aria-label=${S.mask.canvas}
                ...${pointer.current} onPointerEnter=${hover} onPointerLeave=${() => setCursor(null)}
                onPointerMove=${(e) => {
                  pointer.current.onPointerMove(e);
                  hover(e);
                }}></canvas>`
            }
            ${
              cursor &&
              tool.value !== "hand" &&
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

function Toolbar({ view, setView }) {
  const tools = ["brush", "eraser", "hand"];
  const { mask, mask_feather: feather } = form.value;
  return html`
    <div class="toolbar" role="toolbar" aria-label=${S.mask.title}>
      <div class="segmented icons" role="group">
        ${tools.map(
          (name) =>
            html`<button key=${name} type="button" aria-pressed=${tool.value === name} aria-label=${S.mask[name]} title=${S.mask[name]} onClick=${() => {
              tool.value = name;
            }}><${Icon} name=${name} /></button>`,
        )}
      </div>
      <label class="inline">${S.mask.size}
        <input type="range" min="0.01" max="0.6" step="0.01" value=${brush.value} style=${{ "--share": `${(brush.value - 0.01) / 0.0059}%` }}
          onInput=${(e) => {
            brush.value = e.currentTarget.valueAsNumber;
          }} />
        <output>${Math.round(100 * brush.value)} %</output>
      </label>
      <label class="inline">${S.mask.feather}
        <input type="range" min="0" max="64" step="1" value=${feather} style=${{ "--share": `${feather / 0.64}%` }}
          onInput=${(e) => change({ mask_feather: e.currentTarget.valueAsNumber })} />
        <output>${feather}</output>
      </label>
      <span class="tool-group">
        <${IconButton} icon="undo" label=${S.mask.undo} disabled=${!mask.length} onClick=${undo} />
        <${IconButton} icon="redo" label=${S.mask.redo} disabled=${!undone.value.length} onClick=${redo} />
        <${IconButton} icon="invert" label=${S.mask.invert} onClick=${() => add({ op: "invert" })} />
        <${IconButton} icon="trash" label=${S.mask.clear} disabled=${!mask.length} onClick=${() => add({ op: "clear" })} />
      </span>
      <span class="tool-group zoom">
        <${IconButton} icon="minus" label=${S.mask.zoomOut} disabled=${view.zoom <= 1} onClick=${() => setView((v) => zoomAt(v, 1 / 1.4))} />
        <${IconButton} icon="plus" label=${S.mask.zoomIn} disabled=${view.zoom >= MAX_ZOOM} onClick=${() => setView((v) => zoomAt(v, 1.4))} />
        <${IconButton} icon="fit" label=${S.mask.fit} onClick=${() => setView({ zoom: 1, x: 0, y: 0 })} />
      </span>
    </div>
  `;
}
