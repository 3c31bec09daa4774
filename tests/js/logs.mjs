// Clients that read history and follow on, on default transports; prints one JSON line for each.
// usage: logs.mjs URL TOKEN CLIENTS EVENTS
import { io } from "socket.io-client";

const [url, token, clients, events] = process.argv.slice(2);
let left = Number(clients);

for (let i = 0; i < Number(clients); i++) {
  const socket = io(url + "/logs", { auth: { token }, forceNew: true });
  const problems = [];
  let next = null;
  let live = 0;
  let history = 0;
  const take = (message, where) => {
    const number = Number(message);
    if (next !== null && number !== next) problems.push(`${where}: ${number} instead of ${next}`);
    next = number + 1;
  };
  socket.on("connect_error", (error) => problems.push(`connect_error ${error.message}`));
  socket.on("disconnect", (reason) => problems.push(`disconnect ${reason}`));
  socket.on("error", (error) => problems.push(`error ${JSON.stringify(error)}`));
  socket.on("new_log", ({ log }) => {
    if (history === 0) return;
    take(log.message, "live");
    if (++live === Number(events)) {
      console.log(JSON.stringify({ problems, live, history, transport: socket.io.engine.transport.name }));
      socket.off("disconnect");
      socket.close();
      if (--left === 0) process.exit(0);
    }
  });
  socket.on("connect", () => {
    setTimeout(() => {
      socket.emit("subscribe_logs", { flowId: "f1", history: 1000 }, (ack) => {
        if (!ack.ok) problems.push(`ack ${JSON.stringify(ack)}`);
        for (const log of ack.data.logs) take(log.message, "history");
        history = ack.data.logs.length;
      });
    }, 20 * i);
  });
}
setTimeout(() => {
  console.log("timed out");
  process.exit(1);
}, 30000);
