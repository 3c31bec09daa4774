// Stock clients with default options that follow one flow, each subscribing again whenever it is connected, and print
// a JSON line for everything that happens: [client, what, value].
// usage: crowd.mjs CLIENTS FLOW AUTH URL...   (clients take the URLs in turn; AUTH is a JSON object)
import { io } from "socket.io-client";

const [clients, flow, auth, ...urls] = process.argv.slice(2);
const say = (...line) => console.log(JSON.stringify(line));
for (let client = 0; client < Number(clients); client++) {
  const socket = io(urls[client % urls.length] + "/flows", { forceNew: true, auth: JSON.parse(auth) });
  socket.io.on("open", () => socket.io.engine.once("upgrade", () => say(client, "upgraded", null)));
  socket.on("connect", () => {
    say(client, "connected", socket.io.engine.id);
    socket.emit("subscribe_flow", { flowId: flow }, (ack) => say(client, "subscribed", ack));
  });
  // `active`: the client tries again by itself.
  socket.on("connect_error", (error) => say(client, socket.active ? "retrying" : "refused", error.message));
  socket.on("disconnect", (reason) => say(client, socket.active ? "lost" : "sent away", reason));
  socket.onAny((event, payload) => say(client, event, payload));
}
