// Keys for everything that is done often. Single letters work outside of text fields only.
import { browse, matchPrompt, panel, randomPrompt } from "./bank.js";
import { cancel, FINAL, generate, shown } from "./jobs.js";
import { choosing, opened, selectNone, undoRemoval } from "./gallery_state.js";
import { toggleSeed } from "./settings.js";
import { change, dialog, MODES } from "./state.js";
import { toggleTheme } from "./header.js";

const focus = (selector) => {
  const element = document.querySelector(selector);
  element?.focus();
  element?.select?.();
};

const LETTERS = {
  "/": () => focus("#f-prompt, .reading input"),
  g: () => focus("#gallery-search"),
  r: randomPrompt,
  m: () => (panel.value === "match" ? (panel.value = null) : matchPrompt()),
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
    undoRemoval();
  } else if (event.key === "Escape") {
    const open = /** @type {HTMLDetailsElement | null} */ (document.querySelector("details.menu[open]"));
    if (open) open.open = false;
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
