// Subscribes to a run, publishes its events over HTTP, prints what it hears until the run has ended.
// usage: flows.mjs URL TOKEN
import { io } from "socket.io-client";

const [url, token] = process.argv.slice(2);
const say = (line) => console.log(JSON.stringify(line));
const socket = io(url + "/flows", { auth: { token } });
const events = [
  { type: "flow_started", data: { trigger: "cron" } },
  { type: "node_started", nodeId: "n1" },
  { type: "flow_progress", progress: 50 },
  { type: "node_completed", nodeId: "n1" },
  { type: "node_failed", nodeId: "n2", error: "no" },
  { type: "flow_completed" },
];
const heard = [];

socket.on("connect_error", (error) => say({ connect_error: error.message }));
socket.onAny((event, payload) => {
  heard.push({ event, ...payload });
});
socket.on("connect", async () => {
  const subscribed = await socket.emitWithAck("subscribe_flow", { flowId: "f1", runId: "r1" });
  say({ subscribed });
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const path = "/api/v1/flows/f1/runs/r1/events";
  const answer = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(events) });
  say({ status: answer.status });
  while (!heard.some((one) => one.event === "flow_completed")) await new Promise((done) => setTimeout(done, 10));
  await socket.emitWithAck("unsubscribe_flow", { flowId: "f1", runId: "r1" });
  heard.forEach(say);
  process.exit(0);
});
setTimeout(() => process.exit(1), 20000);
