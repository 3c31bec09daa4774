// Logs: the tenant's live tail.
import { html, useEffect, useState } from "../lib/html.js";
import { useStore } from "../lib/store.js";
import { count } from "../lib/text.js";
import { LEVELS } from "../model/log_lines.js";
import { LineList } from "./line_list.js";
import { Choice } from "./runs.js";

const EMPTY = { level: "", flow: "", run: "", node: "", text: "" };
// While somebody types, the filter waits for the end of the word.
const TYPING_MS = 150;

export function LogsPanel({ made }) {
  const lines = useStore(made.lines);
  const [filter, setFilter] = useState(EMPTY);
  const [isFollowing, follow] = useState(true);
  const [isRelative, setRelative] = useState(false);
  useEffect(() => {
    const isNone = Object.values(filter).every((value) => !value);
    const timer = setTimeout(() => lines.show(isNone ? null : filter), TYPING_MS);
    return () => clearTimeout(timer);
  }, [filter]);
  const narrow = (name) => (event) => setFilter({ ...filter, [name]: event.target.value });
  const fields = ["flow", "run", "node", "text"].map(
    (name) => html`<label>${name}<input type="search" size="10" value=${filter[name]} onInput=${narrow(name)} /></label>`,
  );
  return html`<section class="panel logs" aria-labelledby="logs-title">
    <div class="tools">
      <h2 id="logs-title">Logs</h2>
      <${Choice} label="level" all="all" value=${filter.level} values=${LEVELS.slice(1)} onValue=${(level) => setFilter({ ...filter, level })} />
      ${fields}
      <button type="button" aria-pressed=${String(!isFollowing)} onClick=${() => follow(!isFollowing)}>Pause</button>
      <button type="button" disabled=${isFollowing} onClick=${() => follow(true)}>Jump to now</button>
      <button type="button" aria-pressed=${String(isRelative)} onClick=${() => setRelative(!isRelative)}>Relative times</button>
      <button type="button" onClick=${() => download(lines)}>Download</button>
      <span class="note">${count(lines.shown.length, "line")}${lines.isLoading ? ", loading older ones" : ""}</span>
    </div>
    <${LineList} lines=${lines} label="Log lines" isFollowing=${isFollowing} onFollowing=${follow} isRelative=${isRelative} />
  </section>`;
}

function download(lines) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines.ndjson(), { type: "application/x-ndjson" }));
  link.download = "logs.ndjson";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
