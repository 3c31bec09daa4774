// What the stock client does with odd values, and with an auth function that fails. Prints one JSON line.
// usage: client_traps.mjs URL values | auth
import { io } from "socket.io-client";

const [url, what] = process.argv.slice(2);
const report = (value) => { console.log(JSON.stringify(value)); process.exit(0); };
setTimeout(() => report("nothing within 20 s"), 20_000);

if (what === "values") {
  const socket = io(url + "/probe", { transports: ["websocket"] });
  const values = {
    noNumbers: [NaN, Infinity], nothing: [undefined, 1], gone: { a: undefined, b: () => 1, c: 2 }, map: new Map([[1, 2]]),
    error: new Error("x"), zero: -0, date: new Date(0), large: 2 ** 53 + 2, surrogate: "a\ud800b",
  };
  const echoes = {};
  for (const [name, value] of Object.entries(values)) echoes[name] = await socket.emitWithAck("echo", value);
  const bytes = await socket.emitWithAck("echo", new Uint16Array([1, 2]));
  echoes.bytes = Buffer.isBuffer(bytes) && [...bytes];
  try { socket.emit("echo", 2n); } catch (error) { echoes.big = error.constructor.name; }
  report(echoes);
}
if (what === "auth") {
  // Never calls back the first time, as one that failed halfway.
  let calls = 0;
  const reasons = [];
  const auth = (callback) => { if (++calls > 1) callback({}); };
  const socket = io(url + "/probe", { auth, reconnectionDelay: 50 });
  socket.io.engine.on("close", (reason) => reasons.push(reason));
  socket.on("connect", () => report({ calls, reasons }));
}
