// Prompts from a text file: one job for each line, all else as in the form.
import { signal } from "@preact/signals";
import { api } from "./api.js";
import { html } from "./html.js";
import { send, show } from "./jobs.js";
import { maskPicture } from "./mask_strokes.js";
import { check, isMasked, toRequest } from "./request.js";
import { errors, form } from "./state.js";
import { S } from "./strings.js";

/** What was read: null, {name, lines, wrong} or {…, done: lines that were sent}. */
export const opened = signal(null);

/** Reads a file. */
export async function openFile(file) {
  const text = new TextDecoder().decode(await file.arrayBuffer());
  const lines = text
    .split(/\r\n|\r|\n/)
    .map((line) => line.trim())
    .filter(Boolean);
  opened.value = { name: file.name, lines, wrong: lines.length ? null : S.file.empty };
}

/** Sends a job for each line, after all lines were checked. */
async function make() {
  const { lines } = opened.value;
  const base = form.value;
  const tell = (patch) => {
    opened.value = opened.value && { ...opened.value, ...patch };
  };
  errors.value = check(base);
  if (Object.keys(errors.value).length) return;
  tell({ wrong: null, done: 0 });
  const mask = isMasked(base) ? await maskPicture(base.mask, base.image) : null;
  for (const [i, prompt] of lines.entries()) {
    const { problem } = await api.tokens(prompt, base.model).catch(() => ({ problem: null }));
    if (problem) {
      tell({ wrong: S.file.line(i + 1, problem), done: undefined });
      return;
    }
  }
  let first = null;
  for (const [i, prompt] of lines.entries()) {
    const job = await send(toRequest({ ...base, prompt }, mask));
    if (!job) {
      tell({ lines: lines.slice(i), wrong: S.file.stopped(i, lines.length), done: undefined });
      break;
    }
    first ??= job;
    tell({ done: i + 1 });
    if (i === lines.length - 1) opened.value = null;
  }
  if (first) show(first);
}

/** The file that was chosen, and a button that makes its pictures. */
export function FilePanel() {
  const { name, lines, wrong, done } = opened.value;
  const close = () => {
    opened.value = null;
  };
  return html`
    <div class="panel">
      <p><b>${name}</b> <span class="hint">${S.file.lines(lines.length)}</span></p>
      <ol class="lines">${lines.slice(0, 5).map((line) => html`<li dir="auto">${line}</li>`)}</ol>
      ${wrong && html`<p class="error" role="alert">${wrong}</p>`}
      <div class="row">
        <button type="button" class="primary" disabled=${done !== undefined || !lines.length} onClick=${make}>${done === undefined ? S.file.make(lines.length) : S.file.sent(done, lines.length)}</button>
        <button type="button" class="quiet" onClick=${close}>${S.file.close}</button>
      </div>
    </div>
  `;
}
