// Short messages. Those of a dialog are in it, since all else cannot be reached while it is open.
import { html } from "./html.js";
import { dismiss, toasts } from "./state.js";

export const Toasts = () => html`
  <div class="toasts" role="status">
    ${toasts.value.map(
      (toast) => html`<p key=${toast.id} data-kind=${toast.kind}>
        ${toast.text}
        ${
          toast.action &&
          html`<button type="button" onClick=${() => {
            dismiss(toast.id);
            toast.action.run();
          }}>${toast.action.label}</button>`
        }
      </p>`,
    )}
  </div>
`;
