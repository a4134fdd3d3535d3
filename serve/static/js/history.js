// The jobs of this browser, newest first: what became of them, and the way back to them.
import { useEffect, useState } from "preact/hooks";
import { api, pictureUrl } from "./api.js";
import { Dialog } from "./dialog.js";
import { Choice, IconButton } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { titleOf } from "./job_words.js";
import { retry, show } from "./jobs.js";
import { lookAt } from "./look_at.js";
import { dialog } from "./state.js";
import { clientId } from "./storage.js";
import { moment, short, S } from "./strings.js";

const PAGE = 30;
const STATUSES = [[null, S.gallery.all], ...Object.entries(S.history.statuses)];

export function History() {
  const [found, setFound] = useState({ jobs: [], next: null });
  const [state, setState] = useState("loading"); // "loading", "ready" or "failed"
  const [text, setText] = useState("");
  const [status, setStatus] = useState(null);
  const load = async (before = null) => {
    try {
      const page = await api.jobs({ client: clientId, limit: PAGE, q: text.trim(), status, before });
      setFound((old) => ({ ...page, jobs: before ? [...old.jobs, ...page.jobs] : page.jobs }));
      setState("ready");
    } catch {
      setState("failed");
    }
  };
  useEffect(() => {
    const timer = setTimeout(load, text ? 200 : 0);
    return () => clearTimeout(timer);
  }, [text, status]);
  const close = () => {
    dialog.value = null;
  };
  const open = (job) => {
    close();
    show(job);
    lookAt("stage");
  };
  const again = (job) => {
    close();
    retry(job);
  };
  return html`
    <${Dialog} label=${S.history.title} class="bank-dialog" onClose=${close}>
      <div class="dialog-body">
        <header class="dialog-head"><h2>${S.history.title}</h2><${IconButton} icon="close" label=${S.help.close} onClick=${close} /></header>
        <div class="history-filter">
          <div class="search"><${Icon} name="search" /><input type="search" aria-label=${S.history.search} placeholder=${S.history.search} maxlength="200" value=${text} onInput=${(e) => setText(e.currentTarget.value)} /></div>
          <${Choice} aria-label=${S.history.status} value=${status} choices=${STATUSES} onChange=${setStatus} />
        </div>
        <ul class="bank-list history">
          ${found.jobs.map(
            (job) => html`<li key=${job.id} data-status=${job.status}>
              <button type="button" class="bank-prompt" onClick=${() => open(job)}>
                ${job.images.length ? html`<img src=${pictureUrl(job.images[0].id, "webp")} alt="" loading="lazy" width="44" height="44" />` : html`<span class="blank"></span>`}
                <span><b>${short(titleOf(job))}</b><small>${[S.modes[job.kind].label, S.history.statuses[job.status], moment(job.created_at)].join(" · ")}</small></span>
              </button>
              <${IconButton} icon="reset" label=${S.history.again(short(titleOf(job)))} onClick=${() => again(job)} />
            </li>`,
          )}
          ${state === "ready" && !found.jobs.length && html`<li class="note">${text || status ? S.history.nothing : S.history.none}</li>`}
          ${state === "failed" && html`<li class="note">${S.history.failed} <button type="button" class="quiet" onClick=${() => load()}>${S.run.retry}</button></li>`}
          ${found.next && html`<li><button type="button" class="secondary wide" onClick=${() => load(found.next)}>${S.gallery.more}</button></li>`}
        </ul>
      </div>
    <//>
  `;
}
