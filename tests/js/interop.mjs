// One stock client on the namespaces of tests/integration/apps/conformance.py: echoes of all kinds while it connects
// and upgrades, questions of the server's `call()`, and leaving.
// Usage: node interop.mjs URL OPTIONS(JSON of the client's) [MILLISECONDS to wait for an upgrade]
import { io } from "socket.io-client";

const [url, options, patience] = [process.argv[2], JSON.parse(process.argv[3]), Number(process.argv[4] ?? 0)];
const report = { connected: false, transport: null, upgraded: false, upgradeErrors: 0, wrong: [], errors: [], left: null };
const manager = { reconnectionDelay: 50, reconnectionDelayMax: 100, forceNew: true, ...options };
const socket = io(url, manager);
const timeout = (of) => of.timeout(8000);
const end = () => {
  report.transport = socket.io.engine?.transport?.name ?? null;
  socket.disconnect();
  console.log(JSON.stringify(report));
  process.exit(0);
};
setTimeout(() => (report.errors.push("too slow"), end()), 25_000);

socket.on("connect_error", (error) => {
  report.errors.push(error.message);
  if (!socket.active || options.reconnection === false) end();
});
const engine = socket.io.engine;
engine.on("upgrade", () => (report.upgraded = true));
engine.on("upgradeError", () => report.upgradeErrors++);
const opened = new Promise((resolve) => engine.once("open", resolve));
await new Promise((resolve) => socket.once("connect", resolve));
await opened;
report.connected = true;

const same = (value, echo) =>
  Buffer.isBuffer(value)
    ? Buffer.isBuffer(echo) && value.equals(echo)
    : value !== null && typeof value === "object"
      ? echo !== null && Object.keys(value).every((key) => same(value[key], echo[key]))
      : value === echo;
async function check(name, of, event, value) {
  const echo = await timeout(of).emitWithAck(event, value).catch((error) => error.message);
  if (!same(value, echo)) report.wrong.push(`${name}: ${String(echo).slice(0, 50)}`);
}
const values = {
  text: "grüße 💜\u001e\u0000",
  deep: { a: [1, [2.5, [null, { b: true }]]] },
  bytes: Buffer.from([0, 1, 254, 255]),
  mixed: { a: Buffer.alloc(70_000, 7), b: ["x", Buffer.alloc(0), { c: Buffer.from("c") }] },
  long: "x".repeat(80_000),
  nothing: null,
};
const chat = socket.io.socket("/chat");
socket.on("question", (value, answer) => answer(value));
chat.on("question", (value, answer) => answer(value));

// What is said while the transport changes is what an upgrade could lose.
const streaming = (async () => {
  for (let number = 0; number < 200; number++) await check(`number ${number}`, socket, "echo", number);
})();
for (const [name, value] of Object.entries(values)) {
  await check(name, socket, "echo", value);
  await check(`${name} in /chat`, chat, "echo", value);
  await check(`${name}, asked by the server`, socket, "ask_me", value);
  await check(`${name}, asked by the server in /chat`, chat, "ask_me", value);
}
const back = new Promise((resolve) => socket.once("message-back", (...args) => resolve(args)));
socket.emit("message", "one", Buffer.from("two"), 3);
const args = await back;
if (!(args[0] === "one" && Buffer.from("two").equals(args[1]) && args[2] === 3)) report.wrong.push("message-back");
await streaming;
for (const begun = Date.now(); !report.upgraded && Date.now() - begun < patience; )
  await new Promise((resolve) => setTimeout(resolve, 20));

const left = new Promise((resolve) => chat.once("disconnect", resolve));
chat.emit("kick_me");
report.left = await left;
await check("after leaving /chat", socket, "echo", "still here");
end();
