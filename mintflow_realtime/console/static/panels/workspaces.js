// Workspaces: one's state as a tree, who is here, and edits that met another's.
import { html, useState } from "../lib/html.js";
import { useStore } from "../lib/store.js";
import { at, count } from "../lib/text.js";
import { Tree } from "./tree.js";

export function WorkspacesPanel({ made }) {
  const workspace = useStore(made.workspace);
  const [id, setId] = useState(workspace.id || "");
  const mayWrite = made.credentials.may("workspaces:write");
  const enter = (event) => {
    event.preventDefault();
    if (id) workspace.join(id);
  };
  // What an edit is based on is what was there when it was begun.
  const edit = (operation, base) => {
    if (operation === "begin") {
      workspace.pointAt(base);
      return { state: workspace.state, version: workspace.version };
    }
    return workspace.write(operation, base || { state: workspace.state, version: workspace.version });
  };
  return html`<section class="panel" aria-labelledby="workspaces-title">
    <div class="tools">
      <h2 id="workspaces-title">Workspaces</h2>
      <form onSubmit=${enter}>
        <label>Workspace<input value=${id} required maxlength="255" onInput=${(event) => setId(event.target.value)} /></label>
        <button type="submit">Open</button>
      </form>
      ${workspace.id ? html`<button type="button" onClick=${() => workspace.leave()}>Leave</button>` : null}
      ${workspace.id
        ? html`<span class="note">version ${workspace.version}${workspace.updatedAt ? `, ${at(workspace.updatedAt)}` : ""}${workspace.updatedBy ? ` by ${workspace.updatedBy}` : ""}</span>`
        : null}
    </div>
    ${workspace.error ? html`<p class="error" role="alert">${workspace.error}</p>` : null}
    ${workspace.clash ? html`<${Clash} workspace=${workspace} />` : null}
    ${workspace.id
      ? html`<div class="halves">
          <div class="scroll" tabindex="0" role="region" aria-label=${`State of ${workspace.id}`}>
            <${Tree} key=${workspace.id} value=${workspace.state} onEdit=${mayWrite ? edit : null} />
          </div>
          <${Users} workspace=${workspace} />
        </div>`
      : html`<p class="note">Name a workspace to see its state and who is in it.</p>`}
  </section>`;
}

function Users({ workspace }) {
  const { users, presences } = workspace;
  return html`<div class="beside">
    <h3>${count(users.length, "client")} here</h3>
    <ul class="users">${users.map((user) => html`<li key=${user.socketId}><b>${user.userName || user.userId}</b> <span class="note">since ${at(user.joinedAt)}</span>
      ${presences.has(user.socketId) ? html`<code>${JSON.stringify(presences.get(user.socketId)).slice(0, 500)}</code>` : null}</li>`)}</ul>
  </div>`;
}

function Clash({ workspace }) {
  const { operation, theirs } = workspace.clash;
  const shown = (value) => (value === undefined ? "(nothing)" : JSON.stringify(value, null, 2));
  return html`<div class="clash" role="alertdialog" aria-labelledby="clash-title">
    <h3 id="clash-title">Somebody else has written ${operation.path || "this"} meanwhile</h3>
    <div class="halves">
      <div><h4>Yours</h4><pre>${operation.op === "remove" ? "(removed)" : shown(operation.value)}</pre>
        <button type="button" onClick=${() => workspace.settle(true)}>Write mine</button></div>
      <div><h4>Theirs</h4><pre>${shown(theirs)}</pre>
        <button type="button" onClick=${() => workspace.settle(false)}>Keep theirs</button></div>
    </div>
  </div>`;
}
