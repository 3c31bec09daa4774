// Clients that ask to recover: they keep `pid` and the last offset as the stock client does, and check the events'
// numbers.

import { Connection } from "./connection.mjs";

const FIRST_DELAY = 1000, LONGEST_DELAY = 5000; // The stock client's, each plus or minus half.

export class Follower {
  constructor(port, place, { reconnects = false, changed = () => {} } = {}) {
    Object.assign(this, { port, place, reconnects, changed });
    Object.assign(this, { numbers: new Set(), lowest: Infinity, highest: -1 });
    Object.assign(this, { repeated: 0, disordered: 0, recovered: 0, joins: 0, failures: 0 });
    Object.assign(this, { heard: 0, silence: 0, attempts: 0, stopped: false });
  }

  async join() {
    const recovery = this.pid === undefined ? {} : { pid: this.pid, offset: this.offset };
    const link = new Connection(this.port, this.place, "/feed", JSON.stringify({ recover: true, ...recovery }));
    this.link = link;
    link.each = (data) => this.take(data);
    link.whenLost = () => { if (this.reconnects && !this.stopped) this.joinLater(); };
    link.expected = true; // To lose it is what is measured.
    try {
      const { pid } = JSON.parse((await link.open()).slice("40/feed,".length));
      this.joins++;
      if (pid !== undefined && pid === this.pid) this.recovered++;
      this.pid = pid;
      this.attempts = 0;
      this.changed(this);
    } catch (error) {
      if (!this.reconnects) throw error;
      this.failures++;
      link.drop();
    }
  }

  joinLater() {
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.attempts++);
    setTimeout(() => { if (!this.stopped) this.join(); }, delay * (0.5 + Math.random()));
  }

  take(data) {
    const args = JSON.parse(data.toString("utf8", data.indexOf("[")));
    if (typeof args.at(-1) === "string") this.offset = args.at(-1);
    if (args[0] !== "event") return;
    const { number } = args[1], now = performance.now();
    if (this.heard) this.silence = Math.max(this.silence, now - this.heard);
    this.heard = now;
    if (this.numbers.has(number)) this.repeated++;
    else if (number < this.highest) this.disordered++;
    this.numbers.add(number);
    this.lowest = Math.min(this.lowest, number);
    this.highest = Math.max(this.highest, number);
    this.changed(this);
  }

  get seen() {
    return this.numbers.size;
  }

  get lost() {
    return this.seen ? this.highest - this.lowest + 1 - this.seen : 0;
  }

  // End the connection as a network does.
  cut() {
    return this.link.drop();
  }

  stop() {
    this.stopped = true;
    return this.link.drop();
  }
}
