// The list of keyboard shortcuts.
import { Dialog } from "./dialog.js";
import { IconButton } from "./fields.js";
import { html } from "./html.js";
import { dialog } from "./state.js";
import { S } from "./strings.js";

export function Help() {
  const close = () => {
    dialog.value = null;
  };
  return html`
    <${Dialog} label=${S.help.title} class="keys-dialog" onClose=${close}>
      <div class="dialog-body">
        <header class="dialog-head"><h2>${S.help.title}</h2><${IconButton} icon="close" label=${S.help.close} onClick=${close} /></header>
        <dl class="keys">
          ${S.help.rows.map(([keys, text]) => html`<div key=${text}><dt>${keys.split(" ").map((key) => (key === "–" ? "–" : html`<kbd>${key}</kbd>`))}</dt><dd>${text}</dd></div>`)}
        </dl>
      </div>
    <//>
  `;
}
