// The gallery below the stage: found, ordered, chosen, and what is done with several pictures at once.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { downloadUrl, save, saveAll } from "./actions.js";
import { pictureUrl } from "./api.js";
import { Choice, IconButton } from "./fields.js";
import {
  ask,
  choosing,
  chosen,
  filtered,
  images,
  isFavourite,
  kind,
  loadMore,
  more,
  onlyFavourites,
  opened,
  refreshGallery,
  remove,
  search,
  selectAll,
  selected,
  selectNone,
  selectTo,
  setFavourite,
  setSearch,
  sort,
  status,
  toggle,
} from "./gallery_state.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { altOf } from "./picture.js";
import { dialog, MODES } from "./state.js";
import { load, save as store } from "./storage.js";
import { short, S } from "./strings.js";

const KINDS = [[null, S.gallery.all], ...MODES.map((mode) => [mode, S.modes[mode].label])];
const SORTS = Object.entries(S.gallery.sorts);
const SIZES = Object.entries(S.gallery.sizes);

const tiles = signal(load("tiles", "small"));
/** The id of the tile that Tab reaches; the arrow keys go on from there. */
const current = signal(null);

export function Gallery() {
  const list = useRef(null);
  if (status.value === "ready" && !images.value.length && !filtered.value) return null;
  const reached = images.value.some((image) => image.id === current.value)
    ? current.value
    : images.value[0]?.id;
  return html`
    <section class="gallery" aria-labelledby="gallery-title">
      <${Head} />
      ${
        status.value === "failed" &&
        html`<p class="note">${S.gallery.failed} <button type="button" class="quiet" onClick=${() => refreshGallery()}>${S.run.retry}</button></p>`
      }
      ${status.value === "ready" && !images.value.length && html`<p class="note">${nothing()}</p>`}
      ${choosing.value && html`<${Selection} />`}
      <p class="visually-hidden" id="gallery-keys">${S.gallery.keys}</p>
      <ul class="thumbs" ref=${list} data-tiles=${tiles.value} data-choosing=${choosing.value} onKeyDown=${(e) => onKeyDown(e, list.current)}>
        ${images.value.map((image) => html`<${Tile} key=${image.id} image=${image} reached=${image.id === reached} />`)}
      </ul>
      ${more.value && html`<button type="button" class="secondary wide" onClick=${loadMore}>${S.gallery.more}</button>`}
    </section>
  `;
}

const nothing = () => {
  if (search.value) return S.gallery.nothing(search.value);
  return onlyFavourites.value ? S.gallery.noFavourites : S.gallery.none;
};

const Head = () => html`
  <div class="gallery-head">
    <h2 id="gallery-title">${S.gallery.title}</h2>
    <div class="search">
      <${Icon} name="search" />
      <input type="search" id="gallery-search" aria-label=${S.gallery.search} placeholder=${S.gallery.search} value=${search.value} maxlength="200"
        onInput=${(e) => setSearch(e.currentTarget.value)} />
    </div>
    <${IconButton} icon="heart" class="favourite" label=${S.gallery.favourites} aria-pressed=${onlyFavourites.value} onClick=${() => ask(onlyFavourites, !onlyFavourites.value)} />
    <${IconButton} icon="select" label=${S.gallery.choose} aria-pressed=${choosing.value} onClick=${() => (choosing.value ? selectNone() : (choosing.value = true))} />
    <${Choice} aria-label=${S.gallery.kind} value=${kind.value} choices=${KINDS} onChange=${(name) => ask(kind, name)} />
    <${Choice} aria-label=${S.gallery.sort} value=${sort.value} choices=${SORTS} onChange=${(name) => ask(sort, name)} />
    <${Choice} aria-label=${S.gallery.size} value=${tiles.value} choices=${SIZES} onChange=${(size) => {
      tiles.value = size;
      store("tiles", size);
    }} />
  </div>
`;

