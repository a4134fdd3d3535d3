// localStorage with JSON values; a browser that forbids or fills it costs the memory, nothing else.
const PREFIX = "dg2.";

/** The stored value of a name, or `otherwise`. */
export function load(name, otherwise) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** Stores a value under a name. */
export function save(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full or forbidden.
  }
}

const randomName = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");

/** This browser's name in the queue. */
export const clientId = load("client", null) ?? `page-${randomName()}`;
save("client", clientId);

/** A name that no other call has. */
export const uniqueName = () => `${Date.now().toString(36)}-${randomName()}`;
