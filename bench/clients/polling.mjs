// Connecting as the stock client does by default: long-polling first, then the upgrade to WebSocket.

import http from "node:http";
import { Connection, source } from "./connection.mjs";

const SEPARATOR = "\x1e";

export class Upgrading extends Connection {
  async open() {
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
    try {
      const handshake = JSON.parse((await this.request("GET")).slice(1));
      this.sid = handshake.sid;
      const upgraded = this.upgrade();
      const posted = this.request("POST", `40${this.prefix}${this.auth}`);
      await Promise.all([upgraded, this.poll(posted), this.joined]);
    } finally {
      this.agent.destroy();
    }
  }

  // Poll until the server lets go of the last request, with the NOOP that follows the probe. The upgrade waits for
  // both directions of polling to end.
  async poll(posted) {
    for (;;) {
      const packets = (await this.request("GET")).split(SEPARATOR);
      for (const packet of packets) if (packet[0] === "4") this.take(Buffer.from(packet));
      if (packets.some((packet) => packet[0] === "6") || this.probed) break;
    }
    await Promise.all([this.probing, posted]);
    this.socket.send("5");
  }

  upgrade() {
    this.attach(this.sid);
    this.probing = new Promise((resolve, reject) => {
      this.socket.on("open", () => this.socket.send("2probe"));
      this.socket.on("error", reject);
      this.other = (data) => {
        if (data.toString() !== "3probe") return;
        this.probed = true;
        resolve();
      };
    });
    return this.probing;
  }

  request(method, body) {
    const query = `/socket.io/?EIO=4&transport=polling${this.sid ? `&sid=${this.sid}` : ""}`;
    const options = { port: this.port, host: "127.0.0.1", localAddress: source(this.place), agent: this.agent };
    const headers = body === undefined ? {} : { "Content-Type": "text/plain;charset=UTF-8", "Content-Length": body.length };
    return new Promise((resolve, reject) => {
      const request = http.request({ ...options, method, headers, path: query }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part) => { text += part; });
        response.on("error", reject);
        response.on("end", () => {
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`${method}: ${response.statusCode} ${text}`));
        });
      });
      request.on("error", reject);
      request.end(body);
    });
  }
}
