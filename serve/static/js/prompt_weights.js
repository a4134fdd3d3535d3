// Ctrl with the arrows up and down in a prompt: the weight of the words that are selected, or of the one at the cursor.
const STEP = 0.1;
const MOST = 2;
const WORD = /[^\s,()[\]{}|]/;
const AFTER = /^:\s*([\d.]+)\s*\)/;

/**
 * A text with the weight of a part of it changed; a pure function.
 *
 * @param {string} text
 * @param {number} start of the part
 * @param {number} end of the part; at `start`, the word there is meant
 * @param {1 | -1} way up or down
 * @returns {{text: string, start: number, end: number} | null} with the part where it is then; null where there is none
 */
export function weighed(text, start, end, way) {
  if (start === end) {
    while (start > 0 && WORD.test(text[start - 1])) start--;
    while (end < text.length && WORD.test(text[end])) end++;
    const number = /^(.*):[\d.]+$/.exec(text.slice(start, end)); // the cursor is in a word with its weight
    if (number) end = start + number[1].length;
  }
  while (start < end && /\s/.test(text[start])) start++;
  while (end > start && /\s/.test(text[end - 1])) end--;
  const whole = /^\((.*):\s*[\d.]+\s*\)$/s.exec(text.slice(start, end));
  if (whole) [start, end] = [start + 1, start + 1 + whole[1].length];
  const part = text.slice(start, end);
  if (!part || !isBalanced(part)) return null;
  const after = text[start - 1] === "(" && AFTER.exec(text.slice(end));
  const weight = Math.min(MOST, Math.max(0, (after ? Number(after[1]) : 1) + way * STEP));
  const before = text.slice(0, after ? start - 1 : start);
  const rest = text.slice(after ? end + after[0].length : end);
  const number = String(Number(weight.toFixed(2)));
  if (number === "1") return { text: before + part + rest, start: before.length, end: before.length + part.length };
  return { text: `${before}(${part}:${number})${rest}`, start: before.length + 1, end: before.length + 1 + part.length };
}

function isBalanced(part) {
  let open = 0;
  for (const [character] of part.replace(/\\./g, "").matchAll(/[()]/g)) {
    open += character === "(" ? 1 : -1;
    if (open < 0) return false;
  }
  return open === 0;
}

/** Changes a weight when its keys are pressed in a text area; the browser's own undo takes it back. */
export function onWeightKeys(event) {
  const ways = { ArrowUp: 1, ArrowDown: -1 };
  if (!(event.ctrlKey || event.metaKey) || event.altKey || !(event.key in ways)) return;
  const area = event.currentTarget;
  const changed = weighed(area.value, area.selectionStart, area.selectionEnd, ways[event.key]);
  event.preventDefault();
  if (!changed) return;
  area.select();
  document.execCommand("insertText", false, changed.text);
  area.setSelectionRange(changed.start, changed.end);
}
