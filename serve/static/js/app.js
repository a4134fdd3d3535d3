// The page: its parts put together, and what happens to the window as a whole.
import { effect } from "@preact/signals";
import { render } from "preact";
import { api, onUnauthorised } from "./api.js";
import { dropped } from "./actions.js";
import { Composer } from "./form.js";
import { Gallery } from "./gallery.js";
import { opened } from "./gallery_state.js";
import { GridDialog, restoreGrid } from "./grid.js";
import { Header } from "./header.js";
import { Help } from "./help.js";
import { History } from "./history.js";
import { html } from "./html.js";
import { describe } from "./job_words.js";
import { active, restore, shown } from "./jobs.js";
import { Login } from "./login.js";
import { MaskEditor } from "./mask_editor.js";
import { Preferences } from "./preferences.js";
import { PromptBank } from "./prompt_bank.js";
import { onKeyDown } from "./shortcuts.js";
import { watchServer } from "./server.js";
import { onPaste } from "./source.js";
import { Stage } from "./stage.js";
import { dialog, modals, options, receive } from "./state.js";
import { Toasts } from "./toasts.js";
import { CompareTwo } from "./compare_two.js";
import { DropTarget, watchDrops } from "./drop.js";
import { S } from "./strings.js";
import { Viewer } from "./viewer.js";

/** By name; tests look at each. */
export const DIALOGS = {
  mask: MaskEditor,
  grid: GridDialog,
  bank: PromptBank,
  help: Help,
  login: Login,
  history: History,
  preferences: Preferences,
  compare: CompareTwo,
};

function Page() {
  const Open = DIALOGS[dialog.value?.name];
  return html`
    <${Header} />
    <main>${options.value ? html`<${Composer} />` : html`<div class="composer" id="composer"></div>`}<div class="work"><${Stage} /><${Gallery} /></div></main>
    ${opened.value && html`<${Viewer} />`} ${Open && html`<${Open} />`}
    ${modals.value === 0 && html`<${Toasts} />`}
    <${DropTarget} />
  `;
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
  document.title = job ? `${Math.round(100 * job.progress.fraction)}% · ${describe(job)}` : S.app;
});
render(html`<${Page} />`, document.querySelector("#app"));
watchServer();
begin();