function Tile({ image, reached }) {
  const name = short(altOf(image));
  const badge = image.kind !== "txt2img" && S.modes[image.kind].label;
  const isChosen = selected.value.has(image.id);
  const favourite = isFavourite(image);
  const onClick = (event) => {
    current.value = image.id;
    if (event.shiftKey) selectTo(image.id);
    else if (event.ctrlKey || event.metaKey || choosing.value) toggle(image.id);
    else opened.value = image;
  };
  return html`
    <li data-chosen=${isChosen}>
      <button type="button" class="tile" data-id=${image.id} tabindex=${reached ? 0 : -1} aria-label=${badge ? `${S.picture.open(name)}, ${badge}` : S.picture.open(name)} aria-describedby="gallery-keys"
        onClick=${onClick} onFocus=${() => {
          current.value = image.id;
        }}>
        <img src=${pictureUrl(image.id, "webp")} alt="" loading="lazy" decoding="async" />
        ${badge && html`<span class="badge">${badge}</span>`}
      </button>
      <button type="button" class="pick" role="checkbox" tabindex="-1" aria-checked=${isChosen} aria-label=${S.gallery.select(name)}
        onClick=${(e) => (e.shiftKey ? selectTo(image.id) : toggle(image.id))}><${Icon} name="check" /></button>
      <button type="button" class="mark" tabindex="-1" aria-pressed=${favourite} aria-label=${S.gallery.mark(name)}
        onClick=${() => setFavourite([image], !favourite)}><${Icon} name="heart" /></button>
    </li>
  `;
}

/** Where the bar had the focus, a tile gets it. */
function focusTile() {
  if (document.activeElement !== document.body) return;
  const tile = /** @type {HTMLElement | null} */ (document.querySelector(".thumbs .tile[tabindex='0']"));
  tile?.focus({ preventScroll: true });
}

/** Deletes pictures; the focus goes to the tile that takes the place of the one that had it. */
async function removeAt(some, at, list) {
  await remove(some);
  requestAnimationFrame(() => {
    const tiles = list.querySelectorAll(".tile");
    tiles[Math.min(at, tiles.length - 1)]?.focus();
  });
}

/** How many tiles stand beside each other. */
const columns = (list) => getComputedStyle(list).gridTemplateColumns.split(" ").length;

function onKeyDown(event, list) {
  const tile = event.target.closest(".tile");
  const at = images.value.findIndex((image) => image.id === tile?.dataset.id);
  if (at < 0 || event.altKey) return;
  const image = images.value[at];
  const by = {
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -columns(list),
    ArrowDown: columns(list),
    Home: -at,
    End: images.value.length - 1 - at,
  };
  const control = event.ctrlKey || event.metaKey;
  const some = selected.value.size ? chosen.value : [image];
  const plain = {
    x: () => toggle(image.id),
    X: () => selectTo(image.id),
    f: () => setFavourite(some, !some.every(isFavourite)),
    Delete: () => removeAt(some, at, list),
  };
  if (event.key in by && !control) {
    const next = images.value[at + by[event.key]];
    if (next && event.shiftKey) {
      selectTo(image.id);
      selectTo(next.id);
    }
    if (next) list.querySelector(`[data-id="${next.id}"]`).focus();
  } else if (control && event.key === "a") selectAll();
  else if (!control && event.key in plain) plain[event.key]();
  else return;
  event.preventDefault();
}

const button = (icon, label, onClick, extra = "") =>
  html`<button type="button" class=${`secondary ${extra}`} onClick=${onClick}><${Icon} name=${icon} /><span>${label}</span></button>`;

/** The bar that is there while pictures are chosen. */
function Selection() {
  const some = chosen.value;
  useEffect(() => () => requestAnimationFrame(focusTile), []);
  return html`
    <div class="selection" role="toolbar" aria-label=${S.gallery.selection}>
      <b role="status">${S.gallery.selected(some.length)}</b>
      ${some.length > 0 && html`<${Together} some=${some} />`}
      <span class="gap"></span>
      ${some.length < images.value.length && button("check", S.gallery.everything, selectAll, "quiet")}
      ${button("close", S.gallery.clear, selectNone, "quiet")}
    </div>
  `;
}

/** What can be done with several pictures at once. */
function Together({ some }) {
  const all = some.every(isFavourite);
  return html`
    ${button("heart", all ? S.gallery.unfavouriteAll : S.gallery.favouriteAll, () => setFavourite(some, !all))}
    ${button("download", S.gallery.download, () => (some.length === 1 ? save(downloadUrl(some[0]), "") : saveAll(some)))}
    ${
      some.length === 2 &&
      button("compare", S.gallery.compare, () => {
        dialog.value = { name: "compare", images: some };
      })
    }
    ${button("trash", S.gallery.remove, () => remove(some), "danger")}
  `;
}
