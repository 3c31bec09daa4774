// Connects once for each case of a JSON list {namespace, auth, query, headers}, and prints what it came to.
// usage: refusals.mjs URL CASES
import { io } from "socket.io-client";

const [url, cases] = process.argv.slice(2);

function outcome({ namespace, auth, query, headers, transports }) {
  return new Promise((done) => {
    const options = { auth, query, extraHeaders: headers, transports: transports ?? ["polling"], forceNew: true };
    const socket = io(url + namespace, options);
    const end = (value) => {
      socket.io.reconnection(false);
      socket.close();
      done(value);
    };
    socket.on("connect", () => end({ connected: true }));
    socket.on("connect_error", (error) =>
      end({ message: error.message, code: error.data?.code, keys: Object.keys(error.data ?? {}), active: socket.active }),
    );
  });
}

console.log(JSON.stringify(await Promise.all(JSON.parse(cases).map(outcome))));
process.exit(0);
