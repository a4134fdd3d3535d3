// The page: its parts put together, and what happens to the window as a whole.
import { effect } from "@preact/signals";
import { render } from "preact";
import { api, onUnauthorised } from "./api.js";
import { dropped } from "./actions.js";
import { Composer } from "./form.js";
import { Gallery, Viewer } from "./gallery.js";
import { opened } from "./gallery_state.js";
import { GridDialog, restoreGrid } from "./grid.js";
import { Header } from "./header.js";
import { Help } from "./help.js";
import { html } from "./html.js";
import { active, describe, restore, shown } from "./jobs.js";
import { Login } from "./login.js";
import { MaskEditor } from "./mask_editor.js";
import { PromptBank } from "./prompt_bank.js";
import { onKeyDown } from "./shortcuts.js";
import { onPaste } from "./source.js";
import { Stage } from "./stage.js";
import { dialog, options, receive, server, toasts } from "./state.js";
import { DropTarget, watchDrops } from "./drop.js";
import { S } from "./strings.js";

const READY_MS = 20000;
const NOT_READY_MS = 1500;

const DIALOGS = { mask: MaskEditor, grid: GridDialog, bank: PromptBank, help: Help, login: Login };

function Page() {
  const Open = DIALOGS[dialog.value?.name];
  return html`
    <${Header} />
    <main>${options.value ? html`<${Composer} />` : html`<div class="composer" id="composer"></div>`}<div class="work"><${Stage} /><${Gallery} /></div></main>
    ${opened.value && html`<${Viewer} />`} ${Open && html`<${Open} />`}
    <div class="toasts" role="status">${toasts.value.map((toast) => html`<p key=${toast.id} data-kind=${toast.kind}>${toast.text}</p>`)}</div>
    <${DropTarget} />
  `;
}

/** Asks now and again how the server is; soon again while it is not ready. */
async function watchServer() {
  server.value = await api.ready().catch(() => null);
  setTimeout(watchServer, server.value?.state === "ready" ? READY_MS : NOT_READY_MS);
}

async function start() {
  const { required, authenticated } = await api.login();
  if (required && !authenticated) {
    dialog.value = { name: "login" };
    return;
  }
  receive(await api.options());
  await restore();
  await restoreGrid();
}

function begin() {
  start().catch(() => setTimeout(begin, 3000));
}

onUnauthorised.handler = () => {
  dialog.value = { name: "login" };
};
addEventListener("dg2-login", begin);
addEventListener("keydown", onKeyDown);
addEventListener("paste", onPaste);
watchDrops(dropped);
effect(() => {
  const job = shown.value && active.value.find((one) => one.id === shown.value.id);
  document.title = job ? `${Math.round(100 * job.progress.fraction)} % · ${describe(job)}` : S.app;
});
render(html`<${Page} />`, document.querySelector("#app"));
watchServer();
begin();
