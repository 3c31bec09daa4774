// A browser's page whose app has sessions of its own: it fetches a ticket for each connection, connects to /flows and
// /board, loses its transport, and comes back with the next ticket. Prints what it saw as JSON.
// usage: tickets.mjs URL
import { io } from "socket.io-client";

const url = process.argv[2];
const seen = { tickets: 0, connects: [], errors: [], who: [], reused: null };
let shown = null;
const auth = (give) => {
  const engine = flows.io.engine;
  if (shown?.engine !== engine) {
    shown = { engine, ticket: fetch(url + "/session-ticket", { method: "POST" }).then((answer) => answer.json()) };
    seen.tickets++;
  }
  shown.ticket.then(({ ticket }) => give({ token: ticket }));
};
const flows = io(url + "/flows", { auth });
const board = io(url + "/board", { auth });
for (const socket of [flows, board]) {
  socket.on("connect", () => seen.connects.push(socket.nsp));
  socket.on("connect_error", (error) => seen.errors.push([socket.nsp, error.message, error.data ?? null]));
}
const connected = (times) => new Promise((resolve) => {
  const timer = setInterval(() => {
    if (seen.connects.length + seen.errors.length >= times) { clearInterval(timer); resolve(); }
  }, 10);
});
await connected(2);
seen.who.push(await board.emitWithAck("who"));
const spent = (await shown.ticket).ticket;
flows.io.engine.close();
await connected(4);
seen.who.push(await board.emitWithAck("who"));
// Another connection with a ticket that was spent.
const thief = io(url + "/board", { auth: { token: spent }, forceNew: true });
seen.reused = await new Promise((resolve) => {
  thief.on("connect", () => resolve("connected"));
  thief.on("connect_error", (error) => resolve(error.data?.code ?? error.message));
});
console.log(JSON.stringify(seen));
process.exit(0);
