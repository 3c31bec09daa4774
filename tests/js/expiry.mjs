// Follows /logs with a token that ends soon and comes back with the next one; prints what happened.
// usage: expiry.mjs URL TOKENS (a JSON list: one for each connection)
import { io } from "socket.io-client";

const [url, list] = process.argv.slice(2);
const tokens = JSON.parse(list);
const said = [];
const began = Date.now();
const note = (name, more) => {
  const line = { name, at: (Date.now() - began) / 1000, ...more };
  said.push(line);
  return line;
};
const socket = io(url + "/logs", { auth: (send) => send({ token: tokens.shift() }), reconnectionDelay: 100 });
socket.on("connect", async () => {
  // Noted first: what comes before the answer comes after this.
  const line = note("connect", {});
  line.ok = (await socket.emitWithAck("log_history")).ok;
  if (tokens.length === 0) {
    console.log(JSON.stringify(said));
    process.exit(0);
  }
});
socket.on("auth_expiring", ({ expiresAt }) => note("auth_expiring", { expiresAt }));
socket.on("disconnect", (reason) => note("disconnect", { reason, active: socket.active }));
socket.on("connect_error", (error) => note("connect_error", { message: error.message }));
setTimeout(() => {
  console.log(JSON.stringify(said));
  process.exit(1);
}, 20000);
