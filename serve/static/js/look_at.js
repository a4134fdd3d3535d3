// On a phone the page is one column: what is to be seen next is scrolled to.

/** @param {"stage" | "composer"} id */
export function lookAt(id) {
  if (!matchMedia("(max-width: 760px)").matches) return;
  document.getElementById(id)?.scrollIntoView({ behavior: "smooth", block: "start" });
}
