// One stock client: echoes of all kinds and sizes, then a cut of its transport, after which it must come back.
// Usage: node transport.mjs URL TRANSPORTS(by commas)
import { io } from "socket.io-client";

const [url, transports] = process.argv.slice(2);
const socket = io(url, { transports: transports.split(","), reconnectionDelay: 50, reconnectionDelayMax: 100 });
const report = { transports, echoes: [], reason: null, returned: false, errors: [] };
socket.on("connect_error", (error) => report.errors.push(error.message));
const values = ["plain", "grüße 💜\x1e", { deep: [[[{}]]] }, "x".repeat(300_000), Buffer.alloc(100_000, 7), null, 2.5];

await new Promise((resolve) => socket.once("connect", resolve));
for (const value of values) {
  const echo = await socket.timeout(5000).emitWithAck("echo", value);
  const same = Buffer.isBuffer(value) ? value.equals(Buffer.from(echo)) : JSON.stringify(echo) === JSON.stringify(value);
  report.echoes.push(same);
}
const many = await Promise.all(Array.from({ length: 200 }, (_, n) => socket.timeout(5000).emitWithAck("echo", n)));
report.echoes.push(many.every((echo, n) => echo === n));

const cut = new Promise((resolve) => socket.once("disconnect", resolve));
const back = new Promise((resolve) => socket.io.once("reconnect", resolve));
socket.emit("cut");
report.reason = await cut;
await back;
report.returned = (await socket.timeout(5000).emitWithAck("echo", "again")) === "again";
socket.disconnect();
console.log(JSON.stringify(report));
process.exit(0);
