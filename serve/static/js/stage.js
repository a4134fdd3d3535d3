// The stage: the job shown, from its place in the queue over its previews to its pictures.
import { gone, opened } from "./gallery_state.js";
import { Grid } from "./grid.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { describe, titleOf, took } from "./job_words.js";
import { announcement, cancel, FINAL, generate, grid, preview, retry, shown } from "./jobs.js";
import { Actions, altOf, Facts, Picture, Title } from "./picture.js";
import { Queue } from "./queue.js";
import { change, connected, options, server } from "./state.js";
import { short, S } from "./strings.js";

export function Stage() {
  const lost = !server.value ? S.run.offline : !connected.value ? S.run.reconnecting : null;
  return html`
    <section class="stage" id="stage" aria-label=${S.run.stage}>
      ${lost && html`<p class="banner" role="status">${lost}</p>`}
      ${grid.value ? html`<${Grid} />` : shown.value ? html`<${Job} key=${shown.value.id} job=${shown.value} />` : html`<${Empty} />`}
      <${Queue} />
      <p class="visually-hidden" role="status">${announcement.value}</p>
    </section>
  `;
}

function Job({ job }) {
  const running = !FINAL.includes(job.status);
  const count = job.request.num_images ?? 1;
  const images = job.images.filter((image) => !gone.value.has(image.id));
  const [first] = images;
  return html`
    <div class="job" data-status=${job.status} data-kind=${job.kind}>
      ${(running || first) && html`<div class="job-media"><${Media} job=${job} images=${images} count=${running ? count : Math.min(count, job.images.length)} /></div>`}
      <div class="job-side">
        ${titleOf(job) !== S.modes[job.kind].title && html`<p class="eyebrow">${S.modes[job.kind].title}</p>`}
        <${Title} text=${titleOf(job)} />
        ${job.matched_from && html`<p class="hint">${S.prompt.matched(job.matched_from)}</p>`}
        ${running && html`<${Progress} job=${job} />`}
        ${job.status === "done" && html`<p class="hint">${took(job)}</p>`}
        ${(job.status === "running" || !running) && job.notes.map((note) => html`<p class="note" key=${note}>${note}</p>`)}
        ${job.status === "done" && !first && html`<p class="note"><${Icon} name="trash" />${S.run.deleted(job.images.length)}</p>`}
        ${job.status === "cancelled" && html`<p class="note"><${Icon} name="close" />${S.run.cancelled}</p>`}
        ${job.status === "failed" && html`<div class="failure" role="alert"><b>${S.run.failed}</b><p>${job.error?.detail}</p></div>`}
        ${(job.status === "failed" || job.status === "cancelled") && html`<button type="button" class="secondary strong" onClick=${() => retry(job)}><${Icon} name="reset" />${S.run.retry}</button>`}
        ${first && !running && html`<${Facts} image=${first} count=${images.length} />`}
        ${first && !running && count > 1 && html`<p class="hint">${S.run.openOne}</p>`}
        ${first && !running && count === 1 && html`<${Actions} image=${first} />`}
      </div>
    </div>
  `;
}

/** The pictures of a job, and places for those that are not there yet. */
function Media({ job, images, count }) {
  const [first] = images;
  if (count === 1)
    return first
      ? html`<${Picture} key=${first.id} image=${first} />`
      : html`<${Waiting} job=${job} index=${0} />`;
  const ended = FINAL.includes(job.status);
  const indices = ended
    ? images.map((image) => image.index)
    : Array.from({ length: count }, (_, index) => index);
  return html`
    <div class="tiles" data-count=${indices.length}>
      ${indices.map((index) => {
        const image = images.find((i) => i.index === index);
        return image
          ? html`<button type="button" class="tile" key=${index} aria-label=${S.picture.open(short(`${image.prompt}, ${image.seed}`))} onClick=${() => {
              opened.value = image;
            }}><img src=${image.url} alt=${altOf(image)} /></button>`
          : html`<${Waiting} key=${index} job=${job} index=${index} />`;
      })}
    </div>
  `;
}

/** The place of a picture that is not there yet. */
function Waiting({ job, index }) {
  const seen = preview.value?.images.find((image) => image.index === index);
  return html`
    <div class="waiting" data-busy="true">
      ${seen ? html`<img class="preview" src=${seen.url} alt=${S.run.preview(short(titleOf(job)))} data-step=${preview.value.step} />` : html`<span class="visually-hidden">${S.run.waiting}</span>`}
    </div>
  `;
}

function Progress({ job }) {
  const percent = Math.round(100 * (job.progress?.fraction ?? 0));
  const text = describe(job);
  return html`
    <div class="progress">
      <div class="bar" role="progressbar" aria-label=${S.run.progress} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${percent} aria-valuetext=${text}
        data-waiting=${job.status === "queued" || percent === 0}>
        <span style=${{ width: `${percent}%` }}></span>
      </div>
      <div class="progress-row">
        <span class="progress-text">${text}</span>
        <button type="button" class="secondary" id="cancel" disabled=${job.cancelling} onClick=${() => cancel(job.id)}>
          ${job.cancelling ? S.run.cancelling : S.run.cancel}
        </button>
      </div>
    </div>
  `;
}

/** What a first visit shows: a prompt that works and one button. */
function Empty() {
  const [first, ...others] = S.empty.prompts;
  const make = (prompt) => {
    change({ mode: "txt2img", prompt });
    generate();
  };
  return html`
    <div class="empty">
      <div class="empty-art" aria-hidden="true"><span></span><span></span><span></span></div>
      <h2>${S.empty.title}</h2>
      <p>${S.empty.text}</p>
      <blockquote>${first}</blockquote>
      <button type="button" class="primary large" disabled=${!options.value} onClick=${() => make(first)}><${Icon} name="spark" />${S.empty.go}</button>
      <div class="ideas" role="group" aria-label=${S.empty.more}>
        ${others.map((prompt) => html`<button type="button" class="chip" key=${prompt} disabled=${!options.value} onClick=${() => make(prompt)}>${prompt}</button>`)}
      </div>
    </div>
  `;
}
