// A modal dialog: the browser's own, which keeps the focus inside and closes with Escape.
import { useEffect, useRef } from "preact/hooks";
import { html } from "./html.js";

export function Dialog({ label, class: extra = "", onClose, children }) {
  const element = useRef(null);
  useEffect(() => {
    const opener = /** @type {HTMLElement | null} */ (document.activeElement);
    element.current.showModal();
    return () => opener?.isConnected && opener.focus?.({ preventScroll: true });
  }, []);
  return html`
    <dialog ref=${element} class=${extra} aria-label=${label}
      onClose=${onClose}
      onClick=${(event) => event.target === element.current && element.current.close()}>
      ${children}
    </dialog>
  `;
}
