// What of the server's a prompt may name: LoRA files, embeddings, and lists that wildcards are drawn from.
import { Choice } from "./fields.js";
import { html } from "./html.js";
import { change, form, model, options } from "./state.js";
import { S } from "./strings.js";

/** A menu that adds one to the prompt; nothing where the server has none. */
export function Insertions() {
  const { loras = [], embeddings = [], wildcards = [] } = options.value;
  // Embeddings are words of CLIP's text encoders, which are those that layers can be skipped of.
  const words = model.value?.lacks?.includes("clip_skip") ? [] : embeddings;
  if (!loras.length && !words.length && !wildcards.length) return null;
  const choices = [
    [null, S.insertions.add],
    ...loras.map((name) => [`<lora:${name}:1>`, S.insertions.lora(name)]),
    ...words.map((name) => [name, S.insertions.embedding(name)]),
    ...wildcards.map((name) => [`__${name}__`, S.insertions.wildcard(name)]),
  ];
  const add = (word) => word && change({ prompt: `${form.value.prompt} ${word}`.trim() });
  return html`<${Choice} id="insertions" aria-label=${S.insertions.label} value=${null} choices=${choices} onChange=${add} />`;
}
