// What pointers do in the mask editor: one finger, pen or mouse paints, two fingers or the hand move and zoom.
import { moveCrop } from "./crop.js";
import { add, AREAS, brush, outlined, tool } from "./mask_state.js";
import { apply, draw } from "./mask_strokes.js";
import { form } from "./state.js";

export const INK = "#e0186e"; // seen on every landscape
export const MAX_ZOOM = 8;

/** The view {zoom, x, y} zoomed by a factor and moved by pixels; never smaller than the stage. */
export const zoomAt = (view, factor, dx = 0, dy = 0) => {
  const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
  if (zoom === 1) return { zoom, x: 0, y: 0 };
  const ratio = zoom / view.zoom;
  return { zoom, x: view.x * ratio + dx, y: view.y * ratio + dy };
};

const round = (value) => Math.round(value * 1e4) / 1e4;

/**
 * The corners of a rectangle as points of an area.
 *
 * @param {number[]} from one of them, x and y
 * @param {number[]} to the one across from it
 */
function corners(from, to) {
  const [left, top] = from;
  const [right, bottom] = to;
  return [left, top, right, top, right, bottom, left, bottom];
}

/** Handlers for the mask's canvas. */
export function pointerHandlers(canvas, setView) {
  const pointers = new Map();
  let stroke = null;
  const position = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width];
  };
  const pressure = (event) =>
    event.pointerType === "pen" && event.pressure > 0 ? 0.3 + 0.7 * event.pressure : 1;
  const context = () => canvas.current.getContext("2d");
  const paint = () => apply(context(), { ...stroke, points: stroke.points.slice(-6) }, INK);
  const forget = () => {
    stroke = null;
    outlined.value = null;
    draw(context(), form.value.mask, INK);
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, distance: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
  };
  const erases = (event) =>
    tool.value === "eraser" ||
    event.altKey ||
    event.button === 2 ||
    (event.pointerType === "pen" && event.button === 5);

  const start = (event) => {
    if (AREAS.includes(tool.value)) {
      outlined.value = { op: "area", erase: erases(event), points: position(event) };
    } else {
      const points = [...position(event), pressure(event)];
      stroke = { op: "stroke", erase: erases(event), size: brush.value, points };
      paint();
    }
  };
  const goOn = (event) => {
    if (outlined.value) {
      const { points } = outlined.value;
      const at = position(event);
      const next = tool.value === "lasso" ? [...points, ...at] : corners(points, at);
      outlined.value = { ...outlined.value, points: next };
      return;
    }
    const events = event.getCoalescedEvents?.() ?? [];
    for (const point of events.length ? events : [event]) {
      stroke.points.push(...position(point), pressure(point));
      paint();
    }
  };
  const finish = () => {
    const done = outlined.value ?? stroke;
    const enough = done.op === "stroke" || done.points.length > 4;
    stroke = null;
    outlined.value = null;
    if (enough) add({ ...done, points: done.points.map(round) });
  };

  return {
    onPointerDown(event) {
      event.preventDefault();
      canvas.current.focus();
      canvas.current.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (pointers.size === 2) forget(); // a second finger: it was a gesture, not a stroke
      else if (pointers.size === 1 && !["hand", "frame"].includes(tool.value) && event.button !== 1) start(event);
    },
    onPointerMove(event) {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const after = { x: event.clientX, y: event.clientY };
      if (stroke || outlined.value) goOn(event);
      else if (pointers.size === 2) {
        const old = spread();
        pointers.set(event.pointerId, after);
        const now = spread();
        setView((view) => zoomAt(view, now.distance / old.distance, now.x - old.x, now.y - old.y));
      } else if (tool.value === "frame") {
        const box = canvas.current.getBoundingClientRect();
        moveCrop((after.x - before.x) / box.width, (after.y - before.y) / box.height);
      } else setView((view) => ({ ...view, x: view.x + after.x - before.x, y: view.y + after.y - before.y }));
      pointers.set(event.pointerId, after);
    },
    onPointerUp(event) {
      pointers.delete(event.pointerId);
      if (stroke || outlined.value) finish();
    },
    onPointerCancel(event) {
      pointers.delete(event.pointerId);
      forget();
    },
    onContextMenu: (event) => event.preventDefault(),
  };
}
