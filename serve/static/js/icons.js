// The icons: strokes on a 24-unit square, drawn for this page.
import { html } from "./html.js";

const PATHS = {
  text: "M5 6h14M5 6v2M19 6v2M12 6v13M9 19h6",
  image: "M4 5h16v14H4zM4 16l4.5-5 4 4.5 2.5-2.5L20 18M15.5 9.2h.01",
  brush:
    "M19.5 4.5c-4 1-8.5 5-10.5 8.5l2 2c3.5-2 7.5-6.5 8.5-10.5zM8 14.5c-2 0-2.5 1.5-2.7 2.7C5.1 18.5 4 19 4 19c3.5 1 6.5 0 6.5-2.5",
  eraser: "M4 15.5 13.5 6a1.5 1.5 0 0 1 2 0l3.5 3.5a1.5 1.5 0 0 1 0 2L12 18.5H7zM9 10.5l5.5 5.5M12 18.5h8",
  lasso:
    "M12 5c4.7 0 8 2 8 4.8S16.7 15 12 15s-8-2.2-8-5.2S7.3 5 12 5zM7.5 14.2a2 2 0 1 0 1.5 3c.5 1.6 0 2.8-1.5 3.3",
  rectangle: "M4 7.5V5h2.5M10 5h4M17.5 5H20v2.5M20 11v2M20 16.5V19h-2.5M14 19h-4M6.5 19H4v-2.5M4 13v-2",
  frame: "M7 3v14h14M3 7h14v14",
  palette:
    "M12 4a8 8 0 1 0 0 16c1.6 0 1.8-1.3 1.2-2.2-.8-1.2.1-2.6 1.5-2.6H17a3 3 0 0 0 3-3C20 7.5 16.4 4 12 4zM8 11h.01M11 8h.01M15 8.5h.01",
  file: "M7 4h7l4 4v12H7zM14 4v4h4M10 12h5M10 15.5h5",
  turn: "M20 12a8 8 0 1 1-2.5-5.8M20 4v4.5h-4.5",
  enlarge: "M4 10V4h6M20 14v6h-6M4 4l6.5 6.5M20 20l-6.5-6.5",
  extend: "M9 9h6v6H9zM4 7V4h3M17 4h3v3M20 17v3h-3M7 20H4v-3M4 11v2M20 11v2M11 4h2M11 20h2",
  list: "M9 6.5h11M9 12h11M9 17.5h11M4.5 6.5h.01M4.5 12h.01M4.5 17.5h.01",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5 20 20",
  match: "M4 8h9M4 12h6M4 16h9M16 9l4 3.5-4 3.5",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.8-1.2",
  back: "M9 7 4.5 11.5 9 16M5 11.5h9a5 5 0 0 1 5 5V18",
  down: "M6 9.5l6 6 6-6",
  download: "M12 4v11M7.5 11l4.5 4.5L16.5 11M5 20h14",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  close: "M6 6l12 12M18 6 6 18",
  up: "M6 14.5l6-6 6 6",
  pause: "M8.5 5v14M15.5 5v14",
  play: "M7 5l12 7-12 7z",
  stop: "M6 6h12v12H6z",
  repeat: "M5 11a7 7 0 0 1 12-4.5L19.5 9M19.5 4.5V9H15M19 13a7 7 0 0 1-12 4.5L4.5 15M4.5 19.5V15H9",
  clock: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16zM12 7.5V12l3 2",
  select: "M4 4h11v11H4zM9 20h11V9M7 9.5l2 2 3.5-4",
  heart: "M12 20C5.5 15.5 4 12 4 9.2A4.2 4.2 0 0 1 12 7a4.2 4.2 0 0 1 8 2.2c0 2.8-1.5 6.3-8 10.8z",
  wholeScreen: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5M9 9l-5-5M15 9l5-5M9 15l-5 5M15 15l5 5",
  beside: "M4 5h7v14H4zM13 5h7v14h-7z",
  layers: "M12 4l8 4.5-8 4.5-8-4.5zM4.5 12.5 12 17l7.5-4.5M4.5 16 12 20.5 19.5 16",
  left: "M14.5 6l-6 6 6 6",
  right: "M9.5 6l6 6-6 6",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  undo: "M8.5 6 4.5 10l4 4M5 10h9a5 5 0 0 1 0 10h-3",
  redo: "M15.5 6l4 4-4 4M19 10h-9a5 5 0 0 0 0 10h3",
  invert: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  hand: "M8 12V6.5a1.3 1.3 0 0 1 2.6 0V11M10.6 11V5a1.3 1.3 0 0 1 2.6 0v6M13.2 11V6a1.3 1.3 0 0 1 2.6 0v6M15.8 11.5V8.5a1.3 1.3 0 0 1 2.6 0V15c0 3-2 5.5-5.4 5.5S8 18.5 6.5 16L5 13.3c-.5-1 1-2 1.8-1.2L8 13.5",
  grid: "M4 4h16v16H4zM4 9.3h16M4 14.7h16M9.3 4v16M14.7 4v16",
  sliders: "M4 7h8M16 7h4M14 5v4M4 17h4M12 17h8M10 15v4M4 12h12M20 12h0M18 10v4",
  keyboard: "M3 7h18v10H3zM7 10.5h.01M10.5 10.5h.01M14 10.5h.01M17.5 10.5h.01M8 14h8",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M5.6 18.4 7 17M17 7l1.4-1.4",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z",
  compare: "M12 3v18M9 7H4v10h5M15 7h5v10h-5",
  copy: "M8 8h11v11H8zM5 16V5h11",
  check: "M5 12.5l4.5 4.5L19 7.5",
  spark: "M12 4l1.8 5.2L19 11l-5.2 1.8L12 18l-1.8-5.2L5 11l5.2-1.8zM19 17v4M17 19h4",
  bookmark: "M7 4h10v16l-5-4-5 4z",
  reset: "M4 12a8 8 0 1 0 2.5-5.8M4 4v4.5h4.5",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
};

/** An icon; decoration only, the control that holds it has the name. */
export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>
`;
