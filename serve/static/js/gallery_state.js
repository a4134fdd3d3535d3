// The gallery's pictures as the server has them, a page at a time; which are chosen, favourites, gone.
import { batch, computed, effect, signal } from "@preact/signals";
import { api } from "./api.js";
import { notify } from "./state.js";
import { load, save } from "./storage.js";
import { S } from "./strings.js";

const PAGE = 60;
const MOST = 200; // of a page, as the server has it

export const images = signal([]);
export const search = signal("");
export const kind = signal(null);
export const onlyFavourites = signal(false);
/** "newest", "oldest" or "prompt". */
export const sort = signal(load("sort", "newest"));
export const status = signal("loading"); // "loading", "ready" or "failed"
export const more = signal(null);
/** The picture that is open; null for none. */
export const opened = signal(null);
/** The ids of the pictures that are chosen in the gallery. */
export const selected = signal(new Set());
/** Whether a click on a picture chooses it. */
export const choosing = signal(false);
effect(() => {
  if (selected.value.size) choosing.value = true;
});
/** The ids of pictures that were deleted here. */
export const gone = signal(new Set());
const marks = signal({}); // whether pictures are favourites, by id, as last heard

export const isFavourite = (image) => marks.value[image.id] ?? image.favourite;
export const chosen = computed(() => images.value.filter((image) => selected.value.has(image.id)));
export const filtered = computed(() => Boolean(search.value.trim() || kind.value || onlyFavourites.value));

const heard = (found) => {
  marks.value = { ...marks.value, ...Object.fromEntries(found.map((image) => [image.id, image.favourite])) };
};

let request = 0;

const page = (limit, before = null) =>
  api.images({
    limit,
    before,
    q: search.value.trim(),
    kind: kind.value,
    favourite: onlyFavourites.value || null,
    sort: sort.value,
  });

/** Loads what the search asks for; with `again`, what was there and may have changed. */
export async function refreshGallery(again = false) {
  const mine = ++request;
  const old = again ? images.value : [];
  try {
    const found = await page(Math.min(MOST, Math.max(PAGE, old.length)));
    if (mine !== request) return;
    const last = old.findIndex((image) => image.id === found.images.at(-1)?.id);
    const rest = found.next && last >= 0 ? old.slice(last + 1) : []; // beyond the page; as it was
    batch(() => {
      images.value = [...found.images, ...rest];
      if (!rest.length) more.value = found.next;
      status.value = "ready";
      heard(found.images);
      const there = new Set(images.value.map((image) => image.id));
      selected.value = new Set([...selected.value].filter((id) => there.has(id)));
    });
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

/** Changes one of `kind`, `onlyFavourites` and `sort`. */
export function ask(what, value) {
  what.value = value;
  if (what === sort) save("sort", value);
  refreshGallery();
}

export async function loadMore() {
  const mine = request;
  try {
    const found = await page(PAGE, more.value);
    if (mine !== request) return;
    heard(found.images);
    const known = new Set(images.value.map((image) => image.id));
    images.value = [...images.value, ...found.images.filter((image) => !known.has(image.id))];
    more.value = found.next;
  } catch (problem) {
    notify(problem.message, "error");
  }
}

/** Puts a new picture at its place, if the search would find it. */
export function showInGallery(image) {
  const text = search.value.trim().toLowerCase();
  if (images.value.some((i) => i.id === image.id) || gone.value.has(image.id)) return;
  if (sort.value !== "newest") {
    refreshGallery();
    return;
  }
  if ((kind.value && image.kind !== kind.value) || (text && !image.prompt.toLowerCase().includes(text)))
    return;
  if (!onlyFavourites.value) images.value = [image, ...images.value];
}

/** Where the open picture is in the gallery, -1 if it is not. */
export const place = () => images.value.findIndex((image) => image.id === opened.value?.id);

/** Opens the picture before or after the open one; returns whether there is one. */
export function step(by) {
  const next = place() >= 0 ? images.value[place() + by] : null;
  if (next) opened.value = next;
  return Boolean(next);
}

let anchor = null; // where a range begins

/** Chooses a picture, or no longer. */
export function toggle(id) {
  const next = new Set(selected.value);
  if (!next.delete(id)) next.add(id);
  anchor = id;
  selected.value = next;
}

/** Chooses all from the picture chosen last to this one. */
export function selectTo(id) {
  const ids = images.value.map((image) => image.id);
  if (!ids.includes(anchor)) anchor = id;
  const [from, to] = [ids.indexOf(anchor), ids.indexOf(id)].toSorted((a, b) => a - b);
  selected.value = new Set([...selected.value, ...ids.slice(from, to + 1)]);
}

export function selectAll() {
  selected.value = new Set(images.value.map((image) => image.id));
}

export function selectNone() {
  anchor = null;
  selected.value = new Set();
  choosing.value = false;
}

/** Makes pictures favourites on the server, or no longer. */
export async function setFavourite(some, favourite) {
  const before = marks.value;
  heard(some.map((image) => ({ ...image, favourite })));
  try {
    await api.changeImages(
      some.map((image) => image.id),
      { favourite },
    );
  } catch (problem) {
    marks.value = before;
    notify(problem.message, "error");
  }
}

const without = (set, others) => new Set([...set].filter((one) => !others.has(one)));
let removed = null; // the last ones, and the gallery before

/** Deletes pictures, which can be taken back; the open one makes place for the next. */
export async function remove(some) {
  const ids = new Set(some.map((image) => image.id));
  try {
    await api.changeImages([...ids], { deleted: true });
  } catch (problem) {
    notify(problem.message, "error");
    return;
  }
  removed = { ids: [...ids], before: images.value };
  batch(() => {
    if (opened.value && ids.has(opened.value.id)) {
      const at = place();
      const left = (image) => !ids.has(image.id);
      const next =
        at < 0 ? null : (images.value.slice(at).find(left) ?? images.value.slice(0, at).findLast(left));
      opened.value = next ?? null;
    }
    gone.value = new Set([...gone.value, ...ids]);
    images.value = images.value.filter((image) => !ids.has(image.id));
    selected.value = without(selected.value, ids);
    if (!selected.value.size) choosing.value = false;
  });
  notify(S.picture.deleted(ids.size), "info", { label: S.picture.undo, run: undoRemoval });
}

/** Gives the pictures back that were deleted last. */
export async function undoRemoval() {
  if (!removed) return;
  const { ids, before } = removed;
  removed = null;
  try {
    const back = new Set((await api.changeImages(ids, { deleted: false })).ids);
    const now = new Set(images.value.map((image) => image.id));
    const old = new Set(before.map((image) => image.id));
    batch(() => {
      gone.value = without(gone.value, back);
      images.value = [
        ...images.value.filter((image) => !old.has(image.id)),
        ...before.filter((image) => now.has(image.id) || back.has(image.id)),
      ];
    });
    notify(back.size ? S.picture.restored(back.size) : S.picture.lost, back.size ? "info" : "error");
  } catch (problem) {
    removed = { ids, before };
    notify(problem.message, "error");
  }
}

// Other tabs and other clients may have changed it meanwhile.
addEventListener("focus", () => status.value === "ready" && refreshGallery(true));
