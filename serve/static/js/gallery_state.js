// The gallery's pictures as the server has them, a page at a time.
import { signal } from "@preact/signals";
import { api } from "./api.js";
import { notify } from "./state.js";
import { S } from "./strings.js";

const PAGE = 60;

export const images = signal([]);
export const search = signal("");
export const kind = signal(null);
export const status = signal("loading"); // "loading", "ready" or "failed"
export const more = signal(null);
/** The picture that is open; null for none. */
export const opened = signal(null);

let request = 0;

/** Loads the first page of what the search asks for. */
export async function refreshGallery() {
  const mine = ++request;
  try {
    const page = await api.images({ limit: PAGE, q: search.value.trim(), kind: kind.value });
    if (mine !== request) return;
    images.value = page.images;
    more.value = page.next;
    status.value = "ready";
  } catch {
    if (mine === request) status.value = "failed";
  }
}

let typing = 0;

export function setSearch(text) {
  search.value = text;
  clearTimeout(typing);
  typing = setTimeout(refreshGallery, 200);
}

export function setKind(name) {
  kind.value = name;
  refreshGallery();
}

export async function loadMore() {
  const mine = request;
  const page = await api.images({
    limit: PAGE,
    q: search.value.trim(),
    kind: kind.value,
    before: more.value,
  });
  if (mine !== request) return;
  images.value = [
    ...images.value,
    ...page.images.filter((image) => !images.value.some((i) => i.id === image.id)),
  ];
  more.value = page.next;
}

/** Puts a new picture first, if the search would find it. */
export function showInGallery(image) {
  const text = search.value.trim().toLowerCase();
  if (images.value.some((i) => i.id === image.id)) return;
  if ((kind.value && image.kind !== kind.value) || (text && !image.prompt.toLowerCase().includes(text)))
    return;
  images.value = [image, ...images.value];
}

/** Where the open picture is in the gallery, -1 if it is not. */
export const place = () => images.value.findIndex((image) => image.id === opened.value?.id);

/** Opens the picture before or after the open one. */
export function step(by) {
  const next = images.value[place() + by];
  if (place() >= 0 && next) opened.value = next;
}

export async function remove(image) {
  try {
    await api.deleteImage(image.id);
  } catch (problem) {
    if (problem.status !== 404) {
      notify(problem.message, "error");
      return false;
    }
  }
  images.value = images.value.filter((i) => i.id !== image.id);
  notify(S.picture.deleted);
  return true;
}
