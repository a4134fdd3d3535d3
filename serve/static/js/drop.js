// Pictures dropped anywhere on the page.
import { signal } from "@preact/signals";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { S } from "./strings.js";

const over = signal(false);

/** Hands dropped files to `onFile`; places that take files themselves stop the event first. */
export function watchDrops(onFile) {
  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const end = () => {
    depth = 0;
    over.value = false;
  };
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    depth++;
    over.value = true;
  });
  addEventListener("dragleave", () => {
    if (--depth <= 0) end();
  });
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    end();
    const [file] = event.dataTransfer.files;
    if (file) onFile(file);
  });
  addEventListener("dg2-drop-over", end);
}

export const DropTarget = () =>
  over.value &&
  html`<div class="drop-target" aria-hidden="true"><div><${Icon} name="download" /><b>${S.drop.title}</b><p>${S.drop.text}</p></div></div>`;
