// What this browser's user prefers of the page itself: a sign when a job ends, names of saved files.
import { computed, effect, signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { Dialog } from "./dialog.js";
import { Choice, IconButton } from "./fields.js";
import { html } from "./html.js";
import { active, onEnd } from "./jobs.js";
import { dialog, options } from "./state.js";
import { load, save } from "./storage.js";
import { short, S } from "./strings.js";

/** `sign`: "none", "sound" or "notification"; `names`: a pattern of file names, null for the server's. */
const preferences = signal({ sign: "none", names: null, ...load("preferences", {}) });
effect(() => save("preferences", preferences.value));

const prefer = (patch) => {
  preferences.value = { ...preferences.value, ...patch };
};

/** The pattern of file names. */
export const fileNames = computed(() => preferences.value.names ?? options.value?.file_names.default ?? "");

/** What is wrong with a pattern, null if nothing is. */
function wrongPattern(text) {
  const { fields } = options.value.file_names;
  const bare = text.replaceAll(/\{(\w+)\}/g, (whole, name) => (fields.includes(name) ? "" : whole));
  return /[{}]/.test(bare) ? S.preferences.wrong(bare.match(/[{}].*/)[0]) : null;
}

/** Two short tones. */
function play() {
  const context = new AudioContext();
  const gain = context.createGain();
  gain.connect(context.destination);
  for (const [at, frequency] of [
    [0, 660],
    [0.16, 880],
  ]) {
    const tone = context.createOscillator();
    tone.frequency.value = frequency;
    tone.connect(gain);
    tone.start(context.currentTime + at);
    tone.stop(context.currentTime + at + 0.14);
    if (at) tone.onended = () => context.close();
  }
  gain.gain.value = 0.08;
}

function tell(job) {
  const texts = { done: S.run.finished, failed: S.run.failed };
  const { sign } = preferences.value;
  if (!(job.status in texts) || active.value.length) return; // a cancelled one is no news
  if (sign === "sound") play();
  else if (sign === "notification" && globalThis.Notification?.permission === "granted") {
    new Notification(texts[job.status], {
      body: short(job.request.prompt ?? ""),
      icon: job.images[0]?.url,
      tag: "dg2",
    });
  }
}

onEnd.handler = tell;

export function Preferences() {
  const [typed, setTyped] = useState(fileNames.value);
  const [refused, setRefused] = useState(false);
  const wrong = wrongPattern(typed);
  const close = () => {
    dialog.value = null;
  };
  const choose = async (sign) => {
    prefer({ sign });
    setRefused(sign === "notification" && (await globalThis.Notification?.requestPermission()) !== "granted");
    if (sign === "sound") play();
  };
  const write = (text) => {
    setTyped(text);
    if (!wrongPattern(text)) prefer({ names: text.trim() || null });
  };
  return html`
    <${Dialog} label=${S.preferences.title} class="small-dialog" onClose=${close}>
      <div class="dialog-body">
        <header class="dialog-head"><h2>${S.preferences.title}</h2><${IconButton} icon="close" label=${S.help.close} onClick=${close} /></header>
        <div class="field">
          <label for="preferences-sign">${S.preferences.sign}</label>
          <${Choice} id="preferences-sign" value=${preferences.value.sign} choices=${Object.entries(S.preferences.signs)} onChange=${choose} />
          ${refused && html`<p class="error" role="alert">${S.preferences.refused}</p>`}
        </div>
        <div class="field">
          <label for="preferences-names">${S.preferences.names}</label>
          <input type="text" id="preferences-names" maxlength="200" autocomplete="off" value=${typed} placeholder=${options.value.file_names.default}
            aria-invalid=${wrong ? "true" : undefined} aria-describedby=${wrong ? "preferences-wrong" : "preferences-hint"}
            onInput=${(e) => write(e.currentTarget.value)} />
          <p class="hint" id="preferences-hint">${S.preferences.namesHint}</p>
          ${wrong && html`<p class="error" id="preferences-wrong" role="alert">${wrong}</p>`}
        </div>
      </div>
    <//>
  `;
}
