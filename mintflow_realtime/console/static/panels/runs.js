// Runs: a table that goes on by itself.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { useStore, useTicks } from "../lib/store.js";
import { at, count, errorText, lasted, span } from "../lib/text.js";
import { ENDED, keyOf } from "../model/runs.js";

// More rows than anybody reads; drawing them is what a slow machine feels.
const MOST_ROWS = 300;
export const WORDS = { started: "running" };
export const linkOf = (run) => `#/run/${encodeURIComponent(run.flowId)}/${encodeURIComponent(run.runId)}`;

export function RunsPanel({ made }) {
  const runs = useStore(made.runs);
  const [text, setText] = useState("");
  const [flow, setFlow] = useState("");
  const [status, setStatus] = useState("");
  const search = useRef(null);
  const all = [...runs.rows.values()];
  useTicks(1000, all.some((run) => !ENDED.has(run.status)));
  useEffect(() => {
    const focus = (event) => {
      if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
      event.preventDefault();
      search.current.focus();
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);
  const needle = text.toLowerCase();
  const found = all
    .filter((run) => (!flow || run.flowId === flow) && (!status || run.status === status))
    .filter((run) => !needle || `${run.flowId} ${run.runId} ${errorText(run.error)}`.toLowerCase().includes(needle))
    .sort((a, b) => (a.startedAt < b.startedAt ? 1 : a.startedAt > b.startedAt ? -1 : 0));
  const flows = [...new Set(all.map((run) => run.flowId))].sort();
  const states = [...new Set(all.map((run) => run.status))].sort();
  return html`<section class="panel" aria-labelledby="runs-title">
    <div class="tools">
      <h2 id="runs-title">Runs</h2>
      <label>Search<input ref=${search} type="search" placeholder="/" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
      <${Choice} label="Flow" value=${flow} values=${flows} onValue=${setFlow} />
      <${Choice} label="Status" value=${status} values=${states} onValue=${setStatus} />
      <${Look} onLook=${(flowId, runId) => (location.hash = linkOf({ flowId, runId }))} />
      <span class="note">${count(found.length, "run")}${found.length > MOST_ROWS ? `, the last ${MOST_ROWS} shown` : ""}</span>
    </div>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of runs" onKeyDown=${walk}>
      <table class="runs">
        <thead><tr><th>Run</th><th>Flow</th><th>Status</th><th>Progress</th><th>Started</th><th>Duration</th><th>Error</th></tr></thead>
        <tbody>${found.slice(0, MOST_ROWS).map((run) => html`<${Row} key=${keyOf(run.flowId, run.runId)} run=${run} />`)}</tbody>
      </table>
      ${found.length ? null : html`<p class="note">No run is known yet. Those that start from now on are shown by themselves.</p>`}
    </div>
  </section>`;
}

function Row({ run }) {
  const percent = run.status === "completed" ? 100 : Math.round(run.progress || 0);
  const nodes = Object.values(run.nodes || {});
  const error = errorText(run.error) || errorText(nodes.find((node) => node.status === "failed")?.error);
  return html`<tr data-status=${run.status}>
    <th scope="row"><a href=${linkOf(run)}>${run.runId}</a></th>
    <td>${run.flowId}</td>
    <td><span class="badge" data-status=${run.status}>${WORDS[run.status] || run.status}${run.attempt > 1 ? ` (${run.attempt})` : ""}</span></td>
    <td><progress max="100" value=${percent} aria-label=${`Progress of ${run.runId}`}></progress> ${percent} %</td>
    <td>${at(run.startedAt)}</td>
    <td class="number">${lasted(span(run))}</td>
    <td class="cut" title=${error.slice(0, 2000)}>${error.slice(0, 300)}</td>
  </tr>`;
}

/** Up and down go from run to run; Enter follows the link, as everywhere. */
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
  if (!step) return;
  const links = [...event.currentTarget.querySelectorAll("th a")];
  if (!links.length) return;
  event.preventDefault();
  const place = links.indexOf(document.activeElement);
  links[Math.min(links.length - 1, Math.max(0, place + step))].focus();
}

export function Choice({ label, value, values, onValue, all = "all" }) {
  return html`<label>${label}
    <select value=${value} onChange=${(event) => onValue(event.target.value)}>
      <option value="" selected=${!value}>${all}</option>
      ${values.map((one) => html`<option value=${one} selected=${one === value}>${one}</option>`)}
    </select></label>`;
}

function Look({ onLook }) {
  const submit = (event) => {
    event.preventDefault();
    const { flow, run } = event.target.elements;
    onLook(flow.value, run.value);
  };
  return html`<details class="look"><summary>Open a run</summary>
    <form onSubmit=${submit}>
      <label>Its flow<input name="flow" required maxlength="255" /></label>
      <label>Its id<input name="run" required maxlength="255" /></label>
      <button type="submit">Open</button>
    </form></details>`;
}
