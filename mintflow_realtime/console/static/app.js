// Begins the page: signs in, connects, and shows the panel that the address names.
import { Connection } from "./lib/connection.js";
import { Credentials } from "./lib/credentials.js";
import { html, render, useEffect, useState } from "./lib/html.js";
import { Bar } from "./bar.js";
import { Chat } from "./model/chat.js";
import { LogLines } from "./model/log_lines.js";
import { Runs } from "./model/runs.js";
import { Server } from "./model/server.js";
import { Workspace } from "./model/workspace.js";
import { AiPanel } from "./panels/ai.js";
import { ConnectionsPanel } from "./panels/connections.js";
import { LogsPanel } from "./panels/logs.js";
import { RunPanel } from "./panels/run.js";
import { RunsPanel } from "./panels/runs.js";
import { SignIn } from "./panels/sign_in.js";
import { WhyPanel } from "./panels/why.js";
import { WorkspacesPanel } from "./panels/workspaces.js";

const PANELS = [
  { path: "runs", title: "Runs", needs: "flows:read" },
  { path: "logs", title: "Logs", needs: "logs:read" },
  { path: "workspaces", title: "Workspaces", needs: "workspaces:read" },
  { path: "ai", title: "AI", needs: "ai:use" },
  { path: "connections", title: "Connections", needs: "admin" },
  { path: "why", title: "Why", needs: "admin" },
];

/** Everything that the panels show, made once a sign-in. */
function desk(credentials) {
  const connection = new Connection(credentials);
  const may = (permission) => credentials.may(permission);
  const made = { credentials, connection, server: new Server(credentials) };
  if (may("flows:read")) made.runs = new Runs(connection);
  if (may("logs:read")) made.lines = new LogLines(connection);
  if (may("workspaces:read")) made.workspace = new Workspace(connection);
  if (may("ai:use")) made.chat = new Chat(connection);
  if (made.runs && made.lines) made.lines.follow((records) => made.runs.discover(records));
  // Without a namespace of its own there is still a connection to tell of.
  if (!made.runs && !made.lines && !made.workspace && !made.chat) connection.open("/");
  return made;
}

const route = () => location.hash.slice(2).split("/").map(decode);
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function App() {
  const [shown, show] = useState({ desk: null, error: null, isReady: false });
  const [path, go] = useState(route());
  const signIn = async (credentials, token, tenant) => {
    try {
      await credentials.signIn(token, tenant);
      shown.desk?.connection.close();
      show({ desk: desk(credentials), error: null, isReady: true });
    } catch (error) {
      show({ desk: null, error, isReady: true });
    }
  };
  useEffect(() => {
    const follow = () => go(route());
    addEventListener("hashchange", follow);
    const credentials = new Credentials();
    const ticket = new URLSearchParams(location.hash.slice(1)).get("ticket");
    // It is spent by this; whoever sees the address later has nothing.
    if (ticket) history.replaceState(null, "", `${location.pathname}#/`);
    go(route());
    signIn(credentials, ticket || undefined);
    return () => removeEventListener("hashchange", follow);
  }, []);
  if (!shown.isReady) return html`<main><p class="note">Signing in</p></main>`;
  const made = shown.desk;
  if (!made) return html`<${SignIn} error=${shown.error} onToken=${(token, tenant) => signIn(new Credentials(), token, tenant)} />`;
  const panels = PANELS.filter((panel) => made.credentials.may(panel.needs));
  const wanted = path[0] === "run" ? "runs" : path[0];
  const panel = panels.find((one) => one.path === wanted) || panels[0];
  const signOut = () => {
    // Why one has to sign in again is said there too.
    const { refusal } = made.connection;
    made.connection.close();
    made.credentials.signOut();
    show({ desk: null, error: refusal, isReady: true });
  };
  return html`
    <a class="skip" href="#main" onClick=${toMain}>Skip to the panel</a>
    <${Bar} made=${made} panels=${panels} panel=${panel} onSignOut=${signOut}
      onTenant=${(tenant) => signIn(made.credentials, made.credentials.token, tenant)} />
    <main id="main" tabindex="-1">${panel ? shownPanel(panel.path, path, made) : html`<p class="note">You may see nothing here.</p>`}</main>`;
}

// The address's hash names a panel, so the link can't be followed as it is.
function toMain(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function shownPanel(name, path, made) {
  if (path[0] === "run" && name === "runs" && path[2]) {
    return html`<${RunPanel} key=${path.join("/")} made=${made} flowId=${path[1]} runId=${path[2]} />`;
  }
  const Panel = { runs: RunsPanel, logs: LogsPanel, workspaces: WorkspacesPanel, ai: AiPanel, connections: ConnectionsPanel, why: WhyPanel }[name];
  return html`<${Panel} made=${made} />`;
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
