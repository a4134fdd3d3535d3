// What pointers do in the mask editor: one finger, pen or mouse paints, two fingers or the hand move and zoom.
import { moveCrop } from "./crop.js";
import { add, AREAS, brush, outlined, tool, view } from "./mask_state.js";
import { apply, draw } from "./mask_strokes.js";
import { form } from "./state.js";
import { Fingers } from "./zoom.js";

export const INK = "#e0186e"; // seen on every landscape

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
export function pointerHandlers(canvas) {
  const fingers = new Fingers();
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
      fingers.down(event);
      if (fingers.count === 2) forget(); // a second finger: it was a gesture, not a stroke
      else if (fingers.count === 1 && !["hand", "frame"].includes(tool.value) && event.button !== 1) start(event);
    },
    onPointerMove(event) {
      const told = fingers.move(event);
      if (!told) return;
      if (stroke || outlined.value) goOn(event);
      else if (tool.value === "frame" && fingers.count === 1) {
        const box = canvas.current.getBoundingClientRect();
        moveCrop(told.x / box.width, told.y / box.height);
      } else view.follow(told, canvas.current.parentElement);
    },
    onPointerUp(event) {
      fingers.up(event);
      if (stroke || outlined.value) finish();
    },
    onPointerCancel(event) {
      fingers.up(event);
      forget();
    },
    onContextMenu: (event) => event.preventDefault(),
  };
}
