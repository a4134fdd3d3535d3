// The jobs under way that are not on the stage: held, ordered, cancelled.
import { api } from "./api.js";
import { IconButton } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { describe, titleOf } from "./job_words.js";
import { active, cancel, grid, order, paused, show, shown, sync, takeQueue } from "./jobs.js";
import { notify } from "./state.js";
import { short, S } from "./strings.js";

/** Does something to the queue, and shows what came of it. */
async function act(call) {
  try {
    takeQueue(await call);
  } catch (problem) {
    notify(problem.message, "error");
    sync();
  }
}

const hold = () => act(api.pause(!paused.value));

/** Moves a waiting job by one place. */
function move(job, by) {
  const ids = waiting().map((one) => one.id);
  const at = ids.indexOf(job.id);
  ids.splice(at, 1);
  ids.splice(at + by, 0, job.id);
  act(api.arrange(ids));
}

const place = (job) => (order.value.includes(job.id) ? order.value.indexOf(job.id) : order.value.length);
const inOrder = () => active.value.toSorted((a, b) => place(a) - place(b));
const waiting = () => inOrder().filter((job) => job.status === "queued" && order.value.includes(job.id));

export function Queue() {
  const inGrid = new Set((grid.value?.jobs ?? []).flat());
  const others = inOrder().filter((job) => job.id !== shown.value?.id && !inGrid.has(job.id));
  if (!others.length && !paused.value) return null;
  const line = waiting();
  return html`
    <section class="others" aria-labelledby="queue-title">
      <header>
        <h2 id="queue-title">${S.queue.title}</h2>
        ${paused.value && html`<span class="hint">${S.queue.paused}</span>`}
        <button type="button" class="quiet" onClick=${hold}><${Icon} name=${paused.value ? "play" : "pause"} />${paused.value ? S.queue.resume : S.queue.pause}</button>
        ${line.length > 1 && html`<button type="button" class="quiet" onClick=${() => act(api.clearQueue())}><${Icon} name="close" />${S.queue.clear}</button>`}
      </header>
      <ul>${others.map((job) => html`<${Row} key=${job.id} job=${job} line=${line} />`)}</ul>
    </section>
  `;
}

function Row({ job, line }) {
  const title = short(titleOf(job));
  const at = line.indexOf(job);
  return html`
    <li data-status=${job.status}>
      <button type="button" class="quiet" onClick=${() => show(job)}><b>${title}</b><small>${describe(job)}</small></button>
      ${
        at >= 0 &&
        line.length > 1 &&
        html`
          <${IconButton} icon="up" label=${S.queue.earlier(title)} disabled=${at === 0} onClick=${() => move(job, -1)} />
          <${IconButton} icon="down" label=${S.queue.later(title)} disabled=${at === line.length - 1} onClick=${() => move(job, 1)} />
        `
      }
      <${IconButton} icon="close" label=${S.queue.cancel(title)} disabled=${job.cancelling} onClick=${() => cancel(job.id)} />
    </li>
  `;
}
