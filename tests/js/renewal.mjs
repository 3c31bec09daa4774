// Connects to /logs and /flows on one connection with a new ticket or token for each connection, is cut off, returns.
// usage: renewal.mjs URL TOKEN
import { io } from "socket.io-client";

const [url, token] = process.argv.slice(2);
const until = async (condition) => {
  while (!condition()) await new Promise((done) => setTimeout(done, 10));
};
const tickets = [];
let fetching = null;
const auth = (send) => {
  // Both namespaces of a connection show the same ticket.
  fetching ??= fetch(url + "/api/v1/tickets", { method: "POST", headers: { Authorization: `Bearer ${token}` } })
    .then((answer) => answer.json())
    .then((body) => (tickets.push(body.ticket), body.ticket));
  fetching.then((ticket) => send({ token: ticket }));
};
const errors = [];
const sockets = ["/logs", "/flows"].map((name) => {
  const socket = io(url + name, { auth, reconnectionDelay: 50, reconnectionDelayMax: 50 });
  socket.on("connect_error", (error) => errors.push(error.message));
  return socket;
});
const manager = sockets[0].io;
manager.on("close", () => (fetching = null));
const rounds = [];
for (let round = 0; round < 3; round++) {
  await until(() => sockets.every((socket) => socket.connected));
  const answers = [
    await sockets[0].emitWithAck("log_history"),
    await sockets[1].emitWithAck("unsubscribe_flow", { flowId: "f1" }),
  ];
  rounds.push(answers.map((answer) => answer.ok));
  if (round < 2) {
    manager.engine.close();
    await until(() => sockets.every((socket) => !socket.connected));
  }
}
console.log(JSON.stringify({ rounds, errors, tickets: new Set(tickets).size }));
process.exit(0);
