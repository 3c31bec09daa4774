// Two clients share a workspace: one writes, the other replays the deltas onto the state that it joined with.
// usage: workspaces.mjs URL TOKEN
import { deepStrictEqual } from "node:assert";
import { io } from "socket.io-client";

const [url, token] = process.argv.slice(2);
const say = (line) => console.log(JSON.stringify(line));
const connect = () =>
  new Promise((resolve, reject) => {
    const socket = io(url + "/workspaces", { auth: { token }, forceNew: true });
    socket.once("connect", () => resolve(socket)).once("connect_error", reject);
  });
const seen = (socket, event) => new Promise((resolve) => socket.once(event, resolve));

// Enough of RFC 6902 for what the server makes of merges and replacements, and for what is sent below.
function apply(state, { op, path, value }) {
  if (path === "") return value;
  const keys = path.slice(1).split("/").map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = keys.pop();
  const place = keys.reduce((inner, key) => inner[key], state);
  if (op === "remove") delete place[last];
  else if (Array.isArray(place)) last === "-" ? place.push(value) : place.splice(Number(last), 0, value);
  else place[last] = value;
  return state;
}

const writer = await connect();
const reader = await connect();
const ask = async (socket, command, payload) => socket.emitWithAck(command, { workspaceId: "w1", ...payload });
const joined = (await ask(reader, "join_workspace", { deltas: true })).data.workspace;
say({ joined: { state: joined.state, version: joined.version, users: joined.users.map((user) => user.userId) } });
const deltas = [];
reader.on("workspace_updated", (delta) => deltas.push(delta));
await ask(writer, "join_workspace");
const edits = [
  { state: { shapes: [], "a/b~": { deep: [] } } },
  { patch: [{ op: "add", path: "/shapes/-", value: { x: 1 } }, { op: "add", path: "/shapes/0", value: [] }] },
  { state: { zoom: 2 } },
  { state: { zoom: 3, shapes: [1] }, partial: false },
  { patch: [{ op: "remove", path: "/zoom" }] },
];
for (const edit of edits) {
  const answer = await ask(writer, "update_workspace", edit);
  if (!answer.ok) throw new Error(JSON.stringify(answer));
}
while (deltas.length < edits.length) await new Promise((done) => setTimeout(done, 10));
say({ versions: deltas.map((delta) => delta.version) });
const replayed = deltas.flatMap((delta) => delta.patch).reduce(apply, joined.state);
deepStrictEqual(replayed, (await ask(writer, "join_workspace")).data.workspace.state);
say({ replayed: true });
const { error } = await ask(writer, "update_workspace", { state: {}, baseVersion: 1 });
say({ conflict: { code: error.code, version: error.version } });
const shown = seen(reader, "presence_updated");
writer.emit("update_presence", { workspaceId: "w1", presence: { cursor: [1, 2] } });
const { presence, userId } = await shown;
say({ presence, userId });
const left = seen(reader, "user_left");
writer.close();
say({ left: (await left).user.userId });
reader.close();
setTimeout(() => process.exit(1), 20000).unref();
