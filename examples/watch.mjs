// Watches a tenant's runs and logs live: node examples/watch.mjs [url] [--once]
// The stock client with its default options; --once ends after a run has finished, Ctrl-C at any time.
import { io } from "socket.io-client";

const once = process.argv.includes("--once");
const url = process.argv.slice(2).find((argument) => !argument.startsWith("--")) ?? "http://127.0.0.1:3000";
// A server that wants a token gets the one of the environment; a JWT, or a fresh ticket.
const auth = process.env.TOKEN ? { token: process.env.TOKEN } : {};
const flows = io(`${url}/flows`, { auth });
const logs = io(`${url}/logs`, { auth });

// What we follow: the number (seq) of the last event seen, by "flow/run".
const runs = new Map();

const say = (time, ...words) => console.log(time.slice(11, 23), ...words);

function show(type, event) {
  const run = `${event.flowId}/${event.runId}`;
  runs.set(run, event.seq);
  const [subject, status] = type.split("_");
  const words = {
    flow: [run, status, event.error ?? ""],
    node: ["  ", event.nodeId, status, event.error ?? ""],
  };
  say(event.timestamp, ...(type === "flow_progress" ? ["  ", `${event.progress} %`] : words[subject]).filter(Boolean));
  if (type === "flow_completed" || type === "flow_failed") {
    runs.delete(run);
    if (once) {
      flows.close();
      logs.close();
    }
  }
}

// Steps and progress go to those who follow the run. The answer has what happened since, and live events come after it.
async function follow(run) {
  const [flowId, runId] = run.split("/");
  const answer = await flows.emitWithAck("subscribe_flow", { flowId, runId, since: runs.get(run) });
  if (!answer.ok) return console.error(answer.error.message);
  const { run: state, events } = answer.data;
  if (events) events.forEach((event) => show(event.type, event));
  else if (state) console.log(`${run} is ${state.status} (${state.progress} %): too much happened to tell all`);
}

const followAll = () => [...runs.keys()].forEach(follow);

flows.on("flow_started", (event) => {
  show("flow_started", event);
  follow(`${event.flowId}/${event.runId}`);
});
for (const type of ["flow_completed", "flow_failed", "flow_progress", "node_started", "node_completed", "node_failed"]) {
  flows.on(type, (event) => show(type, event));
}
logs.on("new_log", ({ log }) => say(log.createdAt, "  ", log.nodeId ?? "-", `[${log.logLevel}]`, log.message));

flows.on("connect", () => {
  console.log(`watching ${url}`);
  followAll();
});
flows.on("resync", followAll);
for (const socket of [flows, logs]) {
  socket.on("connect_error", (error) => console.error(`not connected: ${error.message}`));
  socket.on("disconnect", (reason) => reason === "io client disconnect" || console.error(`disconnected: ${reason}`));
}
