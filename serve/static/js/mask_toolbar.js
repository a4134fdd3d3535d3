// The mask editor's tools.
import { useRef } from "preact/hooks";
import { cropOf } from "./crop.js";
import { IconButton } from "./fields.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { add, addFile, brush, redo, tool, TOOLS, undo, undone, view } from "./mask_state.js";
import { change, form } from "./state.js";
import { S } from "./strings.js";
import { ZoomButtons } from "./zoom.js";

export function Toolbar() {
  const file = useRef(null);
  const { mask, mask_feather: feather } = form.value;
  const tools = TOOLS.filter((name) => name !== "frame" || cropOf(form.value));
  return html`
    <div class="toolbar" role="toolbar" aria-label=${S.mask.title}>
      <div class="segmented icons" role="group">
        ${tools.map(
          (name) =>
            html`<button key=${name} type="button" aria-pressed=${tool.value === name} aria-label=${S.mask[name]} title=${S.mask[name]} onClick=${() => {
              tool.value = name;
            }}><${Icon} name=${name} /></button>`,
        )}
      </div>
      <label class="inline">${S.mask.size}
        <input type="range" min="0.01" max="0.6" step="0.01" value=${brush.value} style=${{ "--share": `${(brush.value - 0.01) / 0.0059}%` }}
          onInput=${(e) => {
            brush.value = e.currentTarget.valueAsNumber;
          }} />
        <output>${Math.round(100 * brush.value)}%</output>
      </label>
      <label class="inline">${S.mask.feather}
        <input type="range" min="0" max="64" step="1" value=${feather} style=${{ "--share": `${feather / 0.64}%` }}
          onInput=${(e) => change({ mask_feather: e.currentTarget.valueAsNumber })} />
        <output>${feather}</output>
      </label>
      <span class="tool-group">
        <${IconButton} icon="undo" label=${S.mask.undo} disabled=${!mask.length} onClick=${undo} />
        <${IconButton} icon="redo" label=${S.mask.redo} disabled=${!undone.value.length} onClick=${redo} />
        <${IconButton} icon="invert" label=${S.mask.invert} onClick=${() => add({ op: "invert" })} />
        <${IconButton} icon="image" label=${S.mask.file} onClick=${() => file.current.click()} />
        <${IconButton} icon="trash" label=${S.mask.clear} disabled=${!mask.length} onClick=${() => add({ op: "clear" })} />
        <input ref=${file} class="visually-hidden" id="mask-file" type="file" accept="image/png,image/jpeg,image/webp" tabindex="-1" aria-label=${S.mask.file}
          onChange=${(e) => {
            if (e.currentTarget.files[0]) addFile(e.currentTarget.files[0]);
            e.currentTarget.value = "";
          }} />
      </span>
      <span class="tool-group"><${ZoomButtons} view=${view} /></span>
    </div>
  `;
}
