// Before and after under one slider: a range input laid over two pictures.
import { useState } from "preact/hooks";
import { html } from "./html.js";
import { S } from "./strings.js";

/** `before` is an element that fills its place, `after` a picture's address. */
export function Compare({
  before,
  after,
  alt,
  labels = [S.picture.before, S.picture.after],
  label = S.picture.slider,
}) {
  const [share, setShare] = useState(50);
  return html`
    <div class="compare" style=${{ "--split": `${share}%` }}>
      <img src=${after} alt=${alt} draggable=${false} />
      <div class="compare-before">${before}</div>
      <span class="compare-label start" aria-hidden="true">${labels[0]}</span>
      <span class="compare-label end" aria-hidden="true">${labels[1]}</span>
      <span class="compare-line" aria-hidden="true"></span>
      <input type="range" min="0" max="100" step="0.5" value=${share} aria-label=${label}
        onInput=${(e) => setShare(e.currentTarget.valueAsNumber)} />
    </div>
  `;
}
