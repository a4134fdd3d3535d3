// Pictures on their way to the server, one for each field that holds one, and the source before the last one.
import { computed, effect, signal } from "@preact/signals";
import { api, Problem } from "./api.js";
import { pictureSize } from "./mask_strokes.js";
import { change, errors, form } from "./state.js";
import { S } from "./strings.js";

/** By field: {url: of the file in this browser, done: a promise of the stored picture, null where that failed}. */
export const uploads = signal({});

/**
 * Sends a file, once, to become a field's picture. A newer file of the same field takes its place.
 *
 * @param {"image" | "control_image"} name the form's field
 * @param {File} file
 * @param {(stored: any) => void} take puts the stored picture into the form
 * @returns {Promise<boolean>} whether it got there; a refusal stands at the field
 */
export function upload(name, file, take) {
  const mine = { url: URL.createObjectURL(file), done: null };
  const isCurrent = () => uploads.value[name] === mine;
  mine.done = api
    .upload(file)
    .then((stored) => {
      if (isCurrent()) take(stored);
      return isCurrent();
    })
    .catch((problem) => {
      if (!(problem instanceof Problem)) throw problem;
      const text = problem.status === 422 ? S.drop.not : problem.message;
      if (isCurrent()) errors.value = { ...errors.value, [name]: text };
      return false;
    })
    .finally(() => {
      if (isCurrent()) uploads.value = without(uploads.value, name);
      URL.revokeObjectURL(mine.url);
    });
  errors.value = without(errors.value, name);
  uploads.value = { ...uploads.value, [name]: mine };
  return mine.done;
}

const without = (fields, name) => Object.fromEntries(Object.entries(fields).filter(([key]) => key !== name));

/** Waits for the pictures that are on their way; returns whether all of them arrived. */
export async function arrived(names) {
  const waiting = names.map((name) => uploads.value[name]?.done).filter(Boolean);
  return (await Promise.all(waiting)).every(Boolean);
}

/** What the form keeps of a picture. */
export const plain = ({ id, url, width, height }) => ({ id, url, width, height });

/** Puts a stored picture into the form; mask and crop stay with the picture that they belong to. */
export function setImage(image, more = {}) {
  const fresh = form.value.image?.id === image.id ? {} : { mask: [], crop_position: [0.5, 0.5] };
  change({ image: plain(image), ...fresh, ...more });
}

const source = computed(() => form.value.image?.id ?? null);

/** A source that is known by its id alone gets the size that it has. */
effect(() => {
  const { image } = form.value;
  if (!image || image.width) return;
  pictureSize(image.url).then(
    (size) => source.peek() === image.id && change({ image: { ...image, ...size } }),
    () => {}, // it is gone, which its place on the page tells
  );
});

/** The source picture before the last change of it, with mask and crop, as fields of the form; null at first. */
export const replaced = signal(null);

let last = null;
effect(() => {
  const { image, mask, crop_position } = form.value;
  if (last?.image && source.value !== last.image.id) replaced.value = last;
  last = { image, mask, crop_position };
});

/** Takes the last change of the source picture back; once more brings it again. */
export const takeBack = () => change(replaced.value);
