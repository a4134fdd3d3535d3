// Any two pictures under one slider or beside each other, and the settings in which they differ.
import { useState } from "preact/hooks";
import { Compare } from "./compare.js";
import { controlsOf, labelOf } from "./controls.js";
import { Dialog } from "./dialog.js";
import { IconButton } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { altOf, Scrolls, worded } from "./picture.js";
import { dialog } from "./state.js";
import { load, save } from "./storage.js";
import { short, S } from "./strings.js";

export function CompareTwo() {
  const [pair, setPair] = useState(dialog.value.images);
  const [way, setWay] = useState(load("compare", "slider"));
  const close = () => {
    dialog.value = null;
  };
  const choose = (name) => {
    setWay(name);
    save("compare", name);
  };
  return html`
    <${Dialog} label=${S.compareTwo.title} class="compare-dialog" onClose=${close}>
      <div class="dialog-body">
        <header class="dialog-head">
          <h2>${S.compareTwo.title}</h2>
          <div class="segmented" role="group" aria-label=${S.compareTwo.way}>
            ${Object.entries(S.compareTwo.ways).map(([name, text]) => html`<button type="button" key=${name} aria-pressed=${way === name} onClick=${() => choose(name)}>${text}</button>`)}
          </div>
          <button type="button" class="quiet" onClick=${() => setPair(pair.toReversed())}><${Icon} name="reset" />${S.compareTwo.swap}</button>
          <${IconButton} icon="close" label=${S.help.close} onClick=${close} />
        </header>
        ${way === "slider" ? html`<${Slider} pair=${pair} />` : html`<${Beside} pair=${pair} />`}
        <${Differences} pair=${pair} />
      </div>
    <//>
  `;
}

const Slider = ({ pair: [first, second] }) => html`
  <div class="compare-frame" style=${{ "--ratio": second.width / second.height }}>
    <${Compare} before=${html`<img src=${first.url} alt=${short(altOf(first))} draggable=${false} />`} after=${second.url} alt=${short(altOf(second))}
      labels=${S.compareTwo.names} label=${S.compareTwo.slider} />
  </div>
`;

const Beside = ({ pair }) => html`
  <div class="beside">
    ${pair.map((image, i) => html`<figure key=${image.id}><img src=${image.url} width=${image.width} height=${image.height} alt=${short(altOf(image))} /><figcaption>${S.compareTwo.names[i]}</figcaption></figure>`)}
  </div>
`;

/** The settings in which they differ, as [label, first, second]. */
function differences([first, second]) {
  const names = new Map(
    [...controlsOf(first.kind), ...controlsOf(second.kind)].map((one) => [one.name, one]),
  );
  const values = (one) => [first, second].map((image) => image.metadata[one.name] ?? null);
  return [...names.values()]
    .filter((one) => one.group !== "preview" && new Set(values(one).map((value) => JSON.stringify(value))).size > 1)
    .map((one) => [
      labelOf(one),
      ...values(one).map((value) => (value === null ? "–" : worded(one.name, value))),
    ]);
}

function Differences({ pair }) {
  const rows = differences(pair);
  if (!rows.length) return html`<p class="hint">${S.compareTwo.same}</p>`;
  return html`
    <table class="differences">
      <thead><tr><th scope="col">${S.compareTwo.setting}</th>${S.compareTwo.names.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
      <tbody>${rows.map(([label, ...texts]) => html`<tr key=${label}><th scope="row">${label}</th>${texts.map((text, i) => html`<td key=${i}><${Scrolls} text=${text} label=${label}>${text}<//></td>`)}</tr>`)}</tbody>
    </table>
  `;
}
