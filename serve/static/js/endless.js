// Making pictures of what the form says, each with a new seed, until stopped.
import { effect, signal, untracked } from "@preact/signals";
import { control } from "./controls.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { active, busy, FINAL, requestOf, send, sending, show, shown } from "./jobs.js";
import { form } from "./state.js";
import { S } from "./strings.js";

const AHEAD = 2; // jobs under way, so that the server never waits for the page

const running = signal(false);
const asking = signal(false); // for one more
const mine = new Set();

/** Whether another seed is another picture. */
const hasSeeds = () => control("seed")?.kinds.includes(form.value.mode) ?? false;
const underWay = () => active.value.filter((job) => mine.has(job.id));

async function more() {
  let job = null;
  asking.value = true;
  try {
    const [seed] = crypto.getRandomValues(new Uint32Array(1));
    const request = await requestOf({ seed, seed_locked: true });
    job = request && (await send(request));
    if (job) mine.add(job.id);
  } finally {
    if (!job) running.value = false;
    asking.value = false;
  }
  if (job && !busy.value) show(job);
}

effect(() => {
  if (!hasSeeds()) running.value = false;
  else if (running.value && !asking.value && !sending.value && underWay().length < AHEAD) untracked(more);
});

/** The stage goes on with the pictures, unless something else is looked at. */
effect(() => {
  const job = shown.value;
  if (!running.value || !job || !mine.has(job.id) || !FINAL.includes(job.status)) return;
  const [next] = underWay();
  if (next) untracked(() => show(next));
});

export const Endless = () =>
  hasSeeds() &&
  html`
  <button type="button" class="secondary large" id="endless"
    title=${running.value ? S.run.stopEndless : S.run.endless} aria-label=${running.value ? S.run.stopEndless : S.run.endless}
    onClick=${() => {
      running.value = !running.value;
    }}><${Icon} name=${running.value ? "stop" : "repeat"} /></button>
`;
