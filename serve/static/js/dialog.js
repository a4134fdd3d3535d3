// A modal dialog: the browser's own, which keeps the focus inside and closes with Escape.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "./html.js";
import { modals } from "./state.js";
import { Toasts } from "./toasts.js";

export function Dialog({ label, class: extra = "", onClose, children }) {
  const element = useRef(null);
  const [depth, setDepth] = useState(0);
  useEffect(() => {
    const opener = /** @type {HTMLElement | null} */ (document.activeElement);
    element.current.showModal();
    setDepth(++modals.value);
    return () => {
      modals.value--;
      if (opener?.isConnected) opener.focus?.({ preventScroll: true });
    };
  }, []);
  return html`
    <dialog ref=${element} class=${extra} aria-label=${label}
      onClose=${onClose}
      onClick=${(event) => event.target === element.current && element.current.close()}>
      ${children}
      ${depth === modals.value && html`<${Toasts} />`}
    </dialog>
  `;
}
