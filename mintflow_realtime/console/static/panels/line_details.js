// One log record in full: its message, and its metadata unfolded.
import { html } from "../lib/html.js";
import { at } from "../lib/text.js";
import { linkOf } from "./runs.js";
import { Tree } from "./tree.js";

export function Details({ line, onClose }) {
  if (line.marker) return null;
  const told = [["flow", line.flowId], ["run", line.runId], ["node", line.nodeId], ["trace", line.traceId], ["id", line.logId]].filter(([, value]) => value);
  return html`<aside class="details" aria-label="The chosen line">
    <p><time>${at(line.createdAt)}</time> <span class="level" data-level=${line.logLevel}>${line.logLevel}</span>
      ${told.map(([name, value]) => html` <span class="note">${name}</span> ${value}`)}
      ${line.flowId && line.runId ? html` <a href=${linkOf(line)}>open the run</a>` : null}
      <button type="button" class="quiet" onClick=${onClose}>Close</button></p>
    <pre tabindex="0" aria-label="Message">${line.message}</pre>
    ${Object.keys(line.metadata || {}).length ? html`<h3>Metadata</h3><${Tree} value=${line.metadata} />` : null}
  </aside>`;
}
