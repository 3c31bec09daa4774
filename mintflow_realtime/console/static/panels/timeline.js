// When each node of a run ran, how long, and what came of it.
import { html } from "../lib/html.js";
import { at, errorText, lasted, span } from "../lib/text.js";
import { ENDED } from "../model/runs.js";
import { WORDS } from "./runs.js";

const MOST_NODES = 500;

export function Timeline({ run, node, onNode }) {
  const now = run.finishedAt ? Date.parse(run.finishedAt) : Date.now();
  const all = Object.entries(run.nodes).sort(([a, one], [b, other]) =>
    (one.startedAt || "~") < (other.startedAt || "~") ? -1 : (one.startedAt || "~") > (other.startedAt || "~") ? 1 : a < b ? -1 : 1);
  const begin = Math.min(Date.parse(run.startedAt), ...all.map(([, one]) => Date.parse(one.startedAt) || Infinity));
  const whole = Math.max(1, now - begin);
  return html`<div class="timeline scroll" role="region" aria-label="Timeline" tabindex="0">
    <table>
      <thead><tr><th>Node</th><th>Status</th><th>Took</th><th class="axis"><span>0</span><span>${lasted(whole)}</span></th></tr></thead>
      <tbody>${all.slice(0, MOST_NODES).map(([id, one]) => html`<${NodeRow} key=${id} id=${id} one=${one} run=${run}
        now=${now} begin=${begin} whole=${whole} isChosen=${id === node} onNode=${onNode} />`)}</tbody>
    </table>
    ${all.length ? null : html`<p class="note">No node has started.</p>`}
    ${all.length > MOST_NODES ? html`<p class="note">and ${all.length - MOST_NODES} more nodes</p>` : null}
  </div>`;
}

function NodeRow({ id, one, run, now, begin, whole, isChosen, onNode }) {
  // One that has told of no end stays as it was when its run ended.
  const status = one.status === "started" && ENDED.has(run.status) ? "unknown" : one.status;
  const took = one.startedAt ? span(one, now) : 0;
  const left = one.startedAt ? ((Date.parse(one.startedAt) - begin) / whole) * 100 : 0;
  const width = Math.max(0.5, (took / whole) * 100);
  return html`<tr>
    <th scope="row"><button type="button" class="node" aria-pressed=${String(isChosen)} onClick=${() => onNode(id)}>${id}</button></th>
    <td><span class="badge" data-status=${status}>${WORDS[status] || status}${one.attempt > 1 ? ` (${one.attempt})` : ""}</span></td>
    <td class="number">${one.startedAt ? lasted(took) : ""}</td>
    <td class="axis" title=${`${at(one.startedAt)} ${errorText(one.error).slice(0, 500)}`}>
      <span class="span" data-status=${status} style=${{ left: `${Math.min(99.5, left)}%`, width: `${Math.min(100 - left, width)}%` }}></span></td>
  </tr>`;
}
