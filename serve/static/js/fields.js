// Form controls: each has a label, a hint, and its error next to it. `name` is the form's field.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { onWeightKeys } from "./prompt_weights.js";
import { change, errors, form } from "./state.js";

const ids = (name) => ({ input: `f-${name}`, hint: `h-${name}`, error: `e-${name}` });

/** The message of a field, if any; screen readers hear it when it comes. */
export function ErrorText({ name }) {
  const message = errors.value[name];
  return message ? html`<p class="error" id=${ids(name).error} role="alert">${message}</p>` : null;
}

/** The attributes that tie a control to its hint and error. */
export function described(name, hint) {
  const wrong = Boolean(errors.value[name]);
  const by = [hint && ids(name).hint, wrong && ids(name).error].filter(Boolean).join(" ");
  return {
    id: ids(name).input,
    "aria-invalid": wrong ? "true" : undefined,
    "aria-describedby": by || undefined,
  };
}

export function Field({ name, label, hint, aside, children }) {
  return html`
    <div class="field">
      <div class="field-head"><label for=${ids(name).input}>${label}</label>${aside}</div>
      ${children}
      ${hint && html`<p class="hint" id=${ids(name).hint}>${hint}</p>`}
      <${ErrorText} name=${name} />
    </div>
  `;
}

/** A text area for a prompt: as tall as its text, up to where it scrolls. */
export function Area({ value, placeholder, ...rest }) {
  const element = useRef(null);
  useEffect(() => {
    const area = element.current;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  }, [value, placeholder]);
  return html`<textarea ref=${element} dir="auto" spellcheck="true" value=${value} placeholder=${placeholder} onKeyDown=${onWeightKeys} ...${rest}></textarea>`;
}

/** Text that becomes a number; what is no number is kept on screen and reported on use. */
export function NumberInput({ name, label, min, max, step = 1, placeholder, disabled, hint }) {
  const value = form.value[name];
  const shown = typeof value === "number" && !Number.isNaN(value) ? String(value) : "";
  return html`<input
    ...${described(name, hint)}
    class="number" type="number" inputmode="decimal" autocomplete="off"
    aria-label=${label} min=${min} max=${max} step=${step} value=${shown} placeholder=${placeholder} disabled=${disabled}
    onInput=${(e) => change({ [name]: e.currentTarget.value === "" ? Number.NaN : e.currentTarget.valueAsNumber })}
  />`;
}

/** A slider for the usual values, with a box beside it for all of them. */
export function Slider({ name, label, hint, min, max, step = 1, least = min, most = max }) {
  const value = form.value[name];
  const number = typeof value === "number" && !Number.isNaN(value) ? value : min;
  const share = `${(100 * (Math.min(Math.max(number, min), max) - min)) / (max - min)}%`;
  return html`
    <${Field} name=${name} label=${label} hint=${hint}
      aside=${html`<${NumberBox} aria-label=${`${label}, exactly`} aria-invalid=${errors.value[name] ? "true" : undefined}
        min=${least} max=${most} step=${step} value=${value} onChange=${(v) => change({ [name]: v })} />`}>
      <input
        type="range" ...${described(name, hint)} min=${min} max=${max} step=${step} value=${number} style=${{ "--share": share }}
        onInput=${(e) => change({ [name]: e.currentTarget.valueAsNumber })}
      />
    <//>
  `;
}

/** A small box for a number; NaN while there is none in it. */
function NumberBox({ value, onChange, ...rest }) {
  const [text, setText] = useState(null); // what is being typed, while it has the focus
  return html`<input
    class="number small" type="number" inputmode="decimal" autocomplete="off" ...${rest}
    value=${text ?? (Number.isNaN(value) ? "" : value)}
    onInput=${(e) => {
      setText(e.currentTarget.value);
      onChange(e.currentTarget.value === "" ? Number.NaN : e.currentTarget.valueAsNumber);
    }}
    onBlur=${() => setText(null)}
  />`;
}

/** One of the numbers of a field that holds several. */
export function NumberAt({ name, index, label, hint, ...rest }) {
  const numbers = form.value[name];
  const { id, ...about } = described(name, hint);
  const set = (value) => change({ [name]: numbers.map((old, i) => (i === index ? value : old)) });
  return html`
    <label class="number-at" for=${`${id}-${index}`}>${label}
      <${NumberBox} id=${`${id}-${index}`} ...${about} value=${numbers[index]} onChange=${set} ...${rest} />
    </label>
  `;
}

export function Select({
  name,
  label,
  hint,
  choices,
  value = form.value[name],
  onChange = (chosen) => change({ [name]: chosen }),
}) {
  return html`
    <${Field} name=${name} label=${label} hint=${hint}>
      <${Choice} ...${described(name, hint)} value=${value} choices=${choices} onChange=${onChange} />
    <//>
  `;
}

/** A plain select; `choices` is [[value, label], …], and any value may be chosen, also null. */
export function Choice({ value, choices, onChange, ...rest }) {
  const index = choices.findIndex(([v]) => v === value);
  const choose = ({ currentTarget: select }) => {
    const [chosen] = choices[select.selectedIndex];
    select.selectedIndex = index; // what is shown follows the value alone
    onChange(chosen);
  };
  return html`
    <span class="select">
      <select ...${rest} onChange=${choose}>
        ${choices.map(([v, text], i) => html`<option key=${String(v)} selected=${i === index}>${text}</option>`)}
      </select>
      <${Icon} name="down" />
    </span>
  `;
}

/** A few exclusive choices side by side. */
export function Segmented({ name, label, hint, choices, onChange = (value) => change({ [name]: value }) }) {
  const value = form.value[name];
  return html`
    <fieldset class="field">
      <legend>${label}</legend>
      <div class="segmented">
        ${choices.map(
          ([v, text]) => html`
            <label key=${String(v)}>
              <input type="radio" name=${name} checked=${v === value} onChange=${() => onChange(v)} />
              <span>${text}</span>
            </label>
          `,
        )}
      </div>
      ${hint && html`<p class="hint">${hint}</p>`}
      <${ErrorText} name=${name} />
    </fieldset>
  `;
}

export const Switch = ({ label, checked, onChange }) => html`
  <label class="switch">
    <input type="checkbox" role="switch" checked=${checked} onChange=${(e) => onChange(e.currentTarget.checked)} />
    <span class="track" aria-hidden="true"></span>${label}
  </label>
`;

/** A button with an icon only; its name is also its tooltip. */
export const IconButton = ({ icon, label, class: extra = "", ...rest }) => html`
  <button type="button" class=${`icon-button ${extra}`} aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} /></button>
`;
