// A modal dialog: the browser's own, which keeps the focus inside and closes with Escape.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "./html.js";
import { modals } from "./state.js";
import { Toasts } from "./toasts.js";

/** What had the focus last outside of dialogs: one may give way to another. */
let outside = /** @type {HTMLElement | null} */ (null);

export function Dialog({ label, class: extra = "", onClose, children }) {
  const element = useRef(null);
  const [depth, setDepth] = useState(0);
  // Before the next key: none may reach the page below, or be lost.
  useLayoutEffect(() => {
    const opener = /** @type {HTMLElement} */ (document.activeElement);
    if (opener !== document.body && !opener.closest("dialog")) outside = opener;
    element.current.showModal();
    setDepth(++modals.value);
    return () => {
      modals.value--;
      queueMicrotask(() => {
        // The dialog is gone, and lets go of the focus.
        const back = opener !== document.body && opener.isConnected ? opener : outside;
        back?.focus({ preventScroll: true });
      });
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
