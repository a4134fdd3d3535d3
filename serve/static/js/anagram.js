// Anagrams: the readings in the form, and the result that turns by drag, key or button.
import { useEffect, useRef, useState } from "preact/hooks";
import { control } from "./controls.js";
import { Area, Choice, ErrorText, IconButton } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { ANGLES, drawView, STYLES } from "./views.js";
import { change, errors, form } from "./state.js";
import { S } from "./strings.js";
import { Tokens } from "./tokens.js";

/** The readings: a prompt and a view each. */
export function Readings() {
  const readings = form.value.anagram;
  const views = control("anagram").choices.map((view) => [
    view,
    S.anagram.views[view] ?? view,
  ]);
  const set = (i, patch) =>
    change({ anagram: readings.map((reading, k) => (k === i ? { ...reading, ...patch } : reading)) });
  const add = () => {
    const free = views
      .map(([view]) => view)
      .find((view) => readings.every((reading) => reading.view !== view));
    change({ anagram: [...readings, { prompt: "", view: free ?? "identity" }] });
  };
  return html`
    <fieldset class="field readings">
      <legend>${S.anagram.label}</legend>
      <p class="hint">${S.anagram.hint}</p>
      ${readings.map((reading, i) => {
        const name = `anagram.${i}.prompt`;
        const wrong = errors.value[name];
        return html`
          <div class="reading" key=${i}>
            <${Area} rows="1" aria-label=${S.anagram.prompt(i + 1)} placeholder=${S.anagram.example[i]?.[0] ?? S.anagram.prompt(i + 1)} maxlength=${control("negative_prompt").maximum}
              aria-invalid=${wrong ? "true" : undefined} aria-describedby=${wrong ? `e-${name}` : undefined}
              value=${reading.prompt} onInput=${(e) => set(i, { prompt: e.currentTarget.value })} />
            <${Choice} aria-label=${S.anagram.view(i + 1)} value=${reading.view} choices=${views} onChange=${(view) => set(i, { view })} />
            ${
              readings.length > control("anagram").minimum &&
              html`<${IconButton} icon="close" label=${S.anagram.remove(i + 1)} onClick=${() => change({ anagram: readings.filter((_, k) => k !== i) })} />`
            }
            <${ErrorText} name=${name} />
            <${Tokens} name=${name} text=${reading.prompt} />
          </div>
        `;
      })}
      <${ErrorText} name="anagram" />
      ${readings.length < control("anagram").maximum && html`<button type="button" class="quiet" onClick=${add}><${Icon} name="plus" />${S.anagram.add}</button>`}
    </fieldset>
  `;
}

/** A finished anagram. `readings` is [{prompt, view}, …]. */
export function AnagramPicture({ url, readings }) {
  const [at, setAt] = useState(0);
  const [dragged, setDragged] = useState(null); // degrees on top of the reading's own, while dragging
  const frame = useRef(null);
  const canvas = useRef(null);
  const start = useRef(null);
  const { view, prompt } = readings[at];
  const drawn = !(view in STYLES);

  useEffect(() => {
    if (!drawn) return;
    const image = new Image();
    image.onload = () => canvas.current && drawView(canvas.current, image, view);
    image.src = url;
  }, [url, view, drawn]);

  const angleAt = (event) => {
    const box = frame.current.getBoundingClientRect();
    return (
      (Math.atan2(event.clientY - box.top - box.height / 2, event.clientX - box.left - box.width / 2) * 180) /
      Math.PI
    );
  };
  const turn = () => setAt((i) => (i + 1) % readings.length);
  const release = () => {
    if (start.current === null) return;
    start.current = null;
    const seen = (ANGLES[view] ?? 0) + (dragged ?? 0);
    setDragged(null);
    if (Math.abs(dragged ?? 0) < 4) {
      turn();
      return;
    }
    const away = (angle) => Math.abs(((((seen - angle) % 360) + 540) % 360) - 180);
    const turned = readings
      .map((reading, i) => [i, ANGLES[reading.view]])
      .filter(([, angle]) => angle !== undefined);
    const [nearest] = turned.sort(([, a], [, b]) => away(a) - away(b))[0] ?? [at];
    setAt(nearest);
  };
  const style =
    dragged === null
      ? STYLES[view]
      : {
          transform: `rotate(${(ANGLES[view] ?? 0) + dragged}deg) scale(${1 - 0.29 * Math.abs(Math.sin((dragged * Math.PI) / 90))})`,
        };
  return html`
    <div class="anagram">
      <button type="button" class="anagram-frame" ref=${frame} data-view=${view} data-dragging=${dragged !== null} aria-label=${S.anagram.turn}
        aria-describedby="anagram-reading"
        onPointerDown=${(e) => {
          e.currentTarget.setPointerCapture(e.pointerId);
          start.current = angleAt(e);
          setDragged(0);
        }}
        onPointerMove=${(e) => start.current !== null && setDragged(((angleAt(e) - start.current + 540) % 360) - 180)}
        onPointerUp=${release} onPointerCancel=${release}
        onClick=${(e) => e.detail === 0 && turn()}>
        <img src=${url} alt=${S.anagram.alt(S.anagram.views[view] ?? view, prompt)} style=${style ?? {}} draggable=${false} />
        ${drawn && html`<canvas ref=${canvas} aria-hidden="true"></canvas>`}
      </button>
      <div class="anagram-readings" role="group" aria-label=${S.anagram.label}>
        ${readings.map(
          (
            reading,
            i,
          ) => html`<button type="button" key=${i} aria-pressed=${i === at} onClick=${() => setAt(i)}>
            <b>${reading.prompt}</b><small>${S.anagram.views[reading.view] ?? reading.view}</small>
          </button>`,
        )}
      </div>
      <p class="hint" id="anagram-reading" aria-live="polite">${S.anagram.turnHint}</p>
    </div>
  `;
}
