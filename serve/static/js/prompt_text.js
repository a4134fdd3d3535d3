// The prompt as the page changes it: put in, and what was typed before brought back.
import { signal } from "@preact/signals";
import { change, form } from "./state.js";

/** What was typed before the page put prompts in its place; null for nothing. */
export const typed = signal(null);
/** The prompt that the page put in last. */
let put = null;

/** Puts a prompt into the form; what was typed before can be had again. */
export function use(prompt) {
  const { prompt: there } = form.value;
  if (there !== put && there.trim()) typed.value = there;
  put = prompt;
  change({ prompt });
}

/** Brings back what was typed. */
export function takeBack() {
  change({ prompt: typed.value });
  typed.value = null;
}
