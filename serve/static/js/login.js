// Asks for the server's key; the browser gets a cookie for it.
import { useState } from "preact/hooks";
import { api } from "./api.js";
import { Dialog } from "./dialog.js";
import { html } from "./html.js";
import { dialog } from "./state.js";
import { S } from "./strings.js";

export function Login() {
  const [wrong, setWrong] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await api.sendKey(event.currentTarget.elements.key.value);
      dialog.value = null;
      dispatchEvent(new Event("dg2-login"));
    } catch (problem) {
      setWrong(problem.message);
    }
  };
  return html`
    <${Dialog} label=${S.login.title} class="small-dialog" onClose=${() => {
      dialog.value = null;
    }}>
      <form class="dialog-body" onSubmit=${submit}>
        <h2>${S.login.title}</h2>
        <div class="field">
          <label for="key">${S.login.label}</label>
          <input id="key" name="key" type="password" autocomplete="current-password" required aria-invalid=${wrong ? "true" : undefined} aria-describedby="key-error" />
          ${wrong && html`<p class="error" id="key-error" role="alert">${wrong}</p>`}
        </div>
        <button type="submit" class="primary">${S.login.go}</button>
      </form>
    <//>
  `;
}
