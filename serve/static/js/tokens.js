// Beside a prompt: how many tokens it has of those that the model reads, and what will be left out.
import { useEffect, useState } from "preact/hooks";
import { api } from "./api.js";
import { html } from "./html.js";
import { form } from "./state.js";
import { S } from "./strings.js";

const PAUSE_MS = 300; // after the last key

export function Tokens({ name, text = "" }) {
  const model = form.value.model;
  const [count, setCount] = useState(null);
  useEffect(() => {
    let stale = false;
    const ask = async () => {
      const answer = text.trim() ? await api.tokens(text, model, name).catch(() => null) : null;
      if (!stale) setCount(answer);
    };
    const timer = setTimeout(ask, PAUSE_MS);
    return () => {
      stale = true;
      clearTimeout(timer);
    };
  }, [name, text, model]);
  if (count?.problem) return html`<p class="error tokens-problem" dir="auto" role="status">${count.problem}</p>`;
  if (!count?.limit) return null;
  return html`
    <div class="tokens" data-over=${count.tokens > count.limit}>
      <small>${S.prompt.tokens(count.tokens, count.limit)}</small>
      ${count.cut && html`<p class="note" role="status">${S.prompt.cut(count.cut)}</p>`}
    </div>
  `;
}
