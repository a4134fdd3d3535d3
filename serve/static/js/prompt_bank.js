// The whole prompt bank in a dialog: searched, used, added to and taken out of.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { api, Problem } from "./api.js";
import { categories, categoryName, loadCategories, SPLITS } from "./bank.js";
import { Dialog } from "./dialog.js";
import { Choice, IconButton } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { use } from "./prompt_text.js";
import { dialog } from "./state.js";
import { S } from "./strings.js";

const PAGE = 50;
const TYPING_MS = 200;

const filter = signal({ q: "", category: null, split: "train" });
/** {rows, total, error}; a row is a prompt {id, prompt, category, split}, and `removed` or `error` of it. */
const list = signal({ rows: null, total: 0, error: null });
let latest = 0;

/** Runs a call; what the server refuses goes to `onProblem`. */
async function ask(call, onProblem) {
  try {
    return await call();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    onProblem(problem);
    return null;
  }
}

/** The first page of what is sought, or the one after the `rows` that are there. */
async function load(rows = []) {
  const asked = ++latest;
  const offset = rows.filter((row) => !row.removed).length;
  const show = (patch) => {
    if (asked === latest) list.value = { ...list.value, ...patch };
  };
  const found = await ask(
    () => api.prompts({ ...filter.value, limit: PAGE, offset }),
    (problem) => show({ error: problem.message }),
  );
  if (!found) return;
  const known = new Set(rows.map((row) => row.id));
  const fresh = found.prompts.filter((row) => !known.has(row.id));
  show({ rows: [...rows, ...fresh], total: found.total, error: null });
}

let typing = 0;
function seek(patch, wait = 0) {
  filter.value = { ...filter.value, ...patch };
  clearTimeout(typing);
  typing = setTimeout(load, wait);
}

const patchRow = (id, patch) => {
  const rows = list.value.rows.map((row) => (row.id === id ? { ...row, ...patch } : row));
  list.value = { ...list.value, rows };
};

/** Takes a prompt out of the bank, or puts it back. */
async function toggle({ id, prompt, category, split, removed, busy }) {
  if (busy) return;
  patchRow(id, { busy: true, error: null });
  let failed = null;
  const done = await ask(
    async () => (removed ? await api.addPrompt({ prompt, category, split }) : await api.removePrompt(id)) ?? { id },
    (problem) => {
      failed = problem.message;
    },
  );
  patchRow(id, done ? { id: done.id, removed: !removed, busy: false } : { error: failed, busy: false });
  if (done) list.value = { ...list.value, total: list.value.total + (removed ? 1 : -1) };
}

const close = () => {
  dialog.value = null;
};

export function PromptBank() {
  useEffect(() => {
    load();
    loadCategories();
  }, []);
  const { rows, total, error } = list.value;
  return html`
    <${Dialog} label=${S.bank.title} class="bank-dialog" onClose=${close}>
      <div class="dialog-body">
        <header class="dialog-head">
          <h2>${S.bank.title}</h2>
          <span class="hint" role="status">${rows && S.bank.count(total)}</span>
          <${IconButton} icon="close" label=${S.help.close} onClick=${close} />
        </header>
        <${Filter} />
        <div class="bank-list">
          ${rows === null && !error && html`<p class="hint">${S.bank.loading}</p>`}
          ${rows?.length === 0 && !error && html`<p class="hint">${S.bank.none}</p>`}
          <ul>${rows?.map((row) => html`<${Row} key=${row.id} row=${row} />`)}</ul>
          ${error && html`<p class="error" role="alert">${error}</p>`}
          ${error && html`<button type="button" class="secondary" onClick=${() => load()}>${S.bank.again}</button>`}
          ${!error && rows?.filter((row) => !row.removed).length < total && html`<button type="button" class="secondary" onClick=${() => load(rows)}>${S.bank.more}</button>`}
        </div>
        <${Add} />
      </div>
    <//>
  `;
}

