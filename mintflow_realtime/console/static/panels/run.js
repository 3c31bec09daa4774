// One run: when its nodes ran, its log, its errors, and its events as they came.
import { html, useEffect, useState } from "../lib/html.js";
import { useStore, useTicks } from "../lib/store.js";
import { at, errorText, lasted, span } from "../lib/text.js";
import { RunStory } from "../model/run_story.js";
import { ENDED } from "../model/runs.js";
import { LineList } from "./line_list.js";
import { Timeline } from "./timeline.js";
import { WORDS } from "./runs.js";

const TABS = ["log", "errors", "events"];

export function RunPanel({ made, flowId, runId }) {
  const [story] = useState(() => new RunStory(made, flowId, runId));
  const [node, setNode] = useState("");
  const [tab, setTab] = useState("log");
  useStore(made.runs);
  useStore(story);
  useEffect(() => story.begin(), [story]);
  const run = made.runs.get(flowId, runId);
  useTicks(1000, Boolean(run) && !ENDED.has(run.status));
  const choose = (id) => {
    const next = id === node ? "" : id;
    setNode(next);
    story.ofNode(next);
  };
  if (!run) return html`<section class="panel"><h2>${runId}</h2><p class="note">${story.error || "This run is not known here (any more). When it starts, it is shown."}</p></section>`;
  return html`<section class="panel run" aria-labelledby="run-title">
    <div class="tools">
      <h2 id="run-title"><a href="#/runs">Runs</a> / ${runId}</h2>
      <span class="badge" data-status=${run.status}>${WORDS[run.status] || run.status}</span>
      <progress max="100" value=${run.status === "completed" ? 100 : run.progress} aria-label="Progress"></progress>
      <span class="note">${flowId}, attempt ${run.attempt}, since ${at(run.startedAt)}, ${lasted(span(run))}</span>
    </div>
    ${run.error !== undefined ? html`<pre class="error" tabindex="0" aria-label="Error of the run">${errorText(run.error)}</pre>` : null}
    ${run.truncated ? html`<p class="note">${run.truncated.nodes} nodes and ${run.truncated.errors} errors are left out: the run is too large to be shown whole.</p>` : null}
    <div class="halves">
      <${Timeline} run=${run} node=${node} onNode=${choose} />
      <div class="beside">
        <div class="tabs" role="group" aria-label="Beside the timeline">
          ${TABS.map((one) => html`<button type="button" aria-pressed=${String(tab === one)} onClick=${() => setTab(one)}>${one}</button>`)}
          <span class="note">${node ? `of ${node}` : "of the run"}</span>
        </div>
        ${tab === "log" ? html`<${Log} made=${made} story=${story} />` : null}
        ${tab === "errors" ? html`<${Errors} run=${run} node=${node} />` : null}
        ${tab === "events" ? html`<${Events} story=${story} node=${node} />` : null}
      </div>
    </div>
  </section>`;
}

function Log({ made, story }) {
  const [isFollowing, follow] = useState(true);
  if (!made.lines) return html`<p class="note">You may not read logs.</p>`;
  return html`<${LineList} lines=${story.log} label="Log of the run" isFollowing=${isFollowing} onFollowing=${follow} />`;
}

function Errors({ run, node }) {
  const failed = Object.entries(run.nodes).filter(([id, one]) => one.error !== undefined && (!node || id === node));
  if (!failed.length && run.error === undefined) return html`<p class="note">No errors.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Errors">
    ${run.error !== undefined && !node ? html`<h3>The run</h3><pre class="error">${errorText(run.error)}</pre>` : null}
    ${failed.map(([id, one]) => html`<h3>${id}</h3><pre class="error">${errorText(one.error)}</pre>`)}
  </div>`;
}

function Events({ story, node }) {
  const shown = story.events.filter(([, payload]) => !node || payload.nodeId === node).slice(-500);
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Events">
    ${story.eventsGone ? html`<p class="note">The first events of this run are not kept any more.</p>` : null}
    <ol class="events">${shown.map(([name, payload]) => html`<li key=${payload.seq}><b>${name || ""}</b> <code>${JSON.stringify(payload)}</code></li>`)}</ol>
    ${shown.length ? null : html`<p class="note">No events.</p>`}
  </div>`;
}
