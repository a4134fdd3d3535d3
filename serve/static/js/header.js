// The bar on top: the model and its state, help, light or dark.
import { IconButton } from "./fields.js";
import { html } from "./html.js";
import { dialog, model, options, server, setTheme, theme } from "./state.js";
import { S } from "./strings.js";

export const isDark = () =>
  theme.value === "dark" || (theme.value === "system" && matchMedia("(prefers-color-scheme: dark)").matches);

/** To the other one; to the system's own choice where that is the same. */
export function toggleTheme() {
  const dark = !isDark();
  setTheme(dark === matchMedia("(prefers-color-scheme: dark)").matches ? "system" : dark ? "dark" : "light");
}

function stateText() {
  const state = server.value;
  if (!state) return S.server.offline;
  if (state.state === "warming") return S.server.warming(state.warmup.done, state.warmup.total);
  return S.server[state.state] ?? S.server.unknown;
}

export function Header() {
  const state = server.value?.state ?? "offline";
  return html`
    <header class="top">
      <a class="skip" href="#composer" onClick=${(e) => {
        e.preventDefault(); // the address is that of the job
        /** @type {HTMLElement} */ (document.querySelector("#composer :is(textarea, .dropzone, .source-actions button)"))?.focus();
      }}>${S.skip}</a>
      <span class="brand"><img src="/static/favicon.svg" width="26" height="26" alt="" /><h1>${S.app}</h1></span>
      ${model.value && html`<span class="model">${model.value.title}</span>`}
      <span class="state" role="status" data-state=${state} title=${server.value?.detail}>${stateText()}</span>
      <nav>
        <${IconButton} icon="clock" label=${S.history.title} aria-keyshortcuts="h" onClick=${() => {
          dialog.value = { name: "history" };
        }} />
        <${IconButton} icon="sliders" label=${S.preferences.title} disabled=${!options.value} onClick=${() => {
          dialog.value = { name: "preferences" };
        }} />
        <${IconButton} icon="keyboard" class="wide-only" label=${S.help.open} aria-keyshortcuts="?" onClick=${() => {
          dialog.value = { name: "help" };
        }} />
        <${IconButton} icon=${isDark() ? "sun" : "moon"} label=${isDark() ? S.theme.light : S.theme.dark} onClick=${toggleTheme} />
      </nav>
    </header>
  `;
}