function Filter() {
  const { q, category, split } = filter.value;
  const names = [[null, S.prompt.anyCategory], ...categories.value.map((name) => [name, categoryName(name)])];
  return html`
    <div class="bank-filter">
      <span class="search">
        <${Icon} name="search" />
        <input type="search" aria-label=${S.bank.search} placeholder=${S.gallery.search} maxlength="200" autocomplete="off" value=${q}
          onInput=${(e) => seek({ q: e.currentTarget.value }, TYPING_MS)} />
      </span>
      <${Choice} aria-label=${S.prompt.category} value=${category} choices=${names} onChange=${(name) => seek({ category: name })} />
      <${Choice} aria-label=${S.prompt.split} value=${split} choices=${SPLITS} onChange=${(name) => seek({ split: name })} />
    </div>
  `;
}

function Row({ row }) {
  const { prompt, category, removed, error } = row;
  const choose = () => {
    use(prompt);
    close();
  };
  return html`
    <li data-removed=${Boolean(removed)}>
      <button type="button" class="bank-prompt" title=${S.prompt.matchUse(prompt)} disabled=${removed} onClick=${choose}>
        <span>${prompt}</span>${filter.value.category === null && html`<small>${categoryName(category)}</small>`}
      </button>
      <${IconButton} icon=${removed ? "undo" : "trash"} label=${(removed ? S.bank.restore : S.bank.remove)(prompt)} onClick=${() => toggle(row)} />
      ${error && html`<p class="error" role="alert">${error}</p>`}
    </li>
  `;
}

/** A form for one more prompt, which is then first in the list. */
function Add() {
  const [wrong, setWrong] = useState({});
  const [added, setAdded] = useState(null);
  const [split, setSplit] = useState("train");
  const submit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const prompt = form.elements.prompt.value.trim();
    const category = categoryName(form.elements.category.value.trim().toLowerCase()); // as banks spell it
    const problems = {
      ...(prompt ? {} : { prompt: S.errors.prompt }),
      ...(category ? {} : { category: S.errors.category }),
    };
    setAdded(null);
    setWrong(problems);
    if (Object.keys(problems).length) {
      form.elements[Object.keys(problems)[0]].focus();
      return;
    }
    const stored = await ask(
      () => api.addPrompt({ prompt, category, split }),
      ({ message, fields }) => {
        const named = fields.filter(({ field }) => ["prompt", "category"].includes(field));
        setWrong(
          named.length ? Object.fromEntries(named.map((f) => [f.field, f.message])) : { form: message },
        );
      },
    );
    if (!stored) return;
    form.elements.prompt.value = "";
    form.elements.prompt.focus();
    setAdded(S.bank.added(categoryName(stored.category)));
    await loadCategories();
    seek({ q: "", category: stored.category, split });
  };
  const field = (name, label, rest, children = null) => html`
    <div class="field">
      <label for=${`bank-${name}`}>${label}</label>
      <input type="text" id=${`bank-${name}`} name=${name} autocomplete="off" aria-invalid=${wrong[name] ? "true" : undefined}
        aria-describedby=${wrong[name] ? `bank-error-${name}` : undefined} ...${rest} />
      ${children}
      ${wrong[name] && html`<p class="error" id=${`bank-error-${name}`} role="alert">${wrong[name]}</p>`}
    </div>
  `;
  return html`
    <details class="advanced bank-add">
      <summary>${S.bank.add}</summary>
      <form onSubmit=${submit} novalidate>
        ${field("prompt", S.bank.prompt, { maxlength: 4000 })}
        <div class="pair">
          ${field(
            "category",
            S.bank.category,
            { maxlength: 100, list: "bank-categories", placeholder: S.bank.categoryHint },
            html`<datalist id="bank-categories">${categories.value.map((name) => html`<option key=${name} value=${categoryName(name)}></option>`)}</datalist>`,
          )}
          <div class="field">
            <label for="bank-split">${S.bank.split}</label>
            <${Choice} id="bank-split" value=${split} choices=${SPLITS} onChange=${setSplit} />
          </div>
        </div>
        ${wrong.form && html`<p class="error" role="alert">${wrong.form}</p>`}
        <div class="bank-save">
          <button type="submit" class="primary">${S.bank.save}</button>
          <span class="hint" role="status">${added}</span>
        </div>
      </form>
    </details>
  `;
}
