// Out-painting: pixels that are new on each side of the picture, and where they lie.
import { ErrorText, NumberAt } from "./fields.js";
import { html } from "./html.js";
import { sizeOf } from "./request.js";
import { change, form } from "./state.js";
import { S } from "./strings.js";

const SIDES = ["left", "top", "right", "bottom"];
const CENTRE = [0.5, 0.5];
const STEP = 8; // pixels of a latent

/** Chooses what in-painting repaints; a quarter is new at the right until something else is said. */
export function chooseRegion(region) {
  const { outpaint } = form.value;
  const [width] = sizeOf(form.value);
  const quarter = Math.max(STEP, Math.round(width / 4 / STEP) * STEP);
  const unset = region === "outpaint" && !outpaint.some(Boolean);
  change({ region, ...(unset ? { outpaint: [0, 0, quarter, 0] } : {}) });
}

/**
 * The picture where it will lie, and hatched what is new around it.
 *
 * @param {object} props
 * @param {string} props.url of the picture
 * @param {number[]} props.outpaint [left, top, right, bottom] pixels
 * @param {number} props.width of the whole, in pixels
 * @param {number} props.height of the whole, in pixels
 * @param {string} props.alt
 * @param {number[]} [props.crop] which part of the picture is kept: crop_position
 */
export function Canvas({ url, outpaint, width, height, alt, crop = CENTRE, ...rest }) {
  const share = (pixels, whole) => `${(100 * Math.min(Math.max(pixels || 0, 0), whole)) / whole}%`;
  const sides = SIDES.map((side, i) => [`--${side}`, share(outpaint[i], i % 2 ? height : width)]);
  const style = { ...Object.fromEntries(sides), "--aspect": `${width / height}` };
  return html`
    <div class="outpaint-canvas" style=${style}><img src=${url} alt=${alt} draggable=${false} style=${{ objectPosition: `${100 * crop[0]}% ${100 * crop[1]}%` }} ...${rest} /></div>
  `;
}

/** The numbers of pixels, each at its side of the picture. */
export function Outpaint() {
  const { image, outpaint, crop_position: crop } = form.value;
  const whole = sizeOf(form.value);
  const [left, top, right, bottom] = outpaint.map((pixels) => pixels || 0);
  const [width, height] = [whole[0] - left - right, whole[1] - top - bottom];
  const fits = width > 0 && height > 0;
  return html`
    <fieldset class="field">
      <legend>${S.outpaint.label}</legend>
      <div class="outpaint">
        ${SIDES.map(
          (side, index) => html`
            <div key=${side} class=${`outpaint-${side}`}>
              <${NumberAt} name="outpaint" index=${index} label=${S.outpaint.sides[side]} hint min=${0} max=${whole[index % 2]} step=${STEP} />
            </div>
          `,
        )}
        <${Canvas} url=${image.url} outpaint=${outpaint} width=${whole[0]} height=${whole[1]} alt=${S.outpaint.alt}
          crop=${crop} onError=${() => change({ image: null })} />
      </div>
      <p class="hint" id="h-outpaint">${fits ? S.outpaint.hint(width, height, ...whole) : S.outpaint.hatched}</p>
      <${ErrorText} name="outpaint" />
    </fieldset>
  `;
}
