// The X/Y grid: one job for each combination of two settings, laid out as a table.
import { useState } from "preact/hooks";
import { saveBlob } from "./actions.js";
import { api } from "./api.js";
import { control } from "./controls.js";
import { Dialog } from "./dialog.js";
import { Choice, IconButton } from "./fields.js";
import { opened } from "./gallery_state.js";
import { axisChoices, axisNames, parseAxis } from "./grid_axis.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { cancel, FINAL, grid, jobs, leave, send, setAddress } from "./jobs.js";
import { lookAt } from "./look_at.js";
import { maskPicture } from "./mask_strokes.js";
import { altOf } from "./picture.js";
import { check, isMasked, toRequest } from "./request.js";
import { dialog, errors, form } from "./state.js";
import { load, save as store, uniqueName } from "./storage.js";
import { S } from "./strings.js";
import { withWeights } from "./weights.js";

const KEPT = 10;

/** Asks for the two axes and sends the jobs. */
export function GridDialog() {
  const draft = load("grid-draft", {
    x: { name: "num_inference_steps", text: "5, 10, 20" },
    y: { name: "guidance_scale", text: "1.5, 2.5, 5" },
  });
  const [axes, setAxes] = useState(draft);
  const [wrong, setWrong] = useState({});
  const [busy, setBusy] = useState(false);
  const most = control("num_images").maximum;
  const close = () => {
    dialog.value = null;
  };
  const parsed = {
    x: parseAxis(axes.x, form.value),
    y: parseAxis(axes.y, form.value),
  };
  const count = parsed.x.values.length * parsed.y.values.length;

  const make = async (event) => {
    event.preventDefault();
    const found = Object.fromEntries(
      Object.entries(parsed)
        .filter(([, axis]) => axis.error)
        .map(([key, axis]) => [key, axis.error]),
    );
    if (count > most) found.x = S.grid.tooMany(most);
    setWrong(found);
    if (Object.keys(found).length) return;
    store("grid-draft", axes);
    errors.value = check(form.value);
    if (Object.keys(errors.value).length) {
      close();
      return;
    }
    setBusy(true);
    await start(parsed);
    close();
  };
  const set = (key, patch) => setAxes({ ...axes, [key]: { ...axes[key], ...patch } });
  return html`
    <${Dialog} label=${S.grid.title} class="small-dialog" onClose=${close}>
      <form class="dialog-body" onSubmit=${make} novalidate>
        <header class="dialog-head"><h2>${S.grid.title}</h2><${IconButton} icon="close" label=${S.help.close} onClick=${close} /></header>
        <p class="hint">${S.grid.text}</p>
        <${AxisFields} id="x" label=${S.grid.x} axis=${axes.x} error=${wrong.x} onChange=${(patch) => set("x", patch)} />
        <${AxisFields} id="y" label=${S.grid.y} axis=${axes.y} error=${wrong.y} onChange=${(patch) => set("y", patch)} optional />
        <button type="submit" class="primary" disabled=${busy}>${busy ? S.run.sending : S.grid.make(count)}</button>
      </form>
    <//>
  `;
}

function AxisFields({ id, label, axis, error, onChange, optional }) {
  const names = axisNames(form.value);
  const choices = optional ? [[null, S.grid.none], ...names] : names;
  return html`
    <div class="field">
      <label for=${`grid-${id}`}>${label}</label>
      <div class="axis">
        <${Choice} id=${`grid-${id}`} value=${axis.name} choices=${choices} onChange=${(name) => onChange({ name })} />
        ${
          axis.name &&
          html`<input type="text" aria-label=${S.grid.values(label)} value=${axis.text} aria-invalid=${error ? "true" : undefined}
            aria-describedby=${`grid-hint-${id}`} onInput=${(e) => onChange({ text: e.currentTarget.value })} />`
        }
      </div>
      ${axis.name && html`<p class="hint" id=${`grid-hint-${id}`}>${hintOf(axis.name)}</p>`}
      ${error && html`<p class="error" role="alert">${error}</p>`}
    </div>
  `;
}

function hintOf(name) {
  if (name === "prompt") return S.grid.promptHint;
  const allowed = axisChoices(name);
  return allowed ? S.grid.choicesHint(allowed.join(", ")) : S.grid.numbersHint;
}

