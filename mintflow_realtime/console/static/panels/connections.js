// Connections: the nodes, and who is connected to them. For the scope admin.
import { html, useEffect, useState } from "../lib/html.js";
import { useStore } from "../lib/store.js";
import { ago, at, bytes, count } from "../lib/text.js";
import { Chart } from "./chart.js";

export function ConnectionsPanel({ made }) {
  const server = useStore(made.server);
  const [asked, ask] = useState(null);
  useEffect(() => {
    server.start();
    return () => server.stop();
  }, [server]);
  const field = (name, label) => server.isNarrowedBy(name)
    ? html`<label>${label}<input type="search" size="12" value=${server.filter[name]} onChange=${(event) => server.narrow({ [name]: event.target.value })} /></label>` : null;
  const Rows = server.view === "users" ? Users : Clients;
  return html`<section class="panel" aria-labelledby="connections-title">
    <div class="tools">
      <h2 id="connections-title">Connections</h2>
      <span class="tabs">${["clients", "users"].map((view) => html`<button type="button" aria-pressed=${String(server.view === view)} onClick=${() => server.narrow({}, view)}>${view === "users" ? "Users" : "Clients"}</button>`)}</span>
      ${field("userId", "User")}${field("tenant", "Tenant")}${field("room", "Room")}
      ${server.rows ? html`<${Pages} server=${server} />` : null}
    </div>
    ${server.error ? html`<p class="note" role="status">${server.error}</p>` : null}
    ${server.done ? html`<p class="note" role="status">${server.done}</p>` : null}
    ${server.unanswered.length ? html`<p class="error" role="alert">Without an answer: ${server.unanswered.join(", ")}</p>` : null}
    ${server.nodes ? html`<${Nodes} nodes=${server.nodes} />
      <${Chart} points=${server.points} label="events a second" />` : null}
    ${server.rows ? html`<${Rows} server=${server} asked=${asked} onAsk=${ask} />` : null}
  </section>`;
}

function Pages({ server }) {
  const shown = count(server.rows.length, server.view === "users" ? "user" : "client");
  const isOnly = server.page === 1 && !server.nextAfter;
  return html`<span class="note">${shown}${isOnly ? "" : ` on page ${server.page}`}</span>
    ${isOnly ? null : html`<button type="button" disabled=${server.page === 1} onClick=${() => server.turn(false)}>Page before</button>
      <button type="button" disabled=${!server.nextAfter} onClick=${() => server.turn(true)}>Next page</button>`}`;
}

function Nodes({ nodes }) {
  return html`<div class="scroll some" tabindex="0" role="region" aria-label="Nodes"><table>
    <thead><tr><th>Node</th><th>Version</th><th>Since</th><th>Connections</th><th>CPU</th><th>Memory</th><th>Events a second</th><th>Redis</th><th>State</th></tr></thead>
    <tbody>${nodes.map((node) => html`<tr key=${node.nodeId}>
      <th scope="row">${node.nodeId} <span class="note">${node.host}, ${node.pid}</span></th>
      <td>${node.version}</td><td>${ago(node.since)}</td><td class="number">${node.connections}</td>
      <td class="number">${number(node.cpuPercent)} %</td><td class="number">${bytes(node.memoryBytes)}</td>
      <td class="number">${number(node.eventsPerSecond)}</td><td class="number">${number(node.redisLatencyMs)} ms</td>
      <td>${node.draining ? "draining" : "serving"}</td></tr>`)}</tbody>
  </table></div>`;
}

function Clients({ server, asked, onAsk }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Clients"><table>
    <thead><tr><th>User</th><th>Tenant</th><th>Namespaces and rooms</th><th>Transport</th><th>Address</th><th>Since</th><th>Outbox</th><th>Behind</th><th>Close</th></tr></thead>
    <tbody>${server.rows.map((one) => html`<tr key=${one.sid}>
      <th scope="row">${one.userId} <span class="note">${one.sid}, ${one.nodeId}</span></th>
      <td>${one.tenant}</td>
      <td>${Object.entries(one.namespaces || {}).map(([name, rooms]) => html`<div><b>${name}</b> <span class="note">${rooms.slice(0, 20).join(", ")}${rooms.length > 20 ? ` and ${rooms.length - 20} more` : ""}</span></div>`)}</td>
      <td>${one.transport}</td><td>${one.address}</td><td title=${at(one.since)}>${ago(one.since)}</td>
      <td class="number">${bytes(one.outboxBytes)}</td><td class="number">${one.behind}</td>
      <td><${Close} one=${one} server=${server} isAsked=${asked === one.sid} onAsk=${onAsk} /></td></tr>`)}</tbody>
  </table></div>`;
}

function Users({ server }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Users"><table>
    <thead><tr><th>User</th><th>Tenant</th><th>Connections</th><th>Since</th><th>Clients</th></tr></thead>
    <tbody>${server.rows.map((one) => html`<tr key=${`${one.tenant} ${one.userId}`}>
      <th scope="row">${one.userId}</th><td>${one.tenant}</td><td class="number">${one.connections}</td><td title=${at(one.since)}>${ago(one.since)}</td>
      <td><button type="button" class="quiet" aria-label=${`Show the clients of ${one.userId}`} onClick=${() => server.narrow({ userId: one.userId, tenant: one.tenant, room: "" }, "clients")}>Show</button></td></tr>`)}</tbody>
  </table></div>`;
}

// Closing is asked for twice: a slip of the hand costs somebody else the connection.
function Close({ one, server, isAsked, onAsk }) {
  if (!isAsked) return html`<button type="button" class="quiet" aria-label=${`Close a connection of ${one.userId}`} onClick=${() => onAsk(one.sid)}>Close</button>`;
  const act = (closing) => {
    onAsk(null);
    closing();
  };
  return html`<span class="asked">
    <button type="button" onClick=${() => act(() => server.close(one.sid))}>This one</button>
    <button type="button" onClick=${() => act(() => server.closeUser(one.userId, one.tenant))}>All of ${one.userId}</button>
    <button type="button" class="quiet" onClick=${() => onAsk(null)}>Leave</button></span>`;
}

const number = (value) => (typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 1 }) : "");
