// Keys for everything that is done often. Single letters work outside of text fields only.
import { browse, randomPrompt } from "./bank.js";
import { cancel, FINAL, generate, shown } from "./jobs.js";
import { choosing, opened, selectNone, undoRemoval } from "./gallery_state.js";
import { matchPrompt } from "./match.js";
import { change, dialog, MODES } from "./state.js";
import { toggleTheme } from "./header.js";
import { toggleSeed } from "./widgets.js";

const focus = (selector) => {
  const element = document.querySelector(selector);
  element?.focus();
  element?.select?.();
};

/** Where a prompt is written. */
const PROMPT = "#f-prompt, .reading textarea";

const LETTERS = {
  "/": () => focus(PROMPT),
  g: () => focus("#gallery-search"),
  r: randomPrompt,
  m: matchPrompt,
  b: browse,
  l: toggleSeed,
  t: toggleTheme,
  h: () => {
    dialog.value = { name: "history" };
  },
  "?": () => {
    dialog.value = { name: "help" };
  },
  ...Object.fromEntries(MODES.map((mode, i) => [String(i + 1), () => change({ mode })])),
};

const typesText = (element) =>
  element.matches("input:not([type=range], [type=radio], [type=checkbox]), textarea, select");

export function onKeyDown(event) {
  if (dialog.value || opened.value || event.defaultPrevented) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    event.preventDefault();
    generate();
  } else if ((event.ctrlKey || event.metaKey) && event.key === "z" && !typesText(event.target)) {
    event.preventDefault(); // else the browser undoes the last typing too
    undoRemoval();
  } else if (event.key === "Escape") {
    const open = /** @type {HTMLDetailsElement | null} */ (document.querySelector("details.menu[open]"));
    if (open) open.open = false;
    else if (event.target.matches("input, textarea, select")) return; // there it ends a choice or a completion
    else if (choosing.value) selectNone();
    else if (shown.value && !FINAL.includes(shown.value.status)) cancel(shown.value.id);
  } else if (
    !event.ctrlKey &&
    !event.metaKey &&
    !event.altKey &&
    event.key in LETTERS &&
    !typesText(event.target)
  ) {
    event.preventDefault();
    LETTERS[event.key]();
  }
}
