// A WebSocket over HTTP/2 as browsers open it (RFC 8441), without TLS: an extended CONNECT, then the first frame.
// usage: h2_websocket.mjs HOST:PORT; prints the status and what the frame says
import { connect } from "node:http2";

const [where] = process.argv.slice(2);
const session = connect(`http://${where}`);
setTimeout(() => { console.log("nothing within 20 s"); process.exit(1); }, 20_000);
session.on("error", (error) => { console.log(String(error)); process.exit(1); });
session.on("remoteSettings", (settings) => {
  if (!settings.enableConnectProtocol) { console.log("no extended CONNECT"); process.exit(1); }
  const stream = session.request({
    ":method": "CONNECT", ":protocol": "websocket", ":path": "/socket.io/?EIO=4&transport=websocket",
    ":authority": where, ":scheme": "http", origin: `http://${where}`, "sec-websocket-version": "13",
  }, { endStream: false });
  stream.on("response", (headers) => {
    stream.on("data", (frame) => { console.log(headers[":status"], frame.subarray(2).toString()); process.exit(0); });
    stream.on("end", () => { console.log(headers[":status"], "ended"); process.exit(1); });
  });
});