async function start({ x, y }) {
  const base = form.value;
  const seed = base.seed_locked ? base.seed : crypto.getRandomValues(new Uint32Array(1))[0];
  const fixed = { ...base, seed, seed_locked: true, num_images: 1 };
  const mask = isMasked(base) ? await maskPicture(base.mask, base.image) : null;
  leave();
  const made = { id: uniqueName(), x: labels(x), y: labels(y), jobs: [] };
  for (const row of y.values) {
    made.jobs.push([]);
    for (const column of x.values) {
      const patch = { ...row.patch, ...column.patch };
      const own = patch.weights ? withWeights(fixed, patch.weights) : {};
      const job = await send(toRequest({ ...fixed, ...own, ...patch }, mask));
      if (!job) return;
      made.jobs.at(-1).push(job.id);
      openGrid({ ...made, jobs: made.jobs.map((ids) => [...ids]) });
    }
  }
  keepGrid(made);
}

/** Shows a grid, also after a reload. */
export function keepGrid(made) {
  store("grids", [made, ...load("grids", [])].slice(0, KEPT));
  openGrid(made);
  lookAt("stage");
}

const labels = (axis) => ({ name: axis.label, values: axis.values.map((value) => value.label) });

function openGrid(one) {
  grid.value = one;
  setAddress(`grid=${one.id}`);
}

/** After a reload: the grid of the address. */
export async function restoreGrid() {
  const id = /^#grid=([\w-]+)$/.exec(location.hash)?.[1];
  const known = id && load("grids", []).find((one) => one.id === id);
  if (!known) return;
  const missing = known.jobs.flat().filter((job) => !jobs.value[job]);
  const found = await Promise.all(missing.map((job) => api.job(job).catch(() => null)));
  jobs.value = { ...jobs.value, ...Object.fromEntries(found.filter(Boolean).map((job) => [job.id, job])) };
  openGrid(known);
}

/** The grid on the stage. */
export function Grid() {
  const { x, y, jobs: rows } = grid.value;
  const running = rows.flat().filter((id) => jobs.value[id] && !FINAL.includes(jobs.value[id].status));
  return html`
    <div class="grid-view">
      <div class="grid-head">
        <h2>${[x.name, y.name].filter(Boolean).join(" × ")}</h2>
        ${running.length > 0 && html`<span class="hint" role="status">${S.run.images(rows.flat().length - running.length, x.values.length * y.values.length)}</span>`}
        ${running.length > 0 && html`<button type="button" class="secondary" onClick=${() => running.forEach(cancel)}>${S.run.cancel}</button>`}
        ${running.length === 0 && html`<button type="button" class="secondary" onClick=${saveSheet}><${Icon} name="download" />${S.grid.save}</button>`}
        <${IconButton} icon="close" label=${S.grid.close} onClick=${leave} />
      </div>
      <div class="grid-scroll" tabindex="0" role="region" aria-label=${S.grid.title}>
        <table>
          <thead><tr><th scope="col"><span class="visually-hidden">${y.name}</span></th>${x.values.map((value, i) => html`<th scope="col" key=${i}>${value}</th>`)}</tr></thead>
          <tbody>
            ${rows.map((ids, r) => html`<tr key=${r}><th scope="row">${y.values[r]}</th>${ids.map((id) => html`<td key=${id}><${Cell} job=${jobs.value[id]} /></td>`)}</tr>`)}
          </tbody>
        </table>
      </div>
    </div>
  `;
}

function Cell({ job }) {
  const image = job?.images[0];
  if (!image)
    return html`<div class="waiting" data-busy=${job ? !FINAL.includes(job.status) : false}>${job?.status === "failed" && html`<small>${job.error?.detail}</small>`}</div>`;
  return html`<button type="button" class="tile" aria-label=${S.picture.open(altOf(image))} onClick=${() => {
    opened.value = image;
  }}><img src=${image.url} alt=${altOf(image)} /></button>`;
}

/** Draws the table into one picture and saves it. */
async function saveSheet() {
  const { x, y, jobs: rows } = grid.value;
  const cells = await Promise.all(
    rows.flat().map(async (id) => {
      const image = new Image();
      image.src = jobs.value[id]?.images[0]?.url ?? "";
      await image.decode().catch(() => {});
      return image;
    }),
  );
  const side = Math.max(...cells.map((image) => image.naturalWidth), 64);
  const [left, top] = [120, 32];
  const canvas = new OffscreenCanvas(left + side * x.values.length, top + side * rows.length);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#000";
  context.font = "14px system-ui, sans-serif";
  x.values.forEach((text, i) => context.fillText(text, left + i * side + 4, 21, side - 8));
  y.values.forEach((text, i) => context.fillText(text, 6, top + i * side + side / 2, left - 12));
  cells.forEach((image, i) => {
    if (!image.naturalWidth) return;
    context.drawImage(
      image,
      left + (i % x.values.length) * side,
      top + Math.floor(i / x.values.length) * side,
      side,
      side,
    );
  });
  saveBlob(await canvas.convertToBlob(), "grid.png");
}
