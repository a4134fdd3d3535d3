// Whether the server is there: asked now and again, and at once when it did not answer.
import { api, onLost } from "./api.js";
import { server } from "./state.js";

const READY_MS = 20000;
const NOT_READY_MS = 1500;
let timer = 0;

/** Asks how the server is, and again later; soon while it is not ready. */
export async function watchServer() {
  clearTimeout(timer);
  const found = await api.health().catch(() => null);
  server.value = found;
  clearTimeout(timer);
  timer = setTimeout(watchServer, found?.state === "ready" ? READY_MS : NOT_READY_MS);
}

onLost.handler = () => {
  if (!server.value) return;
  server.value = null;
  watchServer();
};
