// The part of a source picture that is kept where it is cropped: its frame, and how the frame is moved.
import { Field } from "./fields.js";
import { html } from "./html.js";
import { isMasked, sizeOf } from "./request.js";
import { change, form } from "./state.js";
import { S } from "./strings.js";

/**
 * What is kept of a form's source, in parts of its sides; null where all of it is.
 *
 * The library's own rule (`dg2_jax.pictures.image_input.fit`); tests/ui compares pixels.
 *
 * @returns {{axis: 0 | 1, left: number, top: number, width: number, height: number} | null}
 */
export function cropOf(form) {
  const { image, mode, region, outpaint, crop_position: position } = form;
  if (!["img2img", "inpaint"].includes(mode) || !image?.width || !position) return null;
  const around = mode === "inpaint" && region === "outpaint";
  if (!around && form.resize_mode === "pad") return null;
  if (isMasked(form) && form.inpaint_area === "only_masked") return null;
  const [left, top, right, bottom] = around ? outpaint : [0, 0, 0, 0];
  const [across, down] = sizeOf(form);
  const [toWidth, toHeight] = [across - left - right, down - top - bottom];
  if (!(toWidth > 0 && toHeight > 0)) return null;
  const width = Math.min(1, (image.height * toWidth) / (toHeight * image.width));
  const height = Math.min(1, (image.width * toHeight) / (toWidth * image.height));
  if ((1 - width) * image.width < 1 && (1 - height) * image.height < 1) return null;
  return {
    axis: width < 1 ? 0 : 1,
    left: (1 - width) * position[0],
    top: (1 - height) * position[1],
    width,
    height,
  };
}

/** Moves the frame by parts of the picture's sides, as far as there is room. */
export function moveCrop(across, down) {
  const crop = cropOf(form.value);
  if (!crop) return;
  const [by, room] = crop.axis === 0 ? [across, 1 - crop.width] : [down, 1 - crop.height];
  setPosition(crop.axis, form.value.crop_position[crop.axis] + by / room);
}

function setPosition(axis, value) {
  const position = [...form.value.crop_position];
  position[axis] = Math.round(1e4 * Math.min(1, Math.max(0, value))) / 1e4;
  change({ crop_position: position });
}

const percent = (share) => `${100 * share}%`;

/** The frame over a picture, which is dimmed around it. */
export function CropFrame() {
  const crop = cropOf(form.value);
  if (!crop) return null;
  const sides = Object.fromEntries(["left", "top", "width", "height"].map((side) => [side, percent(crop[side])]));
  return html`<span class="crop-layer" aria-hidden="true"><span class="crop-frame" style=${sides}></span></span>`;
}

/** Moves the frame, also by the keyboard. */
export function CropSlider() {
  const crop = cropOf(form.value);
  if (!crop) return null;
  const value = form.value.crop_position[crop.axis];
  const name = "crop_position";
  return html`
    <${Field} name=${name} label=${S.controls[name].label} hint=${S.crop[crop.axis]}>
      <input type="range" id=${`f-${name}`} aria-describedby=${`h-${name}`} min="0" max="1" step="0.01" value=${value} style=${{ "--share": percent(value) }}
        onInput=${(e) => setPosition(crop.axis, e.currentTarget.valueAsNumber)} />
    <//>
  `;
}

/** Attributes of an element over a picture by which the frame is dragged. */
export function dragCrop() {
  if (!cropOf(form.value)) return {};
  return {
    "data-movable": true,
    onPointerDown(event) {
      event.preventDefault();
      event.currentTarget.setPointerCapture(event.pointerId);
    },
    onPointerMove(event) {
      if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
      const box = event.currentTarget.getBoundingClientRect();
      moveCrop(event.movementX / box.width, event.movementY / box.height);
    },
  };
}
